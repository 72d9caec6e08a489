#include "cajal/surgery/sparsity.h"

#include <algorithm>
#include <map>

#include "cajal/core/error.h"
#include "cajal/surgery/inputs.h"

namespace cajal::surgery {
namespace {

// One place where the rule looks: a hook point, and what its value says.
struct Place {
  std::string point;
  std::function<torch::Tensor(const torch::Tensor&)> see, put_back;
};

torch::Tensor same(const torch::Tensor& value) { return value; }

std::vector<Place> places(const lm::Transformer& model, SparseRule rule) {
  const auto& config = model->config;
  std::vector<Place> out;
  for (size_t l = 0; l < model->blocks.size(); ++l) {
    const auto name = [&](const char* point) { return fmt::format("blocks.{}.{}", l, point); };
    if (rule == SparseRule::cats) {
      const auto law = config.law;
      // The gate's law is applied behind this point; what must read as 0 is set to 0, since every
      // law of a gate maps 0 to 0.
      out.push_back({name("mlp.hook_pre"),
                     [law](const torch::Tensor& gate) { return activate(law, gate); },
                     {}});
      continue;
    }
    const FfnInput input(model, l);
    out.push_back({input.point(),
                   [input](const torch::Tensor& value) { return input.from_point(value); },
                   [input](const torch::Tensor& x) { return input.to_point(x); }});
    out.push_back({name("attn.hook_z"), same, same});
    out.push_back({name("mlp.hook_post"), same, same});
  }
  return out;
}

}  // namespace

std::vector<Threshold> find_thresholds(lm::Transformer& model, SparseRule rule, double share,
                                       std::span<const int32_t> ids, int64_t tokens) {
  require(rule != SparseRule::cats || model->config.gated,
          "cats looks at gates, and this model has none");
  require(share >= 0 && share < 1, "share is {}, expected 0 or more and below 1", share);
  const auto length = std::min<int64_t>({512, model->config.context, std::ssize(ids)});
  const auto windows = std::min<int64_t>(tokens, std::ssize(ids)) / std::max<int64_t>(length, 1);
  require(windows > 0, "the calibration text is empty");
  std::vector<Threshold> out;
  lm::Hooks hooks;
  for (const auto& place : places(model, rule))
    hooks.add(place.point, [&, place](std::string_view point, const torch::Tensor& value) {
      auto sizes = place.see(value).abs().to(torch::kFloat).flatten().contiguous();
      const auto rank = static_cast<int64_t>(share * static_cast<double>(sizes.numel()));
      auto* data = sizes.data_ptr<float>();
      std::nth_element(data, data + rank, data + sizes.numel());
      out.push_back({std::string(point), data[rank]});
      return torch::Tensor();
    });
  const auto input =
      torch::from_blob(const_cast<int32_t*>(ids.data()), {windows, length}, torch::kInt)
          .to(torch::kLong);
  lm::Pass pass;
  pass.hooks = &hooks;
  torch::NoGradGuard no_grad;
  model->forward(input, pass);
  return out;
}

void attach(lm::Hooks& hooks, const lm::Transformer& model, SparseRule rule,
            const std::vector<Threshold>& thresholds, SparseCount& count) {
  std::map<std::string, double> by_point;
  for (const auto& threshold : thresholds) by_point[threshold.point] = threshold.size;
  for (const auto& place : places(model, rule)) {
    const auto found = by_point.find(place.point);
    require(found != by_point.end(), "no threshold for {}", place.point);
    const double size = found->second;
    hooks.add(place.point, [&count, place, size](std::string_view, const torch::Tensor& value) {
      const auto seen = place.see(value);
      const auto small = seen.abs() < size;
      count.entries += small.numel();
      count.zeros += small.sum().item<int64_t>() + ((seen == 0) & ~small).sum().item<int64_t>();
      return place.put_back ? place.put_back(seen.masked_fill(small, 0))
                            : value.masked_fill(small, 0);
    });
  }
}

}  // namespace cajal::surgery
