#include "cajal/surgery/distill_fff.h"

#include <torch/optim/adamw.h>

#include <algorithm>

#include "cajal/core/error.h"
#include "cajal/layers/ffn/fff_packed.h"
#include "cajal/models/lm/block.h"
#include "cajal/surgery/inputs.h"

namespace cajal::surgery {
namespace {

FastFeedForward taught(const torch::Tensor& x, const torch::Tensor& y, const DistillOptions& o) {
  FastFeedForward tree(FastFeedForwardOptions{.width = x.size(1),
                                              .outputs = y.size(1),
                                              .leaf_width = o.leaf_width,
                                              .depth = o.depth,
                                              .master = o.master});
  const auto scale = y.std().clamp_min(1e-12);
  const auto target = y / scale;
  torch::optim::AdamW adam(tree->parameters(),
                           torch::optim::AdamWOptions(o.learning_rate).weight_decay(0));
  for (int64_t step = 0; step < o.steps; ++step) {
    const double done = static_cast<double>(step) / static_cast<double>(o.steps);
    for (auto& group : adam.param_groups())
      static_cast<torch::optim::AdamWOptions&>(group.options())
          .lr(o.learning_rate * (1 - 0.9 * done));
    const auto rows = torch::randint(x.size(0), {std::min(o.batch, x.size(0))}, torch::kLong);
    const auto traced = tree->trace(x.index_select(0, rows));
    auto loss = (traced.y - target.index_select(0, rows)).square().mean();
    if (o.depth > 0) loss = loss + o.entropy * std::min(1.0, 2 * done) * traced.entropy();
    adam.zero_grad();
    loss.backward();
    adam.step();
  }
  const torch::NoGradGuard no_grad;
  for (auto* part : {&tree->w2, &tree->b2, &tree->master_w2, &tree->master_b2})
    if (part->defined()) part->mul_(scale);
  tree->eval();
  return tree;
}

}  // namespace

std::vector<FastFeedForward> distill(lm::Transformer& model, std::span<const int32_t> ids,
                                     const DistillOptions& o) {
  require(o.steps > 0 && o.batch > 0 && o.tokens > 0,
          "distill: steps, batch and tokens must be positive, got {}, {} and {}", o.steps, o.batch,
          o.tokens);
  std::vector<torch::Tensor> inputs(model->blocks.size());
  visit_inputs(model, ids, o.tokens,
               [&](size_t layer, const torch::Tensor& x) { inputs[layer] = x.detach().clone(); });
  torch::manual_seed(static_cast<int64_t>(o.seed));
  std::vector<FastFeedForward> trees;
  for (size_t layer = 0; layer < inputs.size(); ++layer) {
    torch::Tensor y;
    {
      const torch::NoGradGuard no_grad;
      y = lm::feed_forward(model->config, model->blocks[layer].ffn, inputs[layer],
                           lm::Points(nullptr));
    }
    require(
        torch::isfinite(y).all().item<bool>() && torch::isfinite(inputs[layer]).all().item<bool>(),
        "distill: the activations of layer {} are not finite", layer);
    trees.push_back(taught(inputs[layer], y, o));
  }
  return trees;
}

void replace_by_trees(lm::Transformer& model, const std::vector<FastFeedForward>& trees) {
  require(trees.size() == model->blocks.size(), "{} trees for {} layers", trees.size(),
          model->blocks.size());
  const auto threads = std::make_shared<ThreadPool>();
  for (size_t layer = 0; layer < trees.size(); ++layer) {
    const auto packed = std::make_shared<fff::PackedTree>(*trees[layer]);
    const int64_t outputs = trees[layer]->options.outputs;
    model->blocks[layer].ffn.instead = [packed, threads, outputs](const torch::Tensor& x) {
      const auto rows = x.to(torch::kFloat).contiguous();
      auto sizes = x.sizes().vec();
      sizes.back() = outputs;
      auto y = torch::empty(sizes);
      packed->run(rows.data_ptr<float>(), rows.numel() / rows.size(-1), y.data_ptr<float>(),
                  *threads);
      return y;
    };
  }
}

}  // namespace cajal::surgery
