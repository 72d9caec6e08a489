#pragma once
#include <functional>
#include <span>
#include <string>

#include "cajal/models/lm/transformer.h"

namespace cajal::surgery {

/// What the FFN of a layer reads, as it comes out of the norm before it: the hook point and the way
/// from its value, which is before the norm's own scale and shift, to x and back.
class FfnInput {
 public:
  FfnInput(const lm::Transformer& model, size_t layer);

  const std::string& point() const { return point_; }
  torch::Tensor from_point(const torch::Tensor& value) const;  // x, fp32
  torch::Tensor to_point(const torch::Tensor& x) const;

 private:
  std::string point_;
  torch::Tensor scale_, shift_;  // undefined where there is none
};

using LayerVisitor = std::function<void(size_t layer, const torch::Tensor& rows)>;

/// Runs the first `tokens` of `ids` (whole windows of 512 or the model's context) through the model
/// and shows what each FFN reads, x [tokens, width], and, if asked for, what the residual stream
/// behind each layer holds. Throws Error when the text is shorter than a window.
void visit_inputs(lm::Transformer& model, std::span<const int32_t> ids, int64_t tokens,
                  const LayerVisitor& on_input, const LayerVisitor& on_residual = {});

}  // namespace cajal::surgery
