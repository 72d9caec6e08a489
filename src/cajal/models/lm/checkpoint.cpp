#include "cajal/models/lm/checkpoint.h"

#include <ATen/CPUGeneratorImpl.h>

#include <cmath>

#include "cajal/core/error.h"
#include "cajal/core/torch_tensors.h"
#include "cajal/models/lm/weights.h"

namespace cajal::lm {
namespace {

namespace fs = std::filesystem;

// The slots of a plain model in its family's own names.
std::vector<WeightSlot> own_slots(TransformerImpl& m) {
  const auto& map = name_maps(m.config.family)[0];
  auto slots = weight_slots(m, map, written_prefix(map, m.config));
  if (m.config.tied) std::erase_if(slots, [](const WeightSlot& slot) { return slot.optional; });
  return slots;
}

void tie(TransformerImpl& m) {
  if (m.config.tied && m.config.vocabulary > 0) m.output.vocabulary.weight = m.embedding.tokens;
}

// The module's registered tensors, all of which hang below these children, are made anew.
void forget_registered(TransformerImpl& m) {
  for (const auto& child : m.named_children()) m.unregister_module(child.key());
}

// The parts of a slot one behind the other, dense fp32.
torch::Tensor stacked(const WeightSlot& slot, const std::string& where) {
  std::vector<torch::Tensor> parts;
  const auto add = [&](const std::string& name, bool defined, const auto& value) {
    require(defined, "{}: the model has no '{}' to write", where, name);
    parts.push_back(value());
  };
  for (const auto& [name, vector] : slot.vectors)
    add(name, vector->defined(), [v = vector] { return *v; });
  for (const auto& [name, matrix] : slot.matrices)
    add(name, matrix->defined(), [&slot, m = matrix] {
      return m->major() == slot.major ? m->decoded() : m->decoded().t().contiguous();
    });
  return parts.size() == 1 ? parts[0] : torch::cat(parts, 0);
}

// One group that computes what all groups of a split layer do, its rows in the family's layout.
NeuronGroup merged(const FeedForward& ffn, Major major, bool gated) {
  std::vector<torch::Tensor> keys, gates, values, key_biases, gate_biases;
  for (const auto& group : ffn.groups) {
    const auto by_neuron = [](const Matrix& matrix, Major wanted) {
      return matrix.major() == wanted ? matrix.decoded() : matrix.decoded().t();
    };
    keys.push_back(by_neuron(group.key, Major::output));
    values.push_back(by_neuron(group.value, Major::input));
    if (gated) gates.push_back(by_neuron(group.gate, Major::output));
    if (group.key_bias.defined()) key_biases.push_back(group.key_bias);
    if (group.gate_bias.defined()) gate_biases.push_back(group.gate_bias);
  }
  const auto matrix = [&](const std::vector<torch::Tensor>& rows, bool turn) {
    if (rows.empty()) return Matrix();
    const auto whole = torch::cat(rows, 0);
    return Matrix::dense((turn ? whole.t() : whole).contiguous(), major);
  };
  const auto vector = [](const std::vector<torch::Tensor>& parts) {
    return parts.empty() ? torch::Tensor() : torch::cat(parts);
  };
  NeuronGroup one;
  one.key = matrix(keys, major == Major::input);
  one.gate = matrix(gates, major == Major::input);
  one.value = matrix(values, major == Major::output);
  one.key_bias = vector(key_biases);
  one.gate_bias = vector(gate_biases);
  return one;
}

torch::Dtype float_type(Dtype dtype) {
  require(dtype == Dtype::f32 || dtype == Dtype::f16 || dtype == Dtype::bf16,
          "checkpoints are written in F32, F16 or BF16, not {}", dtype_name(dtype));
  return to_torch(dtype);
}

// A model of plain groups with the same weights, where this one is split; else itself.
Transformer unsplit(Transformer& model) {
  if (model->layout.split.empty()) return model;
  Transformer plain(model->config);
  plain->embedding = model->embedding;
  plain->blocks = model->blocks;
  plain->output = model->output;
  plain->file = model->file;
  const bool conv1d = name_maps(model->config.family)[0].conv1d;
  for (auto& block : plain->blocks)
    block.ffn.groups = {
        merged(block.ffn, conv1d ? Major::input : Major::output, model->config.gated)};
  return plain;
}

const char* dtype_word(Dtype dtype) {
  return dtype == Dtype::f32 ? "float32" : dtype == Dtype::f16 ? "float16" : "bfloat16";
}

// What of a layout outlives the widening of every matrix.
PackedLayout kept_layout(const PackedLayout& layout) {
  PackedLayout kept;
  kept.shared_ffn = layout.shared_ffn, kept.experts = layout.experts;
  return kept;
}

}  // namespace

Transformer initialise(const Config& config, uint64_t seed, double deviation) {
  Transformer model(config);
  auto& m = *model;
  auto generator = at::detail::createCPUGenerator(seed);
  const double residual = deviation / std::sqrt(2.0 * static_cast<double>(config.layers));
  auto slots = own_slots(m);
  for (auto& slot : slots) {
    std::vector<int64_t> sizes;
    for (const auto& axis : slot.axes) sizes.push_back(axis.size);
    const std::string_view name = slot.name;
    if (!slot.vectors.empty()) {
      const bool token = name.ends_with("_token");
      const bool norm = name.find("norm") != std::string_view::npos && name.ends_with(".weight");
      *slot.vectors[0].second = token ? torch::randn({sizes.back()}, generator) * deviation
                                : norm && config.norm != NormKind::rms_one_plus
                                    ? torch::ones(sizes)
                                    : torch::zeros(sizes);
      continue;
    }
    const bool writes =
        name.ends_with("attention.output.weight") || name.ends_with("ffn.value.weight");
    const int64_t parts = static_cast<int64_t>(slot.matrices.size());
    if (sizes.size() > 2)
      sizes = sizes[0] == 1 ? std::vector{sizes[1], sizes[2]}
                            : std::vector{sizes[0], sizes[1] * sizes[2] * sizes[3]};
    sizes[0] /= parts;
    for (auto& [part, matrix] : slot.matrices)
      *matrix = Matrix::dense(torch::randn(sizes, generator) * (writes ? residual : deviation),
                              slot.major);
  }
  register_weights(m, slots, /*trainable=*/true);
  tie(m);
  return model;
}

void make_trainable(Transformer& model) {
  const torch::NoGradGuard no_grad;
  auto& m = *model;
  model->blocks = unsplit(model)->blocks;
  model->layout = kept_layout(model->layout);
  auto slots = own_slots(m);
  forget_registered(m);
  for (auto& slot : slots) {
    for (auto& [name, vector] : slot.vectors) *vector = vector->detach().to(torch::kFloat).clone();
    for (auto& [name, matrix] : slot.matrices)
      *matrix = Matrix::dense(matrix->decoded().detach().clone().contiguous(), matrix->major());
  }
  register_weights(m, slots, /*trainable=*/true);
  tie_ffns(m);
  tie(m);
  m.file.reset();
  m.mapped.clear();
  m.train();
}

void save(Transformer& model, const fs::path& folder, Dtype dtype) {
  const torch::NoGradGuard no_grad;
  const auto type = float_type(dtype);
  auto plain = unsplit(model);
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  for (const auto& slot : own_slots(*plain)) {
    std::vector<int64_t> sizes;
    for (const auto& axis : slot.axes) sizes.push_back(axis.size);
    const auto value = stacked(slot, folder.string());
    tensors.emplace_back(slot.theirs, value.detach().cpu().to(type).reshape(sizes).contiguous());
  }
  auto json = config_to_json(model->config);
  for (const char* key : {"dtype", "torch_dtype"})
    if (key == std::string("torch_dtype") || json.contains(key)) json[key] = dtype_word(dtype);
  json.erase("cajal");
  if (const auto layout = kept_layout(model->layout); !layout.empty())
    json["cajal"] = packed_layout_to_json(layout);
  fs::create_directories(folder);
  save_tensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
  save_routers(model, folder);
  write_json(folder / "config.json", json);
}

void save_routers(const Transformer& model, const fs::path& folder) {
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  for (size_t layer = 0; layer < model->blocks.size(); ++layer) {
    const auto& experts = model->blocks[layer].ffn.experts;
    if (!experts) continue;
    for (const auto& [name, part] :
         {std::pair("first", experts->first), {"second", experts->second}})
      if (part.defined())
        tensors.emplace_back(fmt::format("layers.{}.{}", layer, name),
                             part.detach().cpu().contiguous());
  }
  if (!tensors.empty()) save_tensors(folder / "routers.safetensors", tensors, {{"format", "pt"}});
}

}  // namespace cajal::lm
