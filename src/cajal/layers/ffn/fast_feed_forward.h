#pragma once
#include "cajal/core/options.h"
#include "cajal/core/torch.h"
#include "cajal/neurons/activation.h"

namespace cajal {

/// Which leaves an input hears.
enum class TreeForm {
  soft,      // all, each by the probability of its path: differentiable
  hard,      // all are computed, the one at the end of the path counts
  straight,  // hard's answer with soft's gradient
  inference  // one path of nodes and one leaf are computed
};

/// What the usage counters add for each input.
enum class TreeUsage { none, soft, hard };

/// The bound of the master leaf's output weights at the start.
enum class MasterInit {
  leaf,   // 1/√leaf_width, as the reference code
  master  // 1/√(neurons of the master leaf)
};

struct FastFeedForwardOptions {
  int64_t width = 0;       // features in
  int64_t outputs = 0;     // features out; 0 = width
  int64_t leaf_width = 0;  // neurons of a leaf
  int64_t depth = 0;       // decisions on a path; 2^depth leaves
  Activation law = Activation::relu;
  TreeForm form = TreeForm::soft;     // of `forward`
  double region_leak = 0;             // in training: probability of flipping a decision, 0 to 0.5
  double leaf_dropout = 0;            // in training: of the leaves' activations
  TreeUsage usage = TreeUsage::none;  // counted in training
  int64_t master = 0;                 // neurons of the master leaf; 0 = none
  MasterInit master_init = MasterInit::leaf;
  bool losses = false;  // `forward` also gives the entropy and the balance loss
};
CAJAL_OPTIONS(FastFeedForwardOptions, width, outputs, leaf_width, depth, law, form, region_leak,
              leaf_dropout, usage, master, master_init, losses)

/// Fast feedforward layer: a tree of neurons decides which of 2^depth small feed-forward networks
/// answers, y = Σ_j m_j(x) (law(x W1_j + b1_j) W2_j + b2_j), m_j the product of c = σ(x node_w +
/// node_b) (right) or 1 - c (left) along leaf j's path; with a master leaf M,
/// y = s tree(x) + (1 - s) M(x), s = σ(k).
/// Shapes: x [..., width] -> y [..., outputs]; node_w [nodes, width], node_b [nodes, 1], w1
/// [leaves, width, leaf_width], b1 [leaves, leaf_width], w2 [leaves, leaf_width, outputs], b2
/// [leaves, outputs]; master_w1 [width, master], master_b1 [master], master_w2 [master, outputs],
/// master_b2 [outputs], k []. The tree is fff_tree.h's. Throws Error for options out of range and
/// when the last axis of x is not `width`. Source: Belcak, Wattenhofer 2023, arXiv 2308.14711;
/// Charalampopoulos et al. 2024, arXiv 2405.16836; dossiers fast-feedforward and fff-balanced.
class FastFeedForwardImpl : public torch::nn::Module {
 public:
  explicit FastFeedForwardImpl(const FastFeedForwardOptions& options);

  /// In `options.form`: y, and with `losses` the mean node entropy [] and load balance [] (times
  /// the caller's h and alpha); else those are undefined.
  std::tuple<torch::Tensor, torch::Tensor, torch::Tensor> forward(const torch::Tensor& x);

  /// One pass with everything that the losses need. Rows are the leading axes of x, flattened.
  struct Trace {
    torch::Tensor y;        // [..., outputs]
    torch::Tensor right;    // [rows, nodes] c, before any rounding, region leak applied
    torch::Tensor weights;  // [rows, leaves] m of the soft path
    torch::Tensor leaf;     // i64 [rows] end of the hard path

    torch::Tensor entropy() const;  // [] mean over rows and nodes in nats; 0 without nodes
    torch::Tensor balance() const;  // [] balancing::load_balance
  };
  /// All leaves computed and mixed as `form` says; `inference` counts as `hard`.
  Trace trace(const torch::Tensor& x, TreeForm form = TreeForm::soft);

  /// Only the path and its leaf computed; tokens are sorted by leaf. [..., outputs].
  torch::Tensor infer(const torch::Tensor& x) const;
  /// The leaf that answers each row: i64 [...].
  torch::Tensor leaf(const torch::Tensor& x) const;

  int64_t leaves() const;
  int64_t nodes() const;
  /// Neurons stored: leaves x leaf_width + nodes + master.
  int64_t training_width() const;
  /// Neurons evaluated for one input: leaf_width + depth + master.
  int64_t inference_width() const;

  const FastFeedForwardOptions options;
  torch::Tensor node_w, node_b, w1, b1, w2, b2;
  torch::Tensor master_w1, master_b1, master_w2, master_b2, k;  // undefined without a master leaf
  torch::Tensor node_usage, leaf_usage;                         // buffers; undefined without usage

 private:
  torch::Tensor rows_of(const torch::Tensor& x) const;
  torch::Tensor blend(const torch::Tensor& tree, const torch::Tensor& rows) const;
  torch::Tensor mixture(const torch::Tensor& rows, const torch::Tensor& weights);
  torch::Tensor leaf_answers(const torch::Tensor& rows, const torch::Tensor& leaf) const;
  void count(const torch::Tensor& right, const Trace& trace);
};
TORCH_MODULE(FastFeedForward);

}  // namespace cajal

CAJAL_ENUM(cajal::TreeForm, {cajal::TreeForm::soft, "soft"}, {cajal::TreeForm::hard, "hard"},
           {cajal::TreeForm::straight, "straight"}, {cajal::TreeForm::inference, "inference"})
CAJAL_ENUM(cajal::TreeUsage, {cajal::TreeUsage::none, "none"}, {cajal::TreeUsage::soft, "soft"},
           {cajal::TreeUsage::hard, "hard"})
CAJAL_ENUM(cajal::MasterInit, {cajal::MasterInit::leaf, "leaf"},
           {cajal::MasterInit::master, "master"})
