#include "cajal/layers/graph/sparse.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "cajal/core/error.h"

namespace cajal::graph {
namespace {

torch::Tensor begins(const torch::Tensor& sorted, int64_t count) {
  auto sizes = torch::bincount(sorted, {}, count);
  return torch::cat({torch::zeros({1}, sizes.options()), sizes.cumsum(0)});
}

void require_indices(const torch::Tensor& index, int64_t count, const char* name) {
  require(index.dim() == 1 && index.scalar_type() == torch::kLong,
          "sparse pattern: {}: expected int64 [entries], got {}", name, shape_text(index.sizes()));
  if (index.numel() == 0) return;
  const auto low = index.min().item<int64_t>(), high = index.max().item<int64_t>();
  require(low >= 0 && high < count, "sparse pattern: {} from {} to {}, expected 0 to {}", name, low,
          high, count - 1);
}

/// Lists for each output row which entries to add up and which input row each reads.
struct Lists {
  torch::Tensor begin, entry, source;  // entry undefined: in order
};

template <class T>
void add_up(const Lists& lists, const T* value, const T* x, T* y, int64_t rows, int64_t heads,
            int64_t width) {
  const auto* begin = lists.begin.data_ptr<int64_t>();
  const auto* source = lists.source.data_ptr<int64_t>();
  const auto* entry = lists.entry.defined() ? lists.entry.data_ptr<int64_t>() : nullptr;
  at::parallel_for(0, rows, 64, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      T* out = y + i * heads * width;
      for (int64_t k = begin[i]; k < begin[i + 1]; ++k) {
        const int64_t e = entry == nullptr ? k : entry[k];
        const T* in = x + source[e] * heads * width;
        for (int64_t h = 0; h < heads; ++h) {
          const T factor = value == nullptr ? T(1) : value[e * heads + h];
          for (int64_t j = 0; j < width; ++j) out[h * width + j] += factor * in[h * width + j];
        }
      }
    }
  });
}

/// x and the result [., heads, width], value [entries, heads] or undefined.
torch::Tensor sum_rows(const Lists& lists, const torch::Tensor& target, const torch::Tensor& value,
                       const torch::Tensor& x, int64_t rows) {
  auto y = torch::zeros({rows, x.size(1), x.size(2)}, x.options());
  const auto type = x.scalar_type();
  if (!x.device().is_cpu() || (type != torch::kFloat && type != torch::kDouble)) {
    auto sent = x.index_select(0, lists.source);
    if (value.defined()) sent = sent * value.unsqueeze(-1);
    return y.index_add_(0, target, sent);
  }
  const auto in = x.contiguous(), factor = value.defined() ? value.contiguous() : value;
  const auto run = [&]<class T>(T) {
    add_up<T>(lists, factor.defined() ? factor.data_ptr<T>() : nullptr, in.data_ptr<T>(),
              y.data_ptr<T>(), rows, x.size(1), x.size(2));
  };
  type == torch::kFloat ? run(0.f) : run(0.0);
  return y;
}

class Multiply : public torch::autograd::Function<Multiply> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& x,
                               const torch::Tensor& value, const Pattern& p) {
    // The pattern is the graph, not an activation: it is there anyway.
    context->saved_data["begin"] = p.column_begin, context->saved_data["entry"] = p.by_column;
    context->saved_data["row"] = p.row, context->saved_data["column"] = p.column;
    context->saved_data["columns"] = p.columns;
    const bool weighs = value.defined() && value.requires_grad();
    context->save_for_backward({value, weighs ? x : torch::Tensor()});
    return sum_rows({p.begin, {}, p.column}, p.row, value, x, p.rows);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto of = [&](const char* name) { return context->saved_data[name].toTensor(); };
    const auto row = of("row"), column = of("column");
    torch::Tensor for_x, for_value;
    if (context->needs_input_grad(0))
      for_x = sum_rows({of("begin"), of("entry"), row}, column, saved[0], gradients[0],
                       context->saved_data["columns"].toInt());
    if (saved[1].defined())
      for_value = (gradients[0].index_select(0, row) * saved[1].index_select(0, column)).sum(-1);
    return {for_x, for_value, {}};
  }
};

/// The largest score of its row for each entry, so that no exponential overflows.
torch::Tensor row_tops(const Pattern& p, const torch::Tensor& score) {
  const auto values = score.to(torch::kCPU, torch::kDouble).contiguous();
  const auto begin = p.begin.to(torch::kCPU);
  auto tops = torch::empty_like(values);
  const auto heads = values.size(1);
  const auto* from = values.data_ptr<double>();
  const auto* row = begin.data_ptr<int64_t>();
  auto* to = tops.data_ptr<double>();
  for (int64_t i = 0; i < p.rows; ++i)
    for (int64_t h = 0; h < heads; ++h) {
      double top = -INFINITY;
      for (int64_t e = row[i]; e < row[i + 1]; ++e) top = std::max(top, from[e * heads + h]);
      for (int64_t e = row[i]; e < row[i + 1]; ++e) to[e * heads + h] = top;
    }
  return tops.to(score.options());
}

}  // namespace

Pattern pattern(const torch::Tensor& row, const torch::Tensor& column, int64_t rows,
                int64_t columns, torch::Tensor* order) {
  require(row.numel() == column.numel(), "sparse pattern: {} rows for {} columns", row.numel(),
          column.numel());
  require_indices(row, rows, "rows"), require_indices(column, columns, "columns");
  Pattern p;
  p.rows = rows, p.columns = columns;
  const auto by_row = torch::argsort(row, /*stable=*/true, 0, false);
  if (order != nullptr) *order = by_row;
  p.row = row.index_select(0, by_row), p.column = column.index_select(0, by_row);
  p.begin = begins(p.row, rows);
  p.by_column = torch::argsort(p.column, /*stable=*/true, 0, false);
  p.column_begin = begins(p.column, columns);
  return p;
}

Pattern messages(const torch::Tensor& edges, int64_t nodes) {
  require(edges.dim() == 2 && edges.size(0) == 2, "edges: expected int64 [2, edges], got {}",
          shape_text(edges.sizes()));
  return pattern(edges[1], edges[0], nodes, nodes);
}

Pattern messages_with_loops(const torch::Tensor& edges, int64_t nodes) {
  require(edges.dim() == 2 && edges.size(0) == 2, "edges: expected int64 [2, edges], got {}",
          shape_text(edges.sizes()));
  const auto others = edges.index_select(1, edges[0].ne(edges[1]).nonzero().flatten());
  const auto loops = torch::arange(nodes, edges.options()).expand({2, nodes});
  return messages(torch::cat({others, loops}, 1), nodes);
}

torch::Tensor multiply(const Pattern& p, const torch::Tensor& value, const torch::Tensor& x) {
  const bool heads = x.dim() == 3;
  require(heads || x.dim() == 2, "sparse product: x is {}, expected [columns, width] or with heads",
          shape_text(x.sizes()));
  require(x.size(0) == p.columns, "sparse product: x has {} rows, the matrix {} columns", x.size(0),
          p.columns);
  require(!value.defined() || (value.dim() == x.dim() - 1 && value.size(0) == p.entries()),
          "sparse product: values {} for {} entries and x {}",
          value.defined() ? shape_text(value.sizes()) : "", p.entries(), shape_text(x.sizes()));
  if (heads) return Multiply::apply(x, value, p);
  const auto factor = value.defined() ? value.unsqueeze(1) : value;
  return Multiply::apply(x.unsqueeze(1), factor, p).squeeze(1);
}

torch::Tensor row_softmax(const Pattern& p, const torch::Tensor& score) {
  require(score.dim() == 2 && score.size(0) == p.entries(),
          "row softmax: scores {} for {} entries, expected [entries, heads]",
          shape_text(score.sizes()), p.entries());
  const auto power = (score - row_tops(p, score.detach())).exp();
  const auto sum = torch::zeros({p.rows, score.size(1)}, power.options().requires_grad(false))
                       .index_add(0, p.row, power);
  return power / sum.index_select(0, p.row);
}

torch::Tensor Features::times(const torch::Tensor& weight) const {
  require(weight.dim() == 2 && weight.size(1) == width(), "features are {} wide, weights are {}",
          width(), shape_text(weight.sizes()));
  if (pattern.rows == 0) return torch::linear(dense, weight);
  const auto sparse = multiply(pattern, value, weight.narrow(1, 0, pattern.columns).t());
  if (!dense.defined()) return sparse;
  return sparse + torch::linear(dense, weight.narrow(1, pattern.columns, dense.size(1)));
}

Features Features::directions() const {
  const torch::NoGradGuard no_grad;
  auto out = *this;
  torch::Tensor squares;  // [rows]
  if (dense.defined()) squares = dense.detach().square().sum(1);
  if (pattern.rows > 0) {
    if (!squares.defined()) squares = torch::zeros({pattern.rows}, value.options());
    squares = squares.index_add(0, pattern.row, value.square());
  }
  const auto length = squares.sqrt() + 1e-8;
  if (dense.defined()) out.dense = dense.detach() / length.unsqueeze(1);
  if (pattern.rows > 0) out.value = value / length.index_select(0, pattern.row);
  return out;
}

Features Features::beside(const torch::Tensor& columns) const {
  auto out = *this;
  out.dense = dense.defined() ? torch::cat({dense, columns}, 1) : columns;
  return out;
}

Features Features::above(const torch::Tensor& more) const {
  require(more.dim() == 2 && more.size(1) == width(), "rows {} for features {} wide",
          shape_text(more.sizes()), width());
  Features out;
  if (dense.defined())
    out.dense = torch::cat({dense, more.narrow(1, pattern.columns, dense.size(1))});
  if (pattern.rows == 0) return out;
  const auto rows = torch::arange(more.size(0)).repeat_interleave(pattern.columns) + pattern.rows;
  const auto columns = torch::arange(pattern.columns).repeat({more.size(0)});
  torch::Tensor order;
  out.pattern =
      graph::pattern(torch::cat({pattern.row, rows}), torch::cat({pattern.column, columns}),
                     pattern.rows + more.size(0), pattern.columns, &order);
  out.value =
      torch::cat({value, more.narrow(1, 0, pattern.columns).flatten()}).index_select(0, order);
  return out;
}

}  // namespace cajal::graph
