#pragma once
#include <functional>
#include <vector>

#include "cajal/models/vision/block_net.h"
#include "cajal/train/local.h"

/// Convolutional networks trained block by block: each block has a small head and a loss of its
/// own, and hands on a normed output that is cut from the graph. Source: Krutsylo 2025, arXiv
/// 2501.03176; dossier scalable-ff.
namespace cajal::train {

enum class BlockRule {
  sff,               // goodness heads, gradients inside blocks
  greedy,            // pooled linear heads with cross entropy, gradients inside blocks
  deep_supervision,  // goodness heads, gradients through everything
  backprop,          // one pooled linear head at the end
};

enum class GoodnessLoss {
  margin,         // softplus(LSE of the other classes' goodness - that of the true one + margin)
  cross_entropy,  // the same without margin
  pair,           // softplus(θ - g_true) + mean over the others of softplus(g - θ)
};

enum class BlockSchedule {
  interleaved,  // every batch passes all blocks
  greedy,       // one block is trained to the end, then the next
};

struct BlockLearning {
  BlockRule rule = BlockRule::sff;
  GoodnessLoss loss = GoodnessLoss::margin;
  double margin = 1, threshold = 2;
  int64_t head_kernel = 1;
  bool head_after_norm = false;  // the head sees the normed output
  BlockSchedule schedule = BlockSchedule::interleaved;
  int64_t trained_blocks = 0;  // the last so many; the others stay as loaded; 0 = all
  int64_t epochs = 6, batch = 128;
  LocalOptions optimizer = {.weight_decay = 5e-4};
  bool cosine = true;  // the rate falls to 0 along half a cosine
};
CAJAL_OPTIONS(BlockLearning, rule, loss, margin, threshold, head_kernel, head_after_norm, schedule,
              trained_blocks, epochs, batch, optimizer, cosine)

/// Loss of class goodness g [batch, classes] for labels i64 [batch].
torch::Tensor class_goodness_loss(const torch::Tensor& g, const torch::Tensor& labels,
                                  GoodnessLoss kind, double margin, double threshold);

/// Norm of each sample over channels and positions, no weights, epsilon 1e-5: what a block hands on
/// says what it saw but not how glad it was.
torch::Tensor sample_norm(const torch::Tensor& x);

/// How blocks make one prediction.
enum class BlockVote {
  softmax,  // mean of the blocks' softmax
  raw,      // mean of the blocks' scores
  last,     // the last block alone
};

class BlockLearner {
 public:
  /// Throws Error for options without sense.
  BlockLearner(std::vector<vision::Block> blocks, int64_t classes, const BlockLearning& options);

  /// x [n, channels, height, width], y i64 [n].
  void train(const torch::Tensor& x, const torch::Tensor& y);
  /// One batch; returns the blocks' losses. With sff and greedy the graph of each block is freed
  /// before the next begins. `rate` is the share of the learning rate.
  std::vector<double> step(const torch::Tensor& x, const torch::Tensor& y, double rate = 1);

  /// Loss of block `i` on what comes into it; its graph ends at the block's and its head's weights.
  torch::Tensor block_loss(size_t i, const torch::Tensor& input, const torch::Tensor& y);

  /// Scores of every head, [heads][n, classes], in evaluation mode; one forward pass.
  std::vector<torch::Tensor> scores(const torch::Tensor& x);
  torch::Tensor predict(const torch::Tensor& x, BlockVote vote = BlockVote::softmax,
                        size_t blocks = 0);
  /// Accuracy of the softmax vote of the first 1, 2, ... heads on x, y.
  std::vector<double> accuracy_by_prefix(const torch::Tensor& x, const torch::Tensor& y);
  /// The number of first heads whose vote is best on x, y, the smallest of equals: an early exit.
  size_t best_prefix(const torch::Tensor& x, const torch::Tensor& y);

  std::vector<torch::Tensor> block_parameters(size_t i) const;  // the head's included
  int64_t head_weights() const;
  const std::vector<vision::Block>& blocks() const { return blocks_; }

 private:
  bool cut() const { return options_.rule == BlockRule::sff || options_.rule == BlockRule::greedy; }
  bool has_head(size_t i) const {
    return options_.rule != BlockRule::backprop || i + 1 == blocks_.size();
  }
  torch::Tensor score(size_t i, const torch::Tensor& z) const;
  torch::Tensor loss(const torch::Tensor& scores, const torch::Tensor& y) const;
  torch::Tensor handed_on(const torch::Tensor& z) const;
  void set_training(bool on);
  double step_block(size_t i, torch::Tensor& u, const torch::Tensor& y, double rate);

  std::vector<vision::Block> blocks_;
  struct Head {
    std::shared_ptr<torch::nn::Module> module;
    std::function<torch::Tensor(const torch::Tensor&)> forward;
  };
  std::vector<Head> heads_;  // empty where a block has none
  std::vector<LocalOptimizer> optimizers_;
  BlockLearning options_;
};

struct StepMemory {
  double saved = 0, peak = 0;  // bytes: the most that autograd held, and the allocator handed out
};
/// Of one step on a batch, over what was there before; weights that autograd holds do not count.
StepMemory step_memory(BlockLearner learner, const torch::Tensor& x, const torch::Tensor& y);

}  // namespace cajal::train

CAJAL_ENUM(cajal::train::BlockRule, {cajal::train::BlockRule::sff, "sff"},
           {cajal::train::BlockRule::greedy, "greedy"},
           {cajal::train::BlockRule::deep_supervision, "bp-deepsup"},
           {cajal::train::BlockRule::backprop, "bp"})
CAJAL_ENUM(cajal::train::GoodnessLoss, {cajal::train::GoodnessLoss::margin, "margin"},
           {cajal::train::GoodnessLoss::cross_entropy, "cross_entropy"},
           {cajal::train::GoodnessLoss::pair, "pair"})
CAJAL_ENUM(cajal::train::BlockSchedule, {cajal::train::BlockSchedule::interleaved, "interleaved"},
           {cajal::train::BlockSchedule::greedy, "greedy"})
CAJAL_ENUM(cajal::train::BlockVote, {cajal::train::BlockVote::softmax, "softmax"},
           {cajal::train::BlockVote::raw, "raw"}, {cajal::train::BlockVote::last, "last"})
