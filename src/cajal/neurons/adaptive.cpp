#include "cajal/neurons/adaptive.h"

#include <cmath>

namespace cajal {
namespace {

torch::Tensor law_at(const std::string& text, const torch::Tensor& x) {
  const torch::NoGradGuard no_grad;
  return Elementwise(parse_elementwise(text))->forward(x);
}

}  // namespace

torch::Tensor AbReluImpl::forward(const torch::Tensor& x) const {
  if (options.mean == MeanOf::tensor || x.dim() == 0) return torch::relu(x - x.mean());
  std::vector<int64_t> axes;
  for (int64_t i = 1; i < x.dim(); ++i) axes.push_back(i);
  return torch::relu(axes.empty() ? x - x : x - x.mean(axes, /*keepdim=*/true));
}

AplImpl::AplImpl(const AplOptions& o) : options(o) {
  require(o.segments > 0, "apl: segments must be positive, got {}", o.segments);
  slope = register_parameter("slope", torch::zeros({o.segments}));
  knot = register_parameter("knot", torch::linspace(-1, 1, o.segments));
}

torch::Tensor AplImpl::forward(const torch::Tensor& x) const {
  auto y = torch::relu(x);
  for (int64_t i = 0; i < options.segments; ++i) y = y + slope[i] * torch::relu(knot[i] - x);
  return y;
}

PolynomialActivationImpl::PolynomialActivationImpl(const PolynomialOptions& o) : options(o) {
  require(o.degree > 0 && o.degree <= 16, "slaf: degree must be 1 to 16, got {}", o.degree);
  auto start = torch::zeros({o.degree + 1});
  start[1] = 1;
  coefficient = register_parameter("coefficient", start);
}

torch::Tensor PolynomialActivationImpl::forward(const torch::Tensor& x) const {
  auto y = coefficient[options.degree] * x + coefficient[options.degree - 1];
  for (int64_t k = options.degree - 2; k >= 0; --k) y = y * x + coefficient[k];
  return y;
}

TableActivationImpl::TableActivationImpl(const TableOptions& o) : options(o) {
  require(o.pieces >= 2 && o.pieces <= 65'536,
          "table_activation: pieces must be 2 to 65536, got {}", o.pieces);
  require(o.range > 0, "table_activation: range must be positive, got {}", o.range);
  const auto start = law_at(o.like, torch::linspace(-o.range, o.range, o.pieces + 1));
  if (o.kind != TableKind::bins) {
    value = register_parameter("value", start);
    return;
  }
  const double width = 2 * o.range / static_cast<double>(o.pieces);
  const auto left = torch::linspace(-o.range, o.range - width, o.pieces);
  slope = register_parameter("slope", start.diff() / width);
  offset = register_parameter("offset", (start.slice(0, 0, -1) - slope.detach() * left).clone());
}

torch::Tensor TableActivationImpl::forward(const torch::Tensor& x) const {
  const double width = 2 * options.range / static_cast<double>(options.pieces);
  const auto place = (x + options.range) / width;  // in pieces from the left end
  const auto piece = place.detach().floor().clamp(0, options.pieces - 1).to(torch::kLong);
  const auto take = [&](const torch::Tensor& table, const torch::Tensor& at) {
    return table.index_select(0, at.reshape(-1)).reshape(at.sizes());
  };
  if (options.kind == TableKind::bins) return take(slope, piece) * x + take(offset, piece);
  const auto t = place - piece;  // in [0, 1] inside the table
  const auto p1 = take(value, piece), p2 = take(value, piece + 1);
  if (options.kind == TableKind::linear) return p1 + (p2 - p1) * t;
  // Neighbours beyond the ends lie on the line through the last two.
  const auto before = torch::where(piece > 0, take(value, (piece - 1).clamp_min(0)), 2 * p1 - p2);
  const auto after = torch::where(piece < options.pieces - 1,
                                  take(value, (piece + 2).clamp_max(options.pieces)), 2 * p2 - p1);
  const auto m1 = (p2 - before) / 2, m2 = (after - p1) / 2, u = t.clamp(0, 1);
  const auto inside =
      p1 + u * (m1 + u * ((3 * (p2 - p1) - 2 * m1 - m2) + u * (2 * (p1 - p2) + m1 + m2)));
  return inside + torch::where(t > 1, (t - 1) * m2, torch::where(t < 0, t * m1, t * 0));
}

KernelActivationImpl::KernelActivationImpl(const KernelActivationOptions& o) : options(o) {
  require(o.points >= 2 && o.points <= 1024, "kernel_activation: points must be 2 to 1024, got {}",
          o.points);
  require(o.range > 0, "kernel_activation: range must be positive, got {}", o.range);
  const auto at = torch::linspace(-o.range, o.range, o.points, torch::kDouble);
  const auto apart = (at.unsqueeze(1) - at) * static_cast<double>(o.points - 1) / (2 * o.range);
  const auto kernel = torch::exp(apart.square() * (-1.0 / 6));
  const auto ridge = kernel + 1e-6 * torch::eye(o.points, torch::kDouble);
  // The inverse of a small symmetric positive matrix; solvers changed their names between versions.
  const auto start = torch::matmul(ridge.inverse(), law_at(o.like, at).unsqueeze(1)).squeeze(1);
  weight = register_parameter("weight", start.to(torch::kFloat));
}

torch::Tensor KernelActivationImpl::forward(const torch::Tensor& x) const {
  const double width = 2 * options.range / static_cast<double>(options.points - 1);
  auto y = torch::zeros_like(x);
  for (int64_t i = 0; i < options.points; ++i) {
    const auto apart = (x + (options.range - width * static_cast<double>(i))) / width;
    y = y + weight[i] * torch::exp(apart.square() * (-1.0 / 6));
  }
  return y;
}

BlendedActivationImpl::BlendedActivationImpl(const BlendOptions& o) : options(o) {
  require(!o.laws.empty(), "blended_activation: laws is empty, expected at least one");
  const auto count = static_cast<int64_t>(o.laws.size());
  weight = register_parameter("weight", torch::full({count}, 1.0 / static_cast<double>(count)));
  for (size_t i = 0; i < o.laws.size(); ++i)
    laws_.push_back(
        register_module("law" + std::to_string(i), Elementwise(parse_elementwise(o.laws[i]))));
}

torch::Tensor BlendedActivationImpl::forward(const torch::Tensor& x) const {
  torch::Tensor y;
  for (size_t i = 0; i < laws_.size(); ++i) {
    const auto part = weight[static_cast<int64_t>(i)] * laws_[i]->forward(x);
    y = y.defined() ? y + part : part;
  }
  return y;
}

VariableActivationImpl::VariableActivationImpl(const VariableActivationOptions& o) : options(o) {
  require(o.hidden > 0 && o.hidden <= 1024, "vaf: hidden must be 1 to 1024, got {}", o.hidden);
  laws::at(o.law);
  const double bound = 1 / std::sqrt(static_cast<double>(o.hidden));
  in = register_parameter("in", torch::empty({o.hidden}).uniform_(-1, 1));
  bias = register_parameter("bias", torch::empty({o.hidden}).uniform_(-1, 1));
  out = register_parameter("out", torch::empty({o.hidden}).uniform_(-bound, bound));
  bias_out = register_parameter("bias_out", torch::zeros({1}));
}

torch::Tensor VariableActivationImpl::forward(const torch::Tensor& x) const {
  const auto& law = laws::at(options.law);
  torch::Tensor starts;
  if (!law.parameters.empty()) {
    std::vector<double> values;
    for (const auto& parameter : law.parameters) values.push_back(parameter.start);
    starts = torch::tensor(values, x.options());
  }
  auto y = bias_out.expand(x.sizes());
  for (int64_t j = 0; j < options.hidden; ++j)
    y = y + out[j] * apply_law(law, in[j] * x + bias[j], starts);
  return y;
}

}  // namespace cajal
