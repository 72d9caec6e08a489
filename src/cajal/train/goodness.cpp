#include "cajal/train/goodness.h"

namespace cajal::train {

torch::Tensor goodness(Goodness kind, const torch::Tensor& h) {
  require(h.dim() > 0, "goodness: activations need an axis of neurons");
  switch (kind) {
    case Goodness::l2:
      return h.norm(2, -1);
    case Goodness::l1:
      return h.abs().sum(-1);
    case Goodness::linf:
      return h.abs().amax(-1);
    case Goodness::sum_squares:
      return h.square().sum(-1);
    case Goodness::mean_squares:
      return h.square().mean(-1);
  }
  fail("goodness {} is not known", static_cast<int>(kind));
}

torch::Tensor stable_softplus(const torch::Tensor& x) { return -torch::log_sigmoid(-x); }

torch::Tensor goodness_loss(const torch::Tensor& positive, const torch::Tensor& negative,
                            double threshold) {
  return torch::cat({stable_softplus(threshold - positive), stable_softplus(negative - threshold)})
      .mean();
}

}  // namespace cajal::train
