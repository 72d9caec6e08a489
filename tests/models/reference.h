#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

#include "cajal/core/torch_tensors.h"
#include "cajal/models/lm/checkpoint.h"

namespace cajal::lm::testing {

inline double largest_difference(const torch::Tensor& a, const torch::Tensor& b) {
  if (a.sizes() != b.sizes()) return INFINITY;
  const double d = (a - b).abs().max().item<double>();
  return std::isnan(d) ? INFINITY : d;
}

/// Everything a reference.safetensors can hold, computed by the model: logits or last hidden state,
/// hidden states, pooled output. Returns the largest difference of all, and names the worst.
struct Comparison {
  double worst = 0;
  std::string where = "nothing";
  int compared = 0;
};

inline Comparison compare(Transformer& model, const NamedTensors& reference) {
  const torch::NoGradGuard no_grad;
  NamedTensors ours;
  Hooks hooks;
  const int64_t layers = model->config.layers;
  for (int64_t layer = 0; layer < layers; ++layer)
    hooks.add(fmt::format("blocks.{}.hook_resid_pre", layer), [&, layer](auto, const auto& value) {
      ours[fmt::format("hidden_states.{}", layer)] = value.clone();
      return torch::Tensor();
    });
  const auto last = fmt::format("hidden_states.{}", layers);
  hooks.add("ln_final.hook_out", [&](auto, const auto& value) {
    ours["last_hidden_state"] = value.clone();
    if (!model->config.vision()) ours[last] = ours["last_hidden_state"];
    return torch::Tensor();
  });
  if (model->config.vision())  // there transformers leaves out the final norm
    hooks.add(fmt::format("blocks.{}.hook_resid_post", layers - 1), [&](auto, const auto& value) {
      ours[last] = value.clone();
      return torch::Tensor();
    });
  hooks.add("pooler.hook_pooler_out", [&](auto, const auto& value) {
    ours["pooler_output"] = value.clone();
    return torch::Tensor();
  });
  Pass pass{.hooks = &hooks};
  const auto& input = reference.at(model->config.vision() ? "pixel_values" : "input_ids");
  const auto answer = model->forward(input, pass);
  ours["logits"] = ours["prediction_logits"] = answer;
  hooks.clear();
  Comparison result;
  for (const auto& [name, expected] : reference) {
    if (!ours.count(name)) continue;
    ++result.compared;
    const double difference = largest_difference(ours[name], expected);
    if (difference > result.worst) result.worst = difference, result.where = name;
  }
  return result;
}

inline std::optional<std::filesystem::path> golden_checkpoints() {
  const char* root = std::getenv("CAJAL_GOLDEN");
  if (!root) return {};
  const auto folder = std::filesystem::path(root) / "checkpoints";
  if (!std::filesystem::exists(folder)) return {};
  return folder;
}

}  // namespace cajal::lm::testing
