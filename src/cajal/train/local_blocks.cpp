#include "cajal/train/local_blocks.h"

#include <algorithm>
#include <utility>

#include "cajal/layers/init.h"
#include "cajal/layers/vision/goodness_head.h"
#include "cajal/train/goodness.h"
#include "cajal/train/saved_bytes.h"

namespace cajal::train {
namespace {

/// Mean over positions, then a linear layer.
struct PooledHead : torch::nn::Module {
  PooledHead(int64_t channels, int64_t classes) {
    weight = register_parameter("weight", init::fan_in_uniform({classes, channels}));
    bias = register_parameter("bias", torch::zeros({classes}));
  }
  torch::Tensor weight, bias;
};

}  // namespace

torch::Tensor class_goodness_loss(const torch::Tensor& g, const torch::Tensor& labels,
                                  GoodnessLoss kind, double margin, double threshold) {
  require(g.dim() == 2 && labels.dim() == 1 && labels.size(0) == g.size(0),
          "goodness {} for labels {}", shape_text(g.sizes()), shape_text(labels.sizes()));
  if (kind == GoodnessLoss::cross_entropy) return torch::cross_entropy_loss(g, labels);
  const auto own = torch::one_hot(labels, g.size(1)).to(g.dtype());
  // The margin loss is the cross entropy with the margin taken from the true class.
  if (kind == GoodnessLoss::margin) return torch::cross_entropy_loss(g - margin * own, labels);
  const auto right = stable_softplus(threshold - (g * own).sum(1));
  const auto wrong = (stable_softplus(g - threshold) * (1 - own)).sum(1);
  return (right + wrong / static_cast<double>(g.size(1) - 1)).mean();
}

torch::Tensor sample_norm(const torch::Tensor& x) {
  const std::vector<int64_t> shape(x.sizes().begin() + 1, x.sizes().end());
  return torch::layer_norm(x, shape, {}, {}, 1e-5);
}

BlockLearner::BlockLearner(std::vector<vision::Block> blocks, int64_t classes,
                           const BlockLearning& options)
    : blocks_(std::move(blocks)), options_(options) {
  require(!blocks_.empty() && classes > 1, "block learning: {} blocks, {} classes", blocks_.size(),
          classes);
  require(options.epochs > 0 && options.batch > 0,
          "block learning: epochs and batch must be positive, got {} and {}", options.epochs,
          options.batch);
  require(
      options.trained_blocks >= 0 && options.trained_blocks <= static_cast<int64_t>(blocks_.size()),
      "block learning: trained_blocks: expected 0 to {}, got {}", blocks_.size(),
      options.trained_blocks);
  require(options.schedule == BlockSchedule::interleaved || cut(),
          "block learning: schedule 'greedy' needs a rule that cuts gradients, got '{}'",
          to_name(options.rule));
  const bool goodness =
      options.rule == BlockRule::sff || options.rule == BlockRule::deep_supervision;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    if (!has_head(i)) {
      heads_.emplace_back();
    } else if (goodness) {
      GoodnessHead head(GoodnessHeadOptions{blocks_[i].channels, classes, options.head_kernel});
      heads_.push_back({head.ptr(), [head](const torch::Tensor& z) { return head->forward(z); }});
    } else {
      const auto head = std::make_shared<PooledHead>(blocks_[i].channels, classes);
      heads_.push_back({head, [head](const torch::Tensor& z) {
                          return torch::linear(z.mean({2, 3}), head->weight, head->bias);
                        }});
    }
  }
  if (cut()) {
    for (size_t i = 0; i < blocks_.size(); ++i)
      optimizers_.emplace_back(block_parameters(i), options.optimizer);
  } else {
    std::vector<torch::Tensor> all;
    for (size_t i = 0; i < blocks_.size(); ++i)
      for (const auto& p : block_parameters(i)) all.push_back(p);
    optimizers_.emplace_back(all, options.optimizer);
  }
}

std::vector<torch::Tensor> BlockLearner::block_parameters(size_t i) const {
  auto out = blocks_.at(i).module->parameters();
  if (heads_[i].module)
    for (const auto& p : heads_[i].module->parameters()) out.push_back(p);
  return out;
}

int64_t BlockLearner::head_weights() const {
  int64_t count = 0;
  for (const auto& head : heads_)
    if (head.module)
      for (const auto& p : head.module->parameters()) count += p.numel();
  return count;
}

void BlockLearner::set_training(bool on) {
  for (auto& block : blocks_) block.module->train(on);
}

torch::Tensor BlockLearner::score(size_t i, const torch::Tensor& z) const {
  return heads_[i].forward(options_.head_after_norm ? sample_norm(z) : z);
}

torch::Tensor BlockLearner::loss(const torch::Tensor& scores, const torch::Tensor& y) const {
  const bool goodness =
      options_.rule == BlockRule::sff || options_.rule == BlockRule::deep_supervision;
  return class_goodness_loss(scores, y, goodness ? options_.loss : GoodnessLoss::cross_entropy,
                             options_.margin, options_.threshold);
}

torch::Tensor BlockLearner::handed_on(const torch::Tensor& z) const {
  return cut() ? sample_norm(z.detach()) : z;
}

torch::Tensor BlockLearner::block_loss(size_t i, const torch::Tensor& input,
                                       const torch::Tensor& y) {
  return loss(score(i, blocks_.at(i).forward(input.detach())), y);
}

/// Trains one block on `u` and turns it into what the block hands on.
double BlockLearner::step_block(size_t i, torch::Tensor& u, const torch::Tensor& y, double rate) {
  const auto first_trained = options_.trained_blocks == 0
                                 ? 0
                                 : blocks_.size() - static_cast<size_t>(options_.trained_blocks);
  if (i < first_trained) {
    const torch::NoGradGuard no_grad;
    blocks_[i].module->eval();
    u = handed_on(blocks_[i].forward(u));
    return 0;
  }
  auto z = blocks_[i].forward(u);
  const auto value = loss(score(i, z), y);
  z = z.detach();  // or it would keep the block's graph while the next block runs
  optimizers_[i].set_rate(rate);
  optimizers_[i].step(value);
  const torch::NoGradGuard no_grad;
  u = handed_on(z);
  return value.item<double>();
}

std::vector<double> BlockLearner::step(const torch::Tensor& x, const torch::Tensor& y,
                                       double rate) {
  set_training(true);
  std::vector<double> losses;
  auto u = x;
  if (cut()) {
    for (size_t i = 0; i < blocks_.size(); ++i) losses.push_back(step_block(i, u, y, rate));
    return losses;
  }
  torch::Tensor total;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    u = blocks_[i].forward(u);
    if (!has_head(i)) continue;
    const auto own = loss(score(i, u), y);
    losses.push_back(own.item<double>());
    total = total.defined() ? total + own : own;
  }
  optimizers_[0].set_rate(rate);
  optimizers_[0].step(total);
  return losses;
}

void BlockLearner::train(const torch::Tensor& x, const torch::Tensor& y) {
  require(x.dim() == 4 && y.size(0) == x.size(0), "block learning: pictures {} for labels {}",
          shape_text(x.sizes()), shape_text(y.sizes()));
  const auto batches = (x.size(0) + options_.batch - 1) / options_.batch;
  const bool one_by_one = options_.schedule == BlockSchedule::greedy;
  for (size_t block = 0; block < (one_by_one ? blocks_.size() : 1); ++block) {
    int64_t done = 0;
    for (int64_t epoch = 0; epoch < options_.epochs; ++epoch)
      for (const auto& batch : shuffled_batches(x.size(0), options_.batch)) {
        const double rate = options_.cosine ? cosine_rate(done++, options_.epochs * batches) : 1;
        const auto labels = y.index_select(0, batch);
        auto u = x.index_select(0, batch);
        if (!one_by_one) {
          step(u, labels, rate);
          continue;
        }
        {
          const torch::NoGradGuard no_grad;
          for (size_t i = 0; i < block; ++i) {
            blocks_[i].module->eval();
            u = handed_on(blocks_[i].forward(u));
          }
        }
        blocks_[block].module->train();
        step_block(block, u, labels, rate);
      }
  }
}

std::vector<torch::Tensor> BlockLearner::scores(const torch::Tensor& x) {
  const torch::NoGradGuard no_grad;
  set_training(false);
  std::vector<std::vector<torch::Tensor>> parts(blocks_.size());
  for (int64_t begin = 0; begin < x.size(0); begin += 250) {
    auto u = x.narrow(0, begin, std::min<int64_t>(250, x.size(0) - begin));
    for (size_t i = 0; i < blocks_.size(); ++i) {
      const auto z = blocks_[i].forward(u);
      if (has_head(i)) parts[i].push_back(score(i, z));
      u = handed_on(z);
    }
  }
  std::vector<torch::Tensor> out;
  for (const auto& part : parts)
    if (!part.empty()) out.push_back(torch::cat(part));
  return out;
}

torch::Tensor BlockLearner::predict(const torch::Tensor& x, BlockVote vote, size_t blocks) {
  const auto all = scores(x);
  const auto count = blocks == 0 ? all.size() : std::min(blocks, all.size());
  if (vote == BlockVote::last) return all[count - 1].argmax(1);
  torch::Tensor sum;
  for (size_t i = 0; i < count; ++i) {
    const auto own = vote == BlockVote::softmax ? all[i].softmax(1) : all[i];
    sum = sum.defined() ? sum + own : own;
  }
  return sum.argmax(1);
}

std::vector<double> BlockLearner::accuracy_by_prefix(const torch::Tensor& x,
                                                     const torch::Tensor& y) {
  std::vector<double> out;
  torch::Tensor sum;
  for (const auto& scores : this->scores(x)) {
    const auto own = scores.softmax(1);
    sum = sum.defined() ? sum + own : own;
    out.push_back(sum.argmax(1).eq(y).to(torch::kDouble).mean().item<double>());
  }
  return out;
}

size_t BlockLearner::best_prefix(const torch::Tensor& x, const torch::Tensor& y) {
  const auto all = accuracy_by_prefix(x, y);
  return static_cast<size_t>(std::max_element(all.begin(), all.end()) - all.begin()) + 1;
}

StepMemory step_memory(BlockLearner learner, const torch::Tensor& x, const torch::Tensor& y) {
  std::vector<torch::Tensor> weights;
  for (size_t i = 0; i < learner.blocks().size(); ++i)
    for (const auto& p : learner.block_parameters(i)) weights.push_back(p);
  const SavedBytes saved(weights);
  const AllocatedBytes allocated;
  learner.step(x, y);
  return {static_cast<double>(saved.peak()), static_cast<double>(allocated.peak())};
}

}  // namespace cajal::train
