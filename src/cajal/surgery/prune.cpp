#include "cajal/surgery/prune.h"

#include <algorithm>
#include <numeric>

#include "cajal/core/error.h"

namespace cajal::surgery {

KeptNeurons alive_neurons(const atlas::Census& census) {
  KeptNeurons out;
  for (const auto& layer : census.layers) {
    auto& kept = out.emplace_back();
    for (int64_t i = 0; i < layer.neurons; ++i)
      if (!layer.dead(i)) kept.push_back(i);
  }
  return out;
}

KeptNeurons longest_neurons(const atlas::Census& census, const KeptNeurons& like) {
  require(like.size() == census.layers.size(), "pruning: {} layers, the census has {}", like.size(),
          census.layers.size());
  KeptNeurons out;
  for (size_t l = 0; l < like.size(); ++l) {
    const auto& layer = census.layers[l];
    auto& order = out.emplace_back(static_cast<size_t>(layer.neurons));
    std::iota(order.begin(), order.end(), int64_t{0});
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return layer.key_norm[a] * layer.value_norm[a] > layer.key_norm[b] * layer.value_norm[b];
    });
    order.resize(like[l].size());
    std::sort(order.begin(), order.end());
  }
  return out;
}

namespace {

Matrix neurons_of(const Matrix& matrix, bool are_outputs, const torch::Tensor& kept) {
  const int64_t axis = (matrix.major() == Major::output) == are_outputs ? 0 : 1;
  return Matrix::dense(matrix.stored().index_select(axis, kept).contiguous(), matrix.major());
}

}  // namespace

double keep_neurons(lm::Transformer& model, const KeptNeurons& kept) {
  const torch::NoGradGuard no_grad;
  require(kept.size() == model->blocks.size(), "pruning: neurons of {} layers, the model has {}",
          kept.size(), model->blocks.size());
  double left = 0, all = 0;
  for (size_t l = 0; l < kept.size(); ++l) {
    auto& ffn = model->blocks[l].ffn;
    require(ffn.groups.size() == 1 && !ffn.groups[0].gate.defined() &&
                ffn.groups[0].key.stored().is_floating_point(),
            "pruning: layer {} is gated, split or quantised, expected one group of dense rows", l);
    auto& group = ffn.groups[0];
    const auto rows = torch::tensor(kept[l], torch::kLong);
    all += static_cast<double>(group.neurons()), left += static_cast<double>(kept[l].size());
    group.key = neurons_of(group.key, true, rows),
    group.value = neurons_of(group.value, false, rows);
    if (group.key_bias.defined()) group.key_bias = group.key_bias.index_select(0, rows);
  }
  return 1 - left / all;
}

}  // namespace cajal::surgery
