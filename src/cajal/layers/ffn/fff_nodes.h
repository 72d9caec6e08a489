#pragma once
#include "cajal/core/options.h"
#include "cajal/core/torch.h"
#include "cajal/neurons/activation.h"

namespace cajal {

enum class NodesForm {
  training,  // all neurons computed, those off the path masked
  inference  // only the path computed
};

struct FffNodesOptions {
  int64_t width = 0;    // features in
  int64_t outputs = 0;  // features out; 0 = width
  int64_t depth = 0;    // decisions below the root: a tree has 2^(depth + 1) - 1 neurons
  int64_t trees = 1;
  bool bias = true;  // of the neurons' inputs
  Activation law = Activation::gelu;
  NodesForm form = NodesForm::training;
};
CAJAL_OPTIONS(FffNodesOptions, width, outputs, depth, trees, bias, law, form)

/// Trees of neurons in which every visited neuron both decides and writes,
/// y = Σ over trees and nodes n of the hard path of law(s_n) w_out_n, s_n = x · w_in_n + b_in_n;
/// right when s_n > 0, the children of n are 2n + 1 and 2n + 2. The gradient does not see the
/// choice of the path. Shapes: x [..., width] -> y [..., outputs]; w_in [trees x nodes, width],
/// b_in [trees x nodes], w_out [trees x nodes, outputs]. Throws Error for options out of range and
/// when the last axis of x is not `width`. Source: Belcak, Wattenhofer 2023, arXiv 2311.10770;
/// dossier fast-feedforward.
class FffNodesImpl : public torch::nn::Module {
 public:
  explicit FffNodesImpl(const FffNodesOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;  // in options.form

  torch::Tensor masked(const torch::Tensor& x) const;
  torch::Tensor infer(const torch::Tensor& x) const;

  int64_t nodes() const;  // of one tree

  const FffNodesOptions options;
  torch::Tensor w_in, b_in, w_out;  // b_in undefined without `bias`

 private:
  torch::Tensor rows_of(const torch::Tensor& x) const;
};
TORCH_MODULE(FffNodes);

}  // namespace cajal

CAJAL_ENUM(cajal::NodesForm, {cajal::NodesForm::training, "training"},
           {cajal::NodesForm::inference, "inference"})
