#include "cajal/atlas/ensembles.h"

#include <cmath>
#include <limits>

#include "cajal/core/error.h"

namespace cajal::atlas {
namespace {

void require_rows(const torch::Tensor& h, const torch::Tensor& labels, int64_t classes) {
  require(h.dim() == 2 && h.size(0) == labels.numel() && classes > 0,
          "activations {} do not fit labels {} of {} classes", shape_text(h.sizes()),
          shape_text(labels.sizes()), classes);
}

torch::Tensor rows_of(const torch::Tensor& h, const torch::Tensor& labels, int64_t c) {
  return h.index_select(0, labels.eq(c).nonzero().flatten());
}

/// Largest (signed) difference of the distribution functions of two samples, F_b - F_a, for every
/// column: large where a lies above b. a [n, d], b [m, d] -> [d].
torch::Tensor above(const torch::Tensor& a, const torch::Tensor& b) {
  const auto as = std::get<0>(a.t().contiguous().sort(1)),
             bs = std::get<0>(b.t().contiguous().sort(1));
  const auto at = torch::cat({as, bs}, 1);
  const auto share = [&](const torch::Tensor& sorted) {
    return torch::searchsorted(sorted, at, false, true).to(torch::kDouble) /
           static_cast<double>(sorted.size(1));
  };
  return (share(bs) - share(as)).amax(1);
}

}  // namespace

torch::Tensor hoyer_sparsity(const torch::Tensor& h) {
  require(h.dim() >= 1 && h.size(-1) > 1, "sparsity needs two neurons or more, got {}",
          shape_text(h.sizes()));
  const double root = std::sqrt(static_cast<double>(h.size(-1)));
  const auto x = h.to(torch::kDouble);
  return (root - x.abs().sum(-1) / x.norm(2, -1)) / (root - 1);
}

Sparsity sparsity(const torch::Tensor& h, const torch::Tensor& labels, int64_t classes) {
  require_rows(h, labels, classes);
  const auto rows = hoyer_sparsity(h);
  const auto counted = rows.isnan().logical_not();
  Sparsity out;
  out.zero_rows = rows.numel() - counted.sum().item<int64_t>();
  out.mean = rows.masked_select(counted).mean().item<double>();
  std::vector<double> means;
  for (int64_t c = 0; c < classes; ++c) {
    const auto own = rows.masked_select(counted.logical_and(labels.eq(c)));
    if (own.numel() > 0) means.push_back(own.mean().item<double>());
  }
  if (means.size() > 1) out.class_sd = torch::tensor(means, torch::kDouble).std().item<double>();
  out.dead_share = h.ne(0).any(0).logical_not().to(torch::kDouble).mean().item<double>();
  return out;
}

torch::Tensor class_means(const torch::Tensor& h, const torch::Tensor& labels, int64_t classes) {
  require_rows(h, labels, classes);
  auto out = torch::zeros({classes, h.size(1)}, torch::kDouble);
  for (int64_t c = 0; c < classes; ++c) {
    const auto own = rows_of(h, labels, c);
    if (own.size(0) > 0) out.select(0, c).copy_(own.to(torch::kDouble).mean(0));
  }
  return out;
}

torch::Tensor ensembles(const torch::Tensor& h, const torch::Tensor& labels, int64_t classes,
                        double factor) {
  require(h.dim() == 2 && h.size(1) > 1, "ensembles need two neurons or more, got {}",
          shape_text(h.sizes()));
  const auto mean = class_means(h, labels, classes);
  const auto others = (mean.sum(1, true) - mean) / static_cast<double>(mean.size(1) - 1);
  return mean > factor * others;
}

torch::Tensor ensembles_by_test(const torch::Tensor& h, const torch::Tensor& labels,
                                int64_t classes, double p) {
  require_rows(h, labels, classes);
  require(p > 0 && p < 1, "a level between 0 and 1 was expected, got {}", p);
  // One-sided test: P(D > d) = exp(-2 d² nm / (n + m)) in the limit of large samples.
  auto out = torch::zeros({classes, h.size(1)}, torch::kBool);
  for (int64_t c = 0; c < classes; ++c) {
    const auto own = rows_of(h, labels, c);
    if (own.size(0) < 2) continue;
    auto member = torch::ones({h.size(1)}, torch::kBool);
    for (int64_t other = 0; other < classes; ++other) {
      const auto theirs = rows_of(h, labels, other);
      if (other == c || theirs.size(0) < 2) continue;
      const auto n = static_cast<double>(own.size(0)), m = static_cast<double>(theirs.size(0));
      member.logical_and_(above(own, theirs) > std::sqrt(-std::log(p) * (n + m) / (2 * n * m)));
    }
    out.select(0, c).copy_(member);
  }
  return out;
}

torch::Tensor overlap(const torch::Tensor& ensembles) {
  const auto member = ensembles.to(torch::kDouble);
  return member.matmul(member.t()).to(torch::kLong);
}

torch::Tensor jaccard_overlap(const torch::Tensor& ensembles) {
  const auto shared = overlap(ensembles).to(torch::kDouble);
  const auto size = shared.diagonal();
  return shared / (size.unsqueeze(0) + size.unsqueeze(1) - shared).clamp_min(1);
}

EnsembleCensus census_of(const torch::Tensor& ensembles, const torch::Tensor& weight) {
  require(ensembles.dim() == 2 && weight.dim() == 2 && weight.size(0) == ensembles.size(1),
          "ensembles {} do not fit weights {}", shape_text(ensembles.sizes()),
          shape_text(weight.sizes()));
  const auto classes = ensembles.size(0);
  EnsembleCensus out;
  const auto sizes = ensembles.to(torch::kDouble).mean(1);
  out.median_share = sizes.quantile(0.5).item<double>();
  if (classes > 1) {
    const auto all = jaccard_overlap(ensembles);
    out.mean_jaccard =
        ((all.sum() - all.diagonal().sum()) / static_cast<double>(classes * (classes - 1)))
            .item<double>();
  }
  const auto member = ensembles.any(0);
  out.members_share = member.to(torch::kDouble).mean().item<double>();
  const auto into = weight.index_select(0, member.nonzero().flatten());
  out.negative_in = into.numel() == 0 ? std::numeric_limits<double>::quiet_NaN()
                                      : into.lt(0).to(torch::kDouble).mean().item<double>();
  return out;
}

}  // namespace cajal::atlas
