#include "cajal/math/picture.h"

#include <cmath>

#include "cajal/core/error.h"

namespace cajal::math {
namespace {

using torch::Tensor;

double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return a * (((x - 5) * x + 8) * x - 4);
  return 0;
}

/// The matrix [to, from] that resizes one axis.
Tensor resampling(int64_t from, int64_t to) {
  const double scale = static_cast<double>(to) / static_cast<double>(from);
  const double widen = std::min(scale, 1.0);  // < 1: a wider kernel that averages
  const double support = 2 / widen;
  auto matrix = torch::zeros({to, from}, torch::kDouble);
  auto weights = matrix.accessor<double, 2>();
  for (int64_t i = 0; i < to; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) / scale - 0.5;
    const auto first = static_cast<int64_t>(std::ceil(centre - support));
    const auto last = static_cast<int64_t>(std::floor(centre + support));
    double sum = 0;
    for (int64_t j = first; j <= last; ++j) sum += cubic((static_cast<double>(j) - centre) * widen);
    for (int64_t j = first; j <= last; ++j) {
      int64_t at = ((j % (2 * from)) + 2 * from) % (2 * from);  // mirrored, edges repeated
      if (at >= from) at = 2 * from - 1 - at;
      weights[i][at] += cubic((static_cast<double>(j) - centre) * widen) / sum;
    }
  }
  return matrix;
}

}  // namespace

Tensor resize_bicubic(const Tensor& x, int64_t height, int64_t width) {
  require(x.dim() >= 2 && x.numel() > 0, "resize: {} is no picture", shape_text(x.sizes()));
  require(height > 0 && width > 0, "resize: {} x {} is no size", height, width);
  const auto down = resampling(x.size(-2), height).to(x.options());
  const auto across = resampling(x.size(-1), width).to(x.options());
  return torch::matmul(down, torch::matmul(x, across.t()));
}

Tensor round_to_8_bits(const Tensor& x) { return (x.clamp(0, 1) * 255).round() / 255; }

Tensor luma(const Tensor& rgb) {
  require(rgb.dim() >= 3 && (rgb.size(-3) == 1 || rgb.size(-3) == 3),
          "luma: {} has neither 1 nor 3 channels", shape_text(rgb.sizes()));
  if (rgb.size(-3) == 1) return rgb.select(-3, 0);
  return (16 + 65.481 * rgb.select(-3, 0) + 128.553 * rgb.select(-3, 1) +
          24.966 * rgb.select(-3, 2)) /
         255;
}

double psnr(const Tensor& a, const Tensor& b) {
  require(a.sizes() == b.sizes(), "psnr: pictures are {} and {}", shape_text(a.sizes()),
          shape_text(b.sizes()));
  const double error = (a.to(torch::kDouble) - b.to(torch::kDouble)).square().mean().item<double>();
  return -10 * std::log10(error);
}

Tensor gaussian_kernel(double sigma, int64_t radius) {
  const auto at = torch::arange(-radius, radius + 1, torch::kDouble);
  const auto one = torch::exp(at.square() * (-0.5 / (sigma * sigma)));
  const auto kernel = one.unsqueeze(1) * one;
  return kernel / kernel.sum();
}

double ssim(const Tensor& a, const Tensor& b) {
  require(a.dim() == 2 && a.sizes() == b.sizes() && a.size(0) >= 11 && a.size(1) >= 11,
          "ssim: pictures are {} and {}, expected equal [height, width] from 11 x 11 on",
          shape_text(a.sizes()), shape_text(b.sizes()));
  const auto kernel = gaussian_kernel(1.5, 5).unsqueeze(0).unsqueeze(0);
  const auto mean = [&](const Tensor& x) {
    return torch::conv2d(x.to(torch::kDouble).unsqueeze(0).unsqueeze(0), kernel);
  };
  const auto x = a.to(torch::kDouble), y = b.to(torch::kDouble);
  const auto mx = mean(x), my = mean(y);
  const auto vx = mean(x * x) - mx * mx, vy = mean(y * y) - my * my, cov = mean(x * y) - mx * my;
  constexpr double c1 = 0.01 * 0.01, c2 = 0.03 * 0.03;
  const auto map =
      (2 * mx * my + c1) * (2 * cov + c2) / ((mx.square() + my.square() + c1) * (vx + vy + c2));
  return map.mean().item<double>();
}

}  // namespace cajal::math
