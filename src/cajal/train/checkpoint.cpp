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

Standing load_checkpoint(const std::filesystem::path& path, FlatParameters& parameters,
                         Optimizer& optimizer, const NamedBuffers& buffers) {
  const torch::NoGradGuard no_gradient;
  const auto file = TensorFile::open(path);
  const auto text = [&](const char* key) {
    return file.metadata().contains(key) ? file.metadata().at(key).get<std::string>() : "";
  };
  require(text("format") == "cajal-training", "{}: not a training checkpoint", path.string());
  const auto restore = [&](const std::string& name, torch::Tensor to) {
    const auto from = to_torch(file.at(name));
    require(from.sizes() == to.sizes() && from.scalar_type() == to.scalar_type(),
            "{}: tensor '{}' is {}, expected {} as in the model", path.string(), name,
            shape_text(from.sizes()), shape_text(to.sizes()));
    to.copy_(from);
  };
  size_t expected = 0;
  for (const auto& [name, flat] : vectors(parameters, optimizer))
    for (const auto& slot : parameters.slots()) {
      restore(name + "." + slot.parameter.name, FlatParameters::part(flat, slot));
      ++expected;
    }
  for (const auto& [name, buffer] : buffers) restore("buffer." + name, buffer), ++expected;
  for (auto& [name, generator] : generators(parameters.values.device()))
    generator.set_state(to_torch(file.at(name))), ++expected;
  require(file.tensors().size() == expected,
          "{}: {} tensors, expected {}: it belongs to another model or optimiser", path.string(),
          file.tensors().size(), expected);
  parameters.show(parameters.values);
  Standing standing;
  try {
    standing.step = std::stoll(text("step"));
    if (!text("best").empty()) standing.best = std::stod(text("best"));
  } catch (const std::exception&) {
    fail("{}: damaged: step '{}', best '{}'", path.string(), text("step"), text("best"));
  }
  return standing;
}

}  // namespace cajal::train
