#include "cajal/layers/mixers/key_lists.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "cajal/core/error.h"

namespace cajal::mixers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

constexpr int64_t kRows = 16;  // queries whose scores are at hand at a time

SparseRows rows_of(const KeyLists& lists, int64_t head, int64_t first, int64_t count) {
  const int64_t most = lists.most(), row = head * lists.counts.size(1) + first;
  return {lists.places.data_ptr<int32_t>() + row * most, lists.counts.data_ptr<int32_t>() + row,
          count, most};
}

SparseRows rows_of(const KeyLists& lists, int64_t head) {
  return rows_of(lists, head, 0, lists.counts.size(1));
}

void over_heads(int64_t heads, const std::function<void(int64_t)>& run) {
  at::parallel_for(0, heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t head = begin; head < end; ++head) run(head);
  });
}

template <class T>
const T* at(const torch::Tensor& t, int64_t head) {
  return t.data_ptr<T>() + head * t.size(1) * t.size(2);
}
template <class T>
T* at(torch::Tensor& t, int64_t head) {
  return t.data_ptr<T>() + head * t.size(1) * t.size(2);
}

torch::Tensor products(const torch::Tensor& a, const torch::Tensor& b, const KeyLists& lists) {
  auto out = torch::zeros({a.size(0), a.size(1), lists.most()}, a.options());
  AT_DISPATCH_FLOATING_TYPES(a.scalar_type(), "listed_products", [&] {
    over_heads(a.size(0), [&](int64_t h) {
      sparse_dots(at<scalar_t>(a, h), at<scalar_t>(b, h), a.size(2), rows_of(lists, h),
                  at<scalar_t>(out, h));
    });
  });
  return out;
}

torch::Tensor sums(const torch::Tensor& p, const torch::Tensor& b, const KeyLists& lists) {
  auto out = torch::empty({p.size(0), p.size(1), b.size(2)}, b.options());
  AT_DISPATCH_FLOATING_TYPES(b.scalar_type(), "listed_sum", [&] {
    over_heads(p.size(0), [&](int64_t h) {
      sparse_sum(at<scalar_t>(p, h), at<scalar_t>(b, h), b.size(2), rows_of(lists, h),
                 at<scalar_t>(out, h));
    });
  });
  return out;
}

torch::Tensor spread(const torch::Tensor& p, const torch::Tensor& a, const KeyLists& lists,
                     int64_t keys) {
  auto out = torch::zeros({a.size(0), keys, a.size(2)}, a.options());
  AT_DISPATCH_FLOATING_TYPES(a.scalar_type(), "listed_spread", [&] {
    over_heads(a.size(0), [&](int64_t h) {
      sparse_spread(at<scalar_t>(p, h), at<scalar_t>(a, h), a.size(2), rows_of(lists, h),
                    at<scalar_t>(out, h));
    });
  });
  return out;
}

torch::Tensor past_counts(const KeyLists& lists) {
  return torch::arange(lists.most(), torch::kInt) >= lists.counts.unsqueeze(-1);
}

struct Products : Function<Products> {
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& q,
                               const torch::Tensor& k, const torch::Tensor& places,
                               const torch::Tensor& counts) {
    context->save_for_backward({q, k, places, counts});
    return products(q, k, {places, counts});
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const KeyLists lists{saved[2], saved[3]};
    const auto g = gradients[0].contiguous();
    return {sums(g, saved[1], lists), spread(g, saved[0], lists, saved[1].size(1)), {}, {}};
  }
};

struct Sums : Function<Sums> {
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& p,
                               const torch::Tensor& v, const torch::Tensor& places,
                               const torch::Tensor& counts) {
    context->save_for_backward({p, v, places, counts});
    return sums(p, v, {places, counts});
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const KeyLists lists{saved[2], saved[3]};
    const auto g = gradients[0].contiguous();
    return {products(g, saved[1], lists), spread(saved[0], g, lists, saved[1].size(1)), {}, {}};
  }
};

template <class T>
struct AttentionView {
  const torch::Tensor &q, &k, &v;
  const KeyLists& lists;
  T scale, clamp;

  int64_t width() const { return q.size(2); }

  // Scaled products, unclamped, of some queries.
  void scores(int64_t head, int64_t first, const SparseRows& rows, T* out) const {
    sparse_dots(at<T>(q, head) + first * width(), at<T>(k, head), width(), rows, out);
    for (int64_t i = 0; i < rows.rows; ++i)
      for (int64_t e = 0; e < rows.counts[i]; ++e) out[i * rows.most + e] *= scale;
  }
  T clamped(T score) const { return clamp > 0 ? std::clamp(score, -clamp, clamp) : score; }
};

template <class T>
void attend_forward(const AttentionView<T>& view, torch::Tensor& y, torch::Tensor& logs) {
  const int64_t queries = view.q.size(1), most = view.lists.most(), wide = view.v.size(2);
  over_heads(view.q.size(0), [&](int64_t h) {
    std::vector<T> p(static_cast<size_t>(kRows * most));
    for (int64_t first = 0; first < queries; first += kRows) {
      const auto rows = rows_of(view.lists, h, first, std::min(kRows, queries - first));
      view.scores(h, first, rows, p.data());
      for (int64_t i = 0; i < rows.rows; ++i) {
        T* const row = p.data() + i * most;
        const int64_t count = rows.counts[i];
        T largest = -std::numeric_limits<T>::infinity(), total = 0;
        for (int64_t e = 0; e < count; ++e) row[e] = view.clamped(row[e]);
        for (int64_t e = 0; e < count; ++e) largest = std::max(largest, row[e]);
        for (int64_t e = 0; e < count; ++e) total += row[e] = std::exp(row[e] - largest);
        for (int64_t e = 0; e < count; ++e) row[e] /= total;
        logs.data_ptr<T>()[h * queries + first + i] = count > 0 ? largest + std::log(total) : 0;
      }
      sparse_sum(p.data(), at<T>(view.v, h), wide, rows, at<T>(y, h) + first * wide);
    }
  });
}

struct Gradients {
  torch::Tensor q, k, v;
};

template <class T>
void attend_backward(const AttentionView<T>& view, const torch::Tensor& logs,
                     const torch::Tensor& dy, Gradients& out) {
  const int64_t queries = view.q.size(1), most = view.lists.most(), wide = view.v.size(2);
  over_heads(view.q.size(0), [&](int64_t h) {
    std::vector<T> p(static_cast<size_t>(kRows * most)), slope(p.size());
    std::vector<T> passes(static_cast<size_t>(most));  // 0 where the clamp held the score
    for (int64_t first = 0; first < queries; first += kRows) {
      const auto rows = rows_of(view.lists, h, first, std::min(kRows, queries - first));
      const T* const dy_rows = at<T>(dy, h) + first * wide;
      view.scores(h, first, rows, p.data());
      sparse_dots(dy_rows, at<T>(view.v, h), wide, rows, slope.data());
      for (int64_t i = 0; i < rows.rows; ++i) {
        T *const row = p.data() + i * most, *const d = slope.data() + i * most;
        const T log_total = logs.data_ptr<T>()[h * queries + first + i];
        T mean = 0;
        for (int64_t e = 0; e < rows.counts[i]; ++e) {
          const T score = view.clamped(row[e]), weight = std::exp(score - log_total);
          mean += weight * d[e];
          passes[static_cast<size_t>(e)] = score == row[e] ? view.scale : T{0};
          row[e] = weight;
        }
        for (int64_t e = 0; e < rows.counts[i]; ++e)
          d[e] = row[e] * (d[e] - mean) * passes[static_cast<size_t>(e)];
      }
      sparse_sum(slope.data(), at<T>(view.k, h), view.width(), rows,
                 at<T>(out.q, h) + first * view.width());
      sparse_spread(slope.data(), at<T>(view.q, h) + first * view.width(), view.width(), rows,
                    at<T>(out.k, h));
      sparse_spread(p.data(), dy_rows, wide, rows, at<T>(out.v, h));
    }
  });
}

struct Attend : Function<Attend> {
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& q,
                               const torch::Tensor& k, const torch::Tensor& v,
                               const torch::Tensor& places, const torch::Tensor& counts,
                               double scale, double clamp) {
    const KeyLists lists{places, counts};
    auto y = torch::empty({q.size(0), q.size(1), v.size(2)}, q.options());
    auto logs = torch::empty({q.size(0), q.size(1)}, q.options());
    AT_DISPATCH_FLOATING_TYPES(q.scalar_type(), "listed_attention", [&] {
      attend_forward<scalar_t>(
          {q, k, v, lists, static_cast<scalar_t>(scale), static_cast<scalar_t>(clamp)}, y, logs);
    });
    context->save_for_backward({q, k, v, places, counts, logs});
    context->saved_data["scale"] = scale, context->saved_data["clamp"] = clamp;
    return y;
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto &q = saved[0], &k = saved[1], &v = saved[2];
    const KeyLists lists{saved[3], saved[4]};
    const double scale = context->saved_data["scale"].toDouble();
    const double clamp = context->saved_data["clamp"].toDouble();
    Gradients out{torch::empty_like(q), torch::zeros_like(k), torch::zeros_like(v)};
    const auto dy = gradients[0].contiguous();
    AT_DISPATCH_FLOATING_TYPES(q.scalar_type(), "listed_attention", [&] {
      attend_backward<scalar_t>(
          {q, k, v, lists, static_cast<scalar_t>(scale), static_cast<scalar_t>(clamp)}, saved[5],
          dy, out);
    });
    return {out.q, out.k, out.v, {}, {}, {}, {}};
  }
};

void check(const char* what, const torch::Tensor& a, const torch::Tensor& b,
           const KeyLists& lists) {
  require(a.device().is_cpu(), "{}: lists of keys are read on the CPU only, not on {}", what,
          a.device().str());
  require(a.dim() == 3 && b.dim() == 3 && a.size(0) == b.size(0) &&
              a.scalar_type() == b.scalar_type() &&
              (a.scalar_type() == torch::kFloat || a.scalar_type() == torch::kDouble),
          "{}: {} and {}, expected fp32 or double [heads, rows, width] of as many heads", what,
          shape_text(a.sizes()), shape_text(b.sizes()));
  require(lists.counts.size(0) == a.size(0) && lists.counts.size(1) == a.size(1),
          "{}: lists are {}, expected one for each of {}", what, shape_text(lists.counts.sizes()),
          shape_text(a.sizes()));
}

}  // namespace

torch::Tensor KeyLists::dense(int64_t keys) const {
  // One column more takes what stands past the counts.
  const auto where = places.to(torch::kLong).masked_fill(past_counts(*this), keys);
  const auto all = torch::zeros({places.size(0), places.size(1), keys + 1}, torch::kBool);
  return all.scatter(-1, where, true).narrow(-1, 0, keys);
}

torch::Tensor listed_products(const torch::Tensor& q, const torch::Tensor& k,
                              const KeyLists& lists) {
  check("listed_products", q, k, lists);
  require(q.size(2) == k.size(2), "listed_products: widths {} and {}", q.size(2), k.size(2));
  return Products::apply(q.contiguous(), k.contiguous(), lists.places, lists.counts);
}

torch::Tensor listed_softmax(const torch::Tensor& values, const KeyLists& lists) {
  const auto past = past_counts(lists);
  const auto p = torch::softmax(values.masked_fill(past, -INFINITY), -1);
  return p.masked_fill(past, 0);  // also where a list is empty
}

torch::Tensor listed_sum(const torch::Tensor& p, const torch::Tensor& v, const KeyLists& lists) {
  check("listed_sum", p, v, lists);
  return Sums::apply(p.contiguous(), v.contiguous(), lists.places, lists.counts);
}

torch::Tensor listed_attention(const torch::Tensor& q, const torch::Tensor& k,
                               const torch::Tensor& v, const KeyLists& lists, double scale,
                               double clamp) {
  check("listed_attention", q, k, lists);
  check("listed_attention", q, v, lists);
  require(q.size(2) == k.size(2) && k.size(1) == v.size(1),
          "listed_attention: q {}, k {}, v {} do not fit together", shape_text(q.sizes()),
          shape_text(k.sizes()), shape_text(v.sizes()));
  return Attend::apply(q.contiguous(), k.contiguous(), v.contiguous(), lists.places, lists.counts,
                       scale, clamp);
}

double listed_mass(const torch::Tensor& q, const torch::Tensor& k, const KeyLists& lists,
                   double scale, bool causal) {
  check("listed_mass", q, k, lists);
  const torch::NoGradGuard no_grad;
  const int64_t queries = q.size(1), keys = k.size(1);
  auto scores = torch::matmul(q, k.transpose(1, 2)) * scale;
  auto seen = torch::full({queries}, keys, torch::kLong);
  if (causal) {
    const auto future = torch::ones({queries, keys}, torch::kBool).triu(keys - queries + 1);
    scores = scores.masked_fill(future, -INFINITY);
    seen = torch::arange(keys - queries + 1, keys + 1);
  }
  const auto mass = (torch::softmax(scores, -1) * lists.dense(keys)).sum(-1);
  return mass.index_select(1, seen.gt(lists.most()).nonzero().squeeze(1)).mean().item<double>();
}

}  // namespace cajal::mixers
