#include "cajal/surgery/specialisation.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "cajal/core/error.h"
#include "cajal/math/modularity.h"

namespace cajal::surgery {
namespace {

/// Norms [tokens, neurons] as their ranks among the tokens of the same id, in (0, 1).
torch::Tensor ranks_within_ids(const torch::Tensor& norms, const torch::Tensor& ids) {
  auto out = torch::empty_like(norms);
  const auto sorted = std::get<0>(ids.sort());
  const auto [values, inverse, counts] = torch::unique_consecutive(sorted, false, true);
  for (int64_t u = 0; u < values.numel(); ++u) {
    const auto mine = ids.eq(values[u]).nonzero().squeeze(1);
    const auto rank = norms.index_select(0, mine)
                          .argsort(/*stable=*/true, 0, /*descending=*/false)
                          .argsort(/*stable=*/true, 0, /*descending=*/false);
    const auto count = static_cast<double>(mine.numel());
    out.index_copy_(0, mine, (rank.to(norms.scalar_type()) + 0.5) / count);
  }
  return out;
}

/// Walks the tokens of one neuron from the largest norm down.
class Detector {
 public:
  Detector(int64_t tokens, int64_t functions)
      : inverse_(static_cast<size_t>(tokens)), hits_(static_cast<size_t>(functions)) {
    for (int64_t r = 0; r < tokens; ++r)
      inverse_[static_cast<size_t>(r)] = 1 / static_cast<double>(r + 1);
  }

  /// Average precision for every function: `units` [tokens] in the order of the norms, each unit's
  /// function in `label`.
  void run(const int32_t* units, const uint8_t* label, double* precision) {
    std::fill(hits_.begin(), hits_.end(), 0.0);
    std::fill(precision, precision + hits_.size(), 0.0);
    for (size_t r = 0; r < inverse_.size(); ++r) {
      const uint8_t function = label[units[r]];
      precision[function] += (hits_[function] += 1) * inverse_[r];
    }
    for (size_t f = 0; f < hits_.size(); ++f) precision[f] /= std::max(1.0, hits_[f]);
  }

 private:
  std::vector<double> inverse_, hits_;
};

std::vector<uint8_t> labels(const torch::Tensor& function) {
  const auto bytes = function.to(torch::kByte).contiguous();
  return {bytes.data_ptr<uint8_t>(), bytes.data_ptr<uint8_t>() + bytes.numel()};
}

/// Precision and null of the neurons of one layer, into columns from `first`.
void judge(const torch::Tensor& units, const std::vector<std::vector<uint8_t>>& labels,
           int64_t first, Specialisation& out) {
  const int64_t neurons = units.size(0), tokens = units.size(1), functions = out.precision.size(0);
  const auto all = out.precision.size(1);
  at::parallel_for(0, neurons, 16, [&](int64_t begin, int64_t end) {
    Detector detector(tokens, functions);
    std::vector<double> precision(static_cast<size_t>(functions));
    for (int64_t i = begin; i < end; ++i) {
      std::vector<double> sum(precision.size()), squares(precision.size());
      for (size_t s = 0; s < labels.size(); ++s) {
        detector.run(units.data_ptr<int32_t>() + i * tokens, labels[s].data(), precision.data());
        for (size_t f = 0; f < precision.size(); ++f) {
          if (s == 0) {
            out.precision.data_ptr<double>()[static_cast<int64_t>(f) * all + first + i] =
                precision[f];
          } else {
            sum[f] += precision[f], squares[f] += precision[f] * precision[f];
          }
        }
      }
      const auto shuffles = static_cast<double>(labels.size() - 1);
      for (size_t f = 0; f < precision.size(); ++f) {
        const double mean = sum[f] / shuffles;
        const double variance = (squares[f] - sum[f] * mean) / (shuffles - 1);
        const int64_t at = static_cast<int64_t>(f) * all + first + i;
        out.null_mean.data_ptr<double>()[at] = mean;
        out.null_deviation.data_ptr<double>()[at] = std::sqrt(std::max(0.0, variance));
      }
    }
  });
}

torch::Tensor discovered(const torch::Tensor& z) {
  std::vector<double> p;
  for (int64_t i = 0; i < z.numel(); ++i)
    p.push_back(0.5 * std::erfc(z.data_ptr<double>()[i] / std::sqrt(2.0)));
  const auto found = math::discoveries(p, 0.05);
  auto out = torch::zeros(z.sizes(), torch::kBool);
  for (int64_t i = 0; i < z.numel(); ++i)
    out.data_ptr<bool>()[i] = found[static_cast<size_t>(i)] && z.data_ptr<double>()[i] > 3;
  return out;
}

}  // namespace

Specialisation specialise(const FunctionActivity& activity, const SpecialisationOptions& o) {
  const auto functions = std::ssize(activity.names), tokens = activity.function.size(0);
  require(functions > 1 && functions < 256 && o.shuffles > 1,
          "specialisation: {} functions and {} shuffles, expected more than 1 of each", functions,
          o.shuffles);
  const torch::NoGradGuard no_grad;
  auto generator = at::detail::createCPUGenerator(o.seed);
  // A unit is what has one label.
  const auto unit = o.by_window ? activity.window : torch::arange(tokens, torch::kLong);
  auto function_of = torch::zeros({unit.max().item<int64_t>() + 1}, torch::kLong);
  function_of.index_copy_(0, unit, activity.function);
  std::vector<std::vector<uint8_t>> by_shuffle{labels(function_of)};  // the first is the truth
  for (int64_t s = 0; s < o.shuffles; ++s)
    by_shuffle.push_back(labels(function_of.index_select(
        0, torch::randperm(function_of.size(0), generator, torch::kLong))));

  Specialisation out;
  out.precision = torch::zeros({functions, activity.neurons()}, torch::kDouble);
  out.null_mean = torch::zeros_like(out.precision);
  out.null_deviation = torch::zeros_like(out.precision);
  // Equal norms (silent neurons) are put in a random order.
  const auto mixed = torch::randperm(tokens, generator, torch::kLong);
  std::vector<torch::Tensor> frequency;
  int64_t first = 0;
  for (const auto& norms : activity.norms) {
    auto scores = norms.index_select(0, mixed);
    if (o.beyond_ids) scores = ranks_within_ids(scores, activity.id.index_select(0, mixed));
    const auto order = scores.argsort(/*stable=*/true, 0, /*descending=*/true);
    const auto units = unit.index_select(0, mixed).to(torch::kInt).index_select(0, order.flatten());
    judge(units.view_as(order).t().contiguous(), by_shuffle, first, out);
    first += norms.size(1);
    const auto top = top_of_token(norms, 0.1).to(torch::kDouble);
    std::vector<torch::Tensor> of_layer;
    for (int64_t c = 0; c < functions; ++c)
      of_layer.push_back(top.index_select(0, activity.function.eq(c).nonzero().squeeze(1)).mean(0));
    frequency.push_back(torch::stack(of_layer));
  }
  out.frequency = torch::cat(frequency, 1);
  const double least = 1.0 / static_cast<double>(tokens);  // keeps silent neurons finite
  out.log_ratio =
      ((out.frequency + least) / (out.frequency.mean(0, /*keepdim=*/true) + least)).log();
  const auto z = (out.precision - out.null_mean) / out.null_deviation.clamp_min(1e-12);
  out.special = discovered(z.contiguous());
  return out;
}

}  // namespace cajal::surgery
