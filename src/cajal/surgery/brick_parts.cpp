#include "cajal/surgery/brick_parts.h"

#include <algorithm>

#include "cajal/core/error.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/models/lm/weights.h"
#include "cajal/surgery/bricks.h"
#include "cajal/surgery/split.h"
#include "cajal/train/tokens.h"

namespace cajal::surgery {
namespace {

std::vector<lm::WeightSlot> slots_of(lm::TransformerImpl& model) {
  const auto& map = lm::name_maps(model.config.family)[0];
  auto slots = lm::weight_slots(model, map, lm::written_prefix(map, model.config));
  if (model.config.tied)
    std::erase_if(slots, [](const lm::WeightSlot& slot) { return slot.optional; });
  return slots;
}

}  // namespace

Matrix& matrix_at(lm::Transformer& model, int64_t layer, const std::string& module) {
  require(layer >= 0 && layer < std::ssize(model->blocks), "layer {}, expected 0 to {}", layer,
          std::ssize(model->blocks) - 1);
  auto& block = model->blocks[static_cast<size_t>(layer)];
  auto& a = block.attention;
  auto& group = block.ffn.groups.at(0);
  const std::pair<const char*, Matrix*> known[] = {{"attention.query", &a.query.weight},
                                                   {"attention.key", &a.key.weight},
                                                   {"attention.value", &a.value.weight},
                                                   {"attention.fused", &a.fused.weight},
                                                   {"attention.output", &a.output.weight},
                                                   {"ffn.key", &group.key},
                                                   {"ffn.gate", &group.gate},
                                                   {"ffn.value", &group.value}};
  std::string names;
  for (const auto& [name, matrix] : known) {
    if (module == name && matrix->defined()) return *matrix;
    if (matrix->defined()) names += (names.empty() ? "" : ", ") + std::string(name);
  }
  fail("module '{}': this model has {}", module, names);
}

std::map<std::string, torch::Tensor> float_parts(lm::Transformer& model) {
  std::map<std::string, torch::Tensor> out;
  for (const auto& slot : slots_of(*model)) {
    for (const auto& [name, vector] : slot.vectors)
      if (vector->defined()) out[name] = *vector;
    for (const auto& [name, matrix] : slot.matrices) {
      if (!matrix->defined()) continue;
      require(!is_quantised(matrix->format()), "'{}' is stored in {}, which cannot be changed",
              name, to_name(matrix->format()));
      out[name] = matrix->stored();
    }
  }
  return out;
}

void set_parts(lm::Transformer& model, const std::map<std::string, torch::Tensor>& values) {
  for (const auto& slot : slots_of(*model)) {
    for (const auto& [name, vector] : slot.vectors)
      if (const auto found = values.find(name); found != values.end()) *vector = found->second;
    for (const auto& [name, matrix] : slot.matrices)
      if (const auto found = values.find(name); found != values.end())
        *matrix = Matrix::dense(found->second, matrix->major());
  }
  if (model->config.tied && model->config.vocabulary > 0)
    model->output.vocabulary.weight = model->embedding.tokens;
}

lm::Transformer own_copy(const lm::Transformer& model) {
  lm::Transformer out(model->config);
  out->embedding = model->embedding, out->blocks = model->blocks, out->output = model->output;
  out->layout = model->layout;
  const torch::NoGradGuard no_grad;
  lm::make_trainable(out);
  for (auto& parameter : out->parameters()) parameter.set_requires_grad(false);
  out->eval();
  return out;
}

lm::Transformer trainable_copy(const lm::Transformer& model) {
  auto out = own_copy(model);
  lm::make_trainable(out);
  return out;
}

lm::Transformer plain(const lm::Transformer& model) {
  const torch::NoGradGuard no_grad;
  lm::Transformer out(model->config);
  out->embedding = model->embedding, out->blocks = model->blocks, out->output = model->output;
  int64_t most = 0;
  for (const auto& block : model->blocks) {
    require(!block.ffn.instead, "a layer's FFN is a function and no plain weights");
    int64_t neurons = 0;
    for (const auto& group : block.ffn.groups) neurons += group.neurons();
    most = std::max(most, neurons);
  }
  const bool turned = lm::name_maps(model->config.family)[0].conv1d;
  const auto padded = [&](const torch::Tensor& t) {
    if (!t.defined()) return t;
    auto shape = t.sizes().vec();
    shape[0] = most - t.size(0);
    return torch::cat({t.to(torch::kFloat), torch::zeros(shape)}).contiguous();
  };
  for (auto& block : out->blocks) {
    const auto rows = neuron_rows(block.ffn);
    const auto matrix = [&](const torch::Tensor& t, bool as_value) {
      if (!t.defined()) return Matrix();
      const auto all = padded(t);
      return turned != as_value
                 ? Matrix::dense(all.t().contiguous(), turned ? Major::input : Major::output)
                 : Matrix::dense(all, turned ? Major::input : Major::output);
    };
    lm::NeuronGroup one;
    one.key = matrix(rows.key, false), one.gate = matrix(rows.gate, false);
    one.value = matrix(rows.value, true);
    one.key_bias = padded(rows.key_bias), one.gate_bias = padded(rows.gate_bias);
    block.ffn.groups = {one};
    block.ffn.order = torch::Tensor();
  }
  out->config.neurons = most;
  return out;
}

std::string content_hash(const lm::Transformer& model) {
  const torch::NoGradGuard no_grad;
  auto handle = model;
  uint64_t hash = train::content_key(lm::config_to_json(model->config).dump());
  for (const auto& slot : slots_of(*handle)) {
    const auto add = [&](const std::string& name, const torch::Tensor& t) {
      const auto whole = t.detach().cpu().contiguous();
      const std::string_view bytes(static_cast<const char*>(whole.data_ptr()),
                                   static_cast<size_t>(whole.nbytes()));
      hash = hash * 1099511628211ULL + train::content_key(name) + 31 * train::content_key(bytes);
    };
    for (const auto& [name, vector] : slot.vectors)
      if (vector->defined()) add(name, *vector);
    for (const auto& [name, matrix] : slot.matrices)
      if (matrix->defined()) add(name, matrix->stored());
  }
  return fmt::format("{:016x}", hash);
}

}  // namespace cajal::surgery
