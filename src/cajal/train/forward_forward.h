#pragma once
#include <functional>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/layers/ffn/forward_forward.h"
#include "cajal/train/goodness.h"
#include "cajal/train/local.h"

/// Forward-forward learning: the label is written into the picture, right for a positive sample and
/// wrong for a negative one, and every layer learns to be glad of the first and not of the second.
/// Sources: Hinton 2022, arXiv 2212.13345; Tosato et al., arXiv 2305.18353; dossier ff-ensembles.
namespace cajal::train {

/// x with its label written into it: the first `classes` pixels (in colour those of the first row
/// of every channel) become 0 and the one of the label `value`. x [batch, pixels] or [batch,
/// channels, height, width], labels i64 [batch]; a copy. A label of -1 writes no 1.
/// `value` is given and not taken from the batch, so that a sample does not depend on its company.
/// Throws Error when the row is shorter than `classes` or a label is beyond them.
torch::Tensor overlay(const torch::Tensor& x, const torch::Tensor& labels, int64_t classes,
                      double value);

/// Wrong labels: samples [n] and a wrong label of each [n], drawn without replacement from all
/// (classes - 1) · n such pairs.
struct Negatives {
  torch::Tensor sample, label;  // i64 [n]
};
Negatives draw_negatives(const torch::Tensor& labels, int64_t classes);

struct ForwardForwardNetOptions {
  int64_t inputs = 784;
  int64_t width = 0;  // of every layer; 0 = that of the input
  int64_t layers = 3;
  int64_t classes = 10;
  Goodness goodness = Goodness::l2;
  double threshold = 3;
  double overlay_value = 1;  // of the pixel that stands for the label
};
CAJAL_OPTIONS(ForwardForwardNetOptions, inputs, width, layers, classes, goodness, threshold,
              overlay_value)

/// A stack of forward-forward layers.
class ForwardForwardNetImpl : public torch::nn::Module {
 public:
  explicit ForwardForwardNetImpl(const ForwardForwardNetOptions& options);

  /// What every layer answers to x [batch, inputs] with its label already in it: [layers][batch,
  /// width], one graph through all of them.
  std::vector<torch::Tensor> forward(const torch::Tensor& x) const;

  torch::Tensor labelled(const torch::Tensor& x, const torch::Tensor& labels) const {
    return overlay(x, labels, options.classes, options.overlay_value);
  }

  const ForwardForwardNetOptions options;
  std::vector<ForwardForwardLayer> layers;
};
TORCH_MODULE(ForwardForwardNet);

struct ForwardForwardTraining {
  int64_t epochs = 25, batch = 128;
  LocalOptions optimizer = {};
  bool fixed_negatives = false;  // drawn once, as published, instead of every epoch
};
CAJAL_OPTIONS(ForwardForwardTraining, epochs, batch, optimizer, fixed_negatives)

/// Loss of one layer on what it gets, both [batch, inputs of the layer], detached here: its graph
/// ends at that layer's own weights.
torch::Tensor layer_loss(const ForwardForwardNet& net, size_t layer, const torch::Tensor& positive,
                         const torch::Tensor& negative);

/// Loss of the whole stack: goodness summed over the layers, one graph through all of them.
torch::Tensor summed_loss(const ForwardForwardNet& net, const torch::Tensor& positive,
                          const torch::Tensor& negative);

/// Trains layer after layer, each on the frozen ones below. x [n, inputs], labels i64 [n].
void train_forward_forward(ForwardForwardNet& net, const torch::Tensor& x,
                           const torch::Tensor& labels, const ForwardForwardTraining& training);

/// Trains the same objective by backpropagation through all layers ("BP/FF").
void train_summed_goodness(ForwardForwardNet& net, const torch::Tensor& x,
                           const torch::Tensor& labels, const ForwardForwardTraining& training);

/// How the layers' goodness of every label makes a prediction.
enum class LabelVote {
  softmax,  // softmax over the labels within each layer, then the sum over layers
  raw,      // the sum of raw goodness over layers
};

/// Goodness of every label in every layer, [layers][batch, classes]: one pass a label.
std::vector<torch::Tensor> goodness_of_labels(const ForwardForwardNet& net, const torch::Tensor& x);

/// Predicted labels i64 [n]; the first `skip` layers do not vote.
torch::Tensor predict_labels(const ForwardForwardNet& net, const torch::Tensor& x,
                             LabelVote vote = LabelVote::softmax, size_t skip = 0);

}  // namespace cajal::train

CAJAL_ENUM(cajal::train::LabelVote, {cajal::train::LabelVote::softmax, "softmax"},
           {cajal::train::LabelVote::raw, "raw"})
