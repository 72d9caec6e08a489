#include "cajal/layers/vision/depthwise.h"

#include "cajal/core/error.h"

namespace cajal {
namespace {

using torch::Tensor;

/// All pictures of a channel stand behind each other as one line, so that an element of the kernel
/// is one pass over the line, shifted. Where a shift runs over an edge of a picture it computes
/// what nobody reads.
struct Lines {
  int64_t width = 0, kernel_height = 0, kernel_width = 0, length = 0;  // length of what is summed

  Lines(const Tensor& planes, const Tensor& kernels)
      : width(planes.size(3)),
        kernel_height(kernels.size(1)),
        kernel_width(kernels.size(2)),
        length(planes[0].numel() - (kernel_height - 1) * width - kernel_width + 1) {}

  /// each(channel, index of the element in all kernels, where its shifted line begins)
  template <class Each>
  void for_each(int64_t channels, const Each& each) const {
    for (int64_t c = 0, k = 0; c < channels; ++c)
      for (int64_t i = 0; i < kernel_height; ++i)
        for (int64_t j = 0; j < kernel_width; ++j, ++k) each(c, k, i * width + j);
  }
  Tensor part(const Tensor& lines, int64_t channel, int64_t begin) const {
    return lines[channel].narrow(0, begin, length);
  }
};

/// [batch, channels, ...] as [channels, batch, ...], and back.
Tensor turned(const Tensor& x) { return x.transpose(0, 1).contiguous(); }

Tensor corner(const Tensor& planes, const Lines& at) {
  return planes.slice(2, 0, planes.size(2) - at.kernel_height + 1)
      .slice(3, 0, at.width - at.kernel_width + 1);
}

class Depthwise : public torch::autograd::Function<Depthwise> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x,
                        const Tensor& kernels) {
    context->save_for_backward({x, kernels});
    const auto planes = turned(x);
    const Lines at(planes, kernels);
    const auto lines = planes.flatten(1);
    const auto sums = torch::zeros_like(planes);
    const auto out = sums.flatten(1);
    const auto values = kernels.to(torch::kDouble).contiguous();
    at.for_each(x.size(1), [&](int64_t c, int64_t k, int64_t begin) {
      at.part(out, c, 0).add_(at.part(lines, c, begin), values.data_ptr<double>()[k]);
    });
    return turned(corner(sums, at));
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &kernels = saved[1];
    const auto planes = turned(x);
    const Lines at(planes, kernels);
    const auto wide = torch::zeros_like(planes);
    corner(wide, at).copy_(gradients[0].transpose(0, 1));
    const auto lines = planes.flatten(1), above = wide.flatten(1);
    Tensor of_x, of_kernels;
    if (context->needs_input_grad(1)) {
      std::vector<Tensor> sums;
      at.for_each(x.size(1), [&](int64_t c, int64_t, int64_t begin) {
        sums.push_back(torch::dot(at.part(above, c, 0), at.part(lines, c, begin)));
      });
      of_kernels = torch::stack(sums).view_as(kernels);
    }
    if (context->needs_input_grad(0)) {
      const auto below = torch::zeros_like(lines);
      const auto values = kernels.to(torch::kDouble).contiguous();
      at.for_each(x.size(1), [&](int64_t c, int64_t k, int64_t begin) {
        at.part(below, c, begin).add_(at.part(above, c, 0), values.data_ptr<double>()[k]);
      });
      of_x = turned(below.view_as(planes));
    }
    return {of_x, of_kernels};
  }
};

}  // namespace

Tensor depthwise_convolution(const Tensor& x, const Tensor& kernels) {
  require(x.dim() == 4 && kernels.dim() == 3 && x.size(1) == kernels.size(0) &&
              kernels.size(1) <= x.size(2) && kernels.size(2) <= x.size(3),
          "depthwise convolution: x is {}, kernels {}, expected [batch, channels, height, width] "
          "and a smaller [channels, kernel_height, kernel_width]",
          shape_text(x.sizes()), shape_text(kernels.sizes()));
  const int64_t unpadded = 0;
  if (!x.is_cpu()) return torch::conv2d(x, kernels.unsqueeze(1), {}, 1, unpadded, 1, x.size(1));
  return Depthwise::apply(x, kernels);
}

}  // namespace cajal
