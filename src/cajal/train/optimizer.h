#pragma once
#include <utility>
#include <vector>

#include "cajal/train/options.h"
#include "cajal/train/parameters.h"

namespace cajal::train {

/// Clips the gathered gradient and takes AdamW steps, or Muon steps for hidden matrices, on flat
/// parameters; keeps a moving average of them where asked to. Nothing in `step` waits for the
/// device, and what changes from step to step lies in `prepare`, so that a step can be recorded.
/// Sources: AdamW arXiv 1711.05101; Muon kellerjordan.github.io/posts/muon, its scale arXiv
/// 2502.16982.
class Optimizer {
 public:
  Optimizer(FlatParameters& parameters, const Options& options);

  /// Sets the learning rate and corrections of step `step` (0 is the first).
  void prepare(int64_t step);
  /// Changes the values by parameters.gradient, which it scales.
  void step();

  /// Norm of the last gradient before clipping, fp32 [].
  torch::Tensor norm() const { return norm_and_factor_.select(0, 0); }

  torch::Tensor first, second;  // moments, fp32 [size]; first is muon's momentum
  torch::Tensor average;        // fp32 [size], or undefined

 private:
  void adamw(int64_t begin);
  void muon();

  FlatParameters& parameters_;
  const Options options_;
  torch::Tensor rates_;            // fp32 [4]: rate, 1/(1 - beta1^t), 1/(1 - beta2^t), averaging
  torch::Tensor norm_and_factor_;  // fp32 [2]
};

/// The nearest semi-orthogonal matrices to x [count, rows, columns], roughly: five Newton-Schulz
/// steps that bring every singular value between about 0.7 and 1.2.
torch::Tensor orthogonalise(const torch::Tensor& x);

}  // namespace cajal::train
