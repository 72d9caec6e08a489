#include "cajal/train/checkpoint.h"

#include <ATen/Context.h>

#include "cajal/core/error.h"
#include "cajal/core/torch_tensors.h"
#include "cajal/train/graph.h"

namespace cajal::train {
namespace {

// The generators whose state is part of a run, by the name it is stored under.
std::vector<std::pair<std::string, at::Generator>> generators(torch::Device device) {
  std::vector<std::pair<std::string, at::Generator>> out{
      {"random.cpu", at::globalContext().defaultGenerator(torch::kCPU)}};
  if (device.is_cuda())
    out.emplace_back("random.cuda", at::globalContext().defaultGenerator(device));
  return out;
}

// The flat vectors of a run, by the name that their parts are stored under.
std::vector<std::pair<std::string, torch::Tensor>> vectors(const FlatParameters& parameters,
                                                           const Optimizer& optimizer) {
  std::vector<std::pair<std::string, torch::Tensor>> out{
      {"value", parameters.values}, {"first", optimizer.first}, {"second", optimizer.second}};
  if (optimizer.average.defined()) out.emplace_back("average", optimizer.average);
  return out;
}

}  // namespace

void save_checkpoint(const std::filesystem::path& path, const FlatParameters& parameters,
                     const Optimizer& optimizer, const NamedBuffers& buffers,
                     const Standing& standing) {
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  for (const auto& [name, flat] : vectors(parameters, optimizer)) {
    const auto here = flat.cpu();
    for (const auto& slot : parameters.slots())
      tensors.emplace_back(name + "." + slot.parameter.name, FlatParameters::part(here, slot));
  }
  for (const auto& [name, buffer] : buffers)
    tensors.emplace_back("buffer." + name, buffer.detach().cpu().contiguous());
  for (auto& [name, generator] : generators(parameters.values.device()))
    tensors.emplace_back(name, generator.get_state());
  Json metadata = {{"format", "cajal-training"}, {"step", std::to_string(standing.step)}};
  if (standing.best) metadata["best"] = fmt::format("{}", *standing.best);
  save_tensors(path, tensors, metadata);
}

namespace {

class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : file_(TensorFile::open(path)) {
    require(text("format") == "cajal-training", "{}: not a training checkpoint", path.string());
  }

  size_t tensors() const { return file_.tensors().size(); }

  void restore(const std::string& name, torch::Tensor to) const {
    const auto from = to_torch(file_.at(name));
    require(from.sizes() == to.sizes() && from.scalar_type() == to.scalar_type(),
            "{}: tensor '{}' is {}, expected {} as in the model", file_.path().string(), name,
            shape_text(from.sizes()), shape_text(to.sizes()));
    to.copy_(from);
  }

  void restore(at::Generator& generator, const std::string& name) const {
    generator.set_state(to_torch(file_.at(name)));
  }

  Standing standing() const {
    Standing out;
    try {
      out.step = std::stoll(text("step"));
      if (!text("best").empty()) out.best = std::stod(text("best"));
    } catch (const std::exception&) {
      fail("{}: damaged: step '{}', best '{}'", file_.path().string(), text("step"), text("best"));
    }
    return out;
  }

 private:
  std::string text(const char* key) const {
    return file_.metadata().contains(key) ? file_.metadata().at(key).get<std::string>() : "";
  }

  TensorFile file_;
};

}  // namespace

Standing load_checkpoint(const std::filesystem::path& path, FlatParameters& parameters,
                         Optimizer& optimizer, const NamedBuffers& buffers) {
  const torch::NoGradGuard no_gradient;
  const Reader reader(path);
  size_t expected = 0;
  for (const auto& [name, flat] : vectors(parameters, optimizer))
    for (const auto& slot : parameters.slots()) {
      reader.restore(name + "." + slot.parameter.name, FlatParameters::part(flat, slot));
      ++expected;
    }
  for (const auto& [name, buffer] : buffers) reader.restore("buffer." + name, buffer), ++expected;
  for (auto& [name, generator] : generators(parameters.values.device()))
    reader.restore(generator, name), ++expected;
  require(reader.tensors() == expected,
          "{}: {} tensors, expected {}: it belongs to another model or optimiser", path.string(),
          reader.tensors(), expected);
  parameters.show(parameters.values);
  return reader.standing();
}

KeptWeights load_weights(const std::filesystem::path& path, const FlatParameters& parameters,
                         const std::string& which, const NamedBuffers& buffers) {
  const torch::NoGradGuard no_gradient;
  const Reader reader(path);
  KeptWeights out{torch::zeros_like(parameters.values), {}, reader.standing().step};
  for (const auto& slot : parameters.slots())
    reader.restore(which + "." + slot.parameter.name, FlatParameters::part(out.flat, slot));
  for (const auto& [name, buffer] : buffers)
    reader.restore("buffer." + name, out.buffers.emplace_back(torch::empty_like(buffer)));
  return out;
}

}  // namespace cajal::train
