#include "cajal/surgery/function_network.h"

#include "cajal/core/error.h"
#include "cajal/surgery/brick_configuration.h"
#include "cajal/surgery/split.h"

namespace cajal::surgery {
namespace {

// `score` of the norms of each layer on the tokens of a function.
template <class Score>
NeuronScores scores_on(const FunctionActivity& activity, int64_t function, Score&& score) {
  require(function >= -1 && function < std::ssize(activity.names), "function {} of {}", function,
          activity.names.size());
  const torch::NoGradGuard no_grad;
  const auto mine = activity.function.eq(function).nonzero().squeeze(1);
  NeuronScores out;
  for (const auto& norms : activity.norms)
    out.push_back(score(function < 0 ? norms : norms.index_select(0, mine)));
  return out;
}

}  // namespace

NeuronScores mean_norms(const FunctionActivity& activity, int64_t function) {
  return scores_on(activity, function, [](const torch::Tensor& norms) { return norms.mean(0); });
}

NeuronScores wanda_scores(const FunctionActivity& activity, int64_t function) {
  return scores_on(activity, function,
                   [](const torch::Tensor& norms) { return norms.square().mean(0).sqrt(); });
}

NeuronScores use_counts(const FunctionActivity& activity, int64_t function) {
  return scores_on(activity, function, [](const torch::Tensor& norms) {
    return top_of_token(norms, 0.1).to(torch::kFloat).sum(0);
  });
}

NeuronScores weight_sizes(const lm::Transformer& model) {
  const torch::NoGradGuard no_grad;
  NeuronScores out;
  for (const auto& block : model->blocks) {
    const auto rows = neuron_rows(block.ffn);
    out.push_back(rows.key.norm(2, 1) * rows.value.norm(2, 1));
    if (rows.gate.defined()) out.back() = out.back() * rows.gate.norm(2, 1);
  }
  return out;
}

lm::Transformer network_of(const lm::Transformer& model, const NeuronScores& scores, int64_t kept) {
  require(scores.size() == model->blocks.size(), "network: scores of {} layers for {}",
          scores.size(), model->blocks.size());
  const auto hash = content_hash(model);
  BrickRegistry registry;
  Configuration configuration{.base = hash, .active = {}, .rest_removed = true};
  for (size_t l = 0; l < scores.size(); ++l) {
    Brick brick{.card = {.id = fmt::format("kept/{}", l),
                         .kind = BrickKind::neurons,
                         .layer = static_cast<int64_t>(l),
                         .module = "",
                         .tags = {},
                         .base = hash},
                .tensors = {}};
    brick.tensors["index"] = top_neurons(scores[l], kept).contiguous();
    configuration.active.push_back({brick.card.id, 1});
    registry.add(std::move(brick));
  }
  return materialise(model, registry, configuration);
}

}  // namespace cajal::surgery
