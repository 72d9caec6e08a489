#pragma once
#include <vector>

#include "cajal/train/forward_forward.h"

namespace cajal::train {

/// The widths of a forward-forward net with a linear head, for ordinary backpropagation: plain ReLU
/// layers, no label in the input.
class DenseClassifierImpl : public torch::nn::Module {
 public:
  /// Takes inputs, width, layers and classes of `options`.
  explicit DenseClassifierImpl(const ForwardForwardNetOptions& options);

  /// Hidden answers to x [batch, inputs], [layers][batch, width].
  std::vector<torch::Tensor> hidden(const torch::Tensor& x) const;
  torch::Tensor head(const torch::Tensor& h) const { return torch::linear(h, weight, bias); }
  torch::Tensor forward(const torch::Tensor& x) const { return head(hidden(x).back()); }

  std::vector<ForwardForwardLayer> layers;
  torch::Tensor weight, bias;  // of the head: [classes, width], [classes]
};
TORCH_MODULE(DenseClassifier);

/// Cross entropy, plus `activation_l1` times the sum over the layers of the mean |activation|.
void train_classifier(DenseClassifier& net, const torch::Tensor& x, const torch::Tensor& labels,
                      const ForwardForwardTraining& training, double activation_l1 = 0);

}  // namespace cajal::train
