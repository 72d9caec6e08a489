#include "cajal/neurons/widening.h"

#include "cajal/neurons/elementwise.h"

namespace cajal {
namespace {

std::pair<torch::Tensor, torch::Tensor> halves(const char* who, const torch::Tensor& x) {
  require(x.dim() >= 2 && x.size(1) % 2 == 0, "{}: x is {}, expected an even number of channels",
          who, shape_text(x.sizes()));
  const auto parts = x.chunk(2, 1);
  return {parts[0], parts[1]};
}

}  // namespace

torch::Tensor ConcatenatedReluImpl::forward(const torch::Tensor& x) const {
  return torch::relu(torch::cat({x, -x}, 1));
}

PairedReluImpl::PairedReluImpl(const PairedReluOptions& o) : options(o) {
  const auto one = [&](const char* name, double start) {
    return register_parameter(name, torch::full({1}, start));
  };
  scale = one("scale", o.scale), threshold = one("threshold", o.threshold);
  second_scale = one("second_scale", o.second_scale);
  second_threshold = one("second_threshold", o.second_threshold);
}
torch::Tensor PairedReluImpl::forward(const torch::Tensor& x) const {
  return torch::relu(torch::cat({scale * x - threshold, second_scale * x - second_threshold}, 1));
}

torch::Tensor DualReluImpl::forward(const torch::Tensor& x) const {
  const auto [a, b] = halves("dual_relu", x);
  return torch::relu(a) - torch::relu(b);
}

MaxoutImpl::MaxoutImpl(const MaxoutOptions& o) : options(o) {
  require(o.pieces > 0, "maxout: pieces must be positive, got {}", o.pieces);
}
torch::Tensor MaxoutImpl::forward(const torch::Tensor& x) const {
  require(x.dim() >= 2 && x.size(1) % options.pieces == 0,
          "maxout: x is {}, expected channels in groups of {}", shape_text(x.sizes()),
          options.pieces);
  auto shape = x.sizes().vec();
  shape[1] /= options.pieces;
  shape.insert(shape.begin() + 2, options.pieces);
  return x.reshape(shape).amax(2);
}

GatedUnitImpl::GatedUnitImpl(const GatedUnitOptions& o) : options(o) {
  require(laws::at(o.law).parameters.empty(), "glu: '{}' has parameters, expected a law without",
          o.law);
}
torch::Tensor GatedUnitImpl::forward(const torch::Tensor& x) const {
  const auto [a, b] = halves("glu", x);
  return a * apply_law(laws::at(options.law), b);
}

}  // namespace cajal
