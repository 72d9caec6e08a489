#include "cajal/neurons/elementwise.h"

#include <ATen/Parallel.h>

#include <charconv>

namespace cajal {
namespace {

using laws::Sharing;
using torch::Tensor;

constexpr int64_t kRun = 16'384;  // numbers that one thread takes at a time

/// How the elements of x share parameters: `rows` runs of `length`; run r has parameter set
/// r % sets, or, by columns, one set an element.
struct Layout {
  Sharing sharing = Sharing::all;
  int64_t rows = 0, length = 0, sets = 1;
};

Layout layout(const Tensor& x, const Tensor& parameters, int64_t axis) {
  if (!parameters.defined() || parameters.dim() == 1)
    return {Sharing::all, (x.numel() + kRun - 1) / kRun, kRun, 1};
  const int64_t channels = parameters.size(1);
  int64_t inner = 1;
  for (int64_t i = axis + 1; i < x.dim(); ++i) inner *= x.size(i);
  if (inner == 1)
    return {Sharing::columns, x.numel() / std::max<int64_t>(channels, 1), channels, 1};
  return {Sharing::all, x.numel() / inner, inner, channels};
}

/// Calls work(row, first element, elements, parameters of the run) on every run, in parallel.
template <class T, class Work>
void for_runs(const Layout& layout, const Tensor& x, const Tensor& parameters, const Work& work) {
  // [sets][parameters], so that a run finds its own together.
  const auto packed = layout.sets > 1 ? parameters.t().contiguous() : parameters;
  const T* p = packed.defined() ? packed.data_ptr<T>() : nullptr;
  const int64_t count = packed.defined() ? packed.size(layout.sets > 1 ? 1 : 0) : 0;
  const int64_t grain = std::max<int64_t>(1, kRun / std::max<int64_t>(layout.length, 1));
  at::parallel_for(0, layout.rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t first = row * layout.length;
      work(row, first, std::min(layout.length, x.numel() - first),
           p + (row % layout.sets) * (layout.sets > 1 ? count : 0));
    }
  });
}

template <class T>
Tensor forward_as(const laws::Law& law, const Layout& layout, const Tensor& x, const Tensor& p) {
  auto y = torch::empty_like(x);
  const T* from = x.data_ptr<T>();
  T* to = y.data_ptr<T>();
  for_runs<T>(layout, x, p, [&](int64_t, int64_t first, int64_t count, const T* parameters) {
    laws::forward(law, layout.sharing, from + first, count, parameters, to + first);
  });
  return y;
}

template <class T>
std::pair<Tensor, Tensor> backward_as(const laws::Law& law, const Layout& layout, const Tensor& x,
                                      const Tensor& p, const Tensor& dy) {
  auto dx = torch::empty_like(x);
  const T *at = x.data_ptr<T>(), *by = dy.data_ptr<T>();
  T* to = dx.data_ptr<T>();
  const auto parameters = static_cast<int64_t>(law.parameters.size());
  const int64_t columns = layout.sharing == Sharing::columns ? layout.length : 1;
  // Sums of runs, added in one order whatever the number of threads; by columns, of blocks of rows.
  const bool by_columns = layout.sharing == Sharing::columns && law.learned > 0;
  if (!by_columns) {
    auto sums = torch::zeros({layout.rows, std::max<int64_t>(parameters, 1)}, torch::kDouble);
    double* out = sums.data_ptr<double>();
    for_runs<T>(layout, x, p, [&](int64_t row, int64_t first, int64_t count, const T* own) {
      laws::backward(law, layout.sharing, at + first, by + first, count, own, to + first,
                     out + row * std::max<int64_t>(parameters, 1));
    });
    if (law.learned == 0) return {dx, Tensor()};
    sums = sums.reshape({-1, layout.sets, parameters}).sum(0);  // [sets, parameters]
    return {dx, p.dim() == 2 ? sums.t() : sums.reshape({parameters})};
  }
  const int64_t block = std::max<int64_t>(1, kRun / std::max<int64_t>(columns, 1));
  const int64_t blocks = (layout.rows + block - 1) / block;
  auto sums = torch::zeros({blocks, parameters, columns}, torch::kDouble);
  double* out = sums.data_ptr<double>();
  const T* own = p.data_ptr<T>();
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin * block; row < std::min(layout.rows, end * block); ++row)
      laws::backward(law, Sharing::columns, at + row * columns, by + row * columns, columns, own,
                     to + row * columns, out + row / block * parameters * columns);
  });
  return {dx, sums.sum(0)};
}

/// Saves x and computes what it needs again: one copy of the input, whatever the law.
struct Fused : torch::autograd::Function<Fused> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x,
                        const c10::optional<Tensor>& parameters, int64_t law, int64_t axis) {
    const auto p = parameters.value_or(Tensor());
    context->save_for_backward({x, p});
    context->saved_data["law"] = law, context->saved_data["axis"] = axis;
    const auto& which = laws::all()[static_cast<size_t>(law)];
    return x.scalar_type() == torch::kFloat ? forward_as<float>(which, layout(x, p, axis), x, p)
                                            : forward_as<double>(which, layout(x, p, axis), x, p);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &p = saved[1];
    const int64_t axis = context->saved_data["axis"].toInt();
    const auto& law = laws::all()[static_cast<size_t>(context->saved_data["law"].toInt())];
    if (torch::GradMode::is_enabled())  // a gradient of the gradient is wanted
      return by_chain(law, x, p, axis, gradients[0]);
    const auto dy = gradients[0].contiguous();
    auto [dx, dp] = x.scalar_type() == torch::kFloat
                        ? backward_as<float>(law, layout(x, p, axis), x, p, dy)
                        : backward_as<double>(law, layout(x, p, axis), x, p, dy);
    if (dp.defined()) dp = dp.to(p.scalar_type());
    return {dx, dp, Tensor(), Tensor()};
  }

  static torch::autograd::variable_list by_chain(const laws::Law& law, const Tensor& x,
                                                 const Tensor& p, int64_t axis, const Tensor& dy) {
    std::vector<Tensor> variables = {x};
    if (p.defined() && p.requires_grad()) variables.push_back(p);
    auto found = torch::autograd::grad({apply_law_as_chain(law, x, p, axis)}, variables, {dy}, true,
                                       true, true);
    found.resize(4);
    return found;
  }
};

}  // namespace

torch::Tensor apply_law(const laws::Law& law, const torch::Tensor& x,
                        const torch::Tensor& parameters, int64_t axis) {
  const auto p = law.parameters.empty() ? Tensor() : parameters;
  if (axis < 0) axis += x.dim();
  if (!law.parameters.empty()) {
    const auto count = static_cast<int64_t>(law.parameters.size());
    require(p.defined() && (p.dim() == 1 || p.dim() == 2) && p.size(0) == count,
            "{}: parameters are {}, expected [{}] or [{}, channels]", law.name,
            p.defined() ? shape_text(p.sizes()) : "missing", count, count);
    require(p.dim() == 1 || (axis >= 0 && axis < x.dim() && x.size(axis) == p.size(1)),
            "{}: x is {}, expected {} channels on axis {}", law.name, shape_text(x.sizes()),
            p.dim() == 2 ? p.size(1) : 0, axis);
  }
  const auto type = x.scalar_type();
  const bool fused = x.device().is_cpu() && (type == torch::kFloat || type == torch::kDouble);
  if (!fused) {
    if (type != torch::kHalf && type != torch::kBFloat16)
      return apply_law_as_chain(law, x, p, axis);
    return apply_law_as_chain(law, x.to(torch::kFloat), p.defined() ? p.to(torch::kFloat) : p, axis)
        .to(type);
  }
  return Fused::apply(x.contiguous(),
                      p.defined() ? c10::optional<Tensor>(p.to(type).contiguous()) : c10::nullopt,
                      int64_t{law.index}, axis);
}

ElementwiseImpl::ElementwiseImpl(const ElementwiseOptions& o) : options(o), law(laws::at(o.law)) {
  require(o.start.empty() || o.start.size() == law.parameters.size(),
          "{}: start has {} numbers, expected {} (its parameters)", o.law, o.start.size(),
          law.parameters.size());
  require(o.per == Per::layer || o.channels > 0,
          "{}: channels must be positive for parameters per channel, got {}", o.law, o.channels);
  for (size_t i = 0; i < law.parameters.size(); ++i) {
    const auto& parameter = law.parameters[i];
    const double start = o.start.empty() ? parameter.start : o.start[i];
    auto tensor = torch::full({o.per == Per::channel ? o.channels : 1}, start, torch::kFloat);
    if (parameter.learned && o.learn) {
      parameters_.push_back(register_parameter(parameter.name, tensor));
    } else {
      parameters_.push_back(tensor);
    }
  }
}

torch::Tensor ElementwiseImpl::forward(const torch::Tensor& x) const {
  require(x.is_floating_point(), "{}: x holds {}, expected floating-point numbers", options.law,
          c10::toString(x.scalar_type()));
  if (parameters_.empty()) return apply_law(law, x);
  std::vector<Tensor> own;  // constants go where x is
  for (const auto& parameter : parameters_) own.push_back(parameter.to(x.options()));
  auto p = torch::stack(own);
  return apply_law(law, x, options.per == Per::channel ? p : p.reshape({-1}), options.axis);
}

ElementwiseOptions parse_elementwise(std::string_view text, int64_t channels, int64_t axis) {
  const auto colon = std::min(text.find(':'), text.size());
  ElementwiseOptions options{
      .law = std::string(text.substr(0, colon)), .channels = channels, .axis = axis};
  const auto& law = laws::at(options.law);
  for (const auto& parameter : law.parameters) options.start.push_back(parameter.start);
  std::string_view rest = text.substr(std::min(colon + 1, text.size()));
  while (!rest.empty()) {
    const auto part = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(part.size() + 1, rest.size()));
    const auto equals = part.find('=');
    if (part == "per_channel" || part == "per_layer") {
      options.per = part == "per_channel" ? Per::channel : Per::layer;
    } else if (part == "fixed") {
      options.learn = false;
    } else if (equals != std::string_view::npos) {
      const auto name = part.substr(0, equals), number = part.substr(equals + 1);
      size_t place = law.parameters.size();
      for (size_t i = law.parameters.size(); i-- > 0;)
        if (name == law.parameters[i].name || (name == "init" && i == 0)) place = i;
      require(place < law.parameters.size(), "activation '{}': '{}' is no parameter of {}", text,
              name, law.name);
      double value = 0;
      const auto [end, error] = std::from_chars(number.begin(), number.end(), value);
      require(error == std::errc() && end == number.end() && std::isfinite(value),
              "activation '{}': '{}' is no number", text, number);
      options.start[place] = value;
    } else {
      fail("activation '{}': '{}' is not per_layer, per_channel, fixed or NAME=NUMBER", text, part);
    }
  }
  return options;
}

}  // namespace cajal
