#include "cajal/surgery/planner.h"

#include <algorithm>
#include <limits>
#include <queue>

namespace cajal::surgery {
namespace {

// The formats of one half of a group that any sensible plan would use: bytes rise, error falls,
// and each step gives less error a byte than the one before (the lower convex hull).
std::vector<size_t> ladder(const Choice& choice) {
  std::vector<size_t> by_bytes(choice.bytes.size());
  for (size_t f = 0; f < by_bytes.size(); ++f) by_bytes[f] = f;
  std::sort(by_bytes.begin(), by_bytes.end(), [&](size_t a, size_t b) {
    return std::pair(choice.bytes[a], choice.error[a]) <
           std::pair(choice.bytes[b], choice.error[b]);
  });
  const auto gain = [&](size_t a, size_t b) {
    return (choice.error[a] - choice.error[b]) /
           static_cast<double>(choice.bytes[b] - choice.bytes[a]);
  };
  std::vector<size_t> hull;
  for (const size_t f : by_bytes) {
    if (!hull.empty() && choice.error[f] >= choice.error[hull.back()]) continue;
    while (hull.size() >= 2 && gain(hull[hull.size() - 2], hull.back()) <= gain(hull.back(), f))
      hull.pop_back();
    hull.push_back(f);
  }
  return hull;
}

// One half of one group on its way up its ladder.
struct Item {
  const Choice* choice;
  std::vector<size_t> rungs;
  size_t at = 0;

  size_t format() const { return rungs[at]; }
  bool top() const { return at + 1 == rungs.size(); }
  int64_t step_bytes() const { return choice->bytes[rungs[at + 1]] - choice->bytes[rungs[at]]; }
  double step_gain() const {
    return (choice->error[rungs[at]] - choice->error[rungs[at + 1]]) /
           static_cast<double>(step_bytes());
  }
};

// Spends what is left on any format, on the hull or not, that takes away the most error.
std::vector<size_t> fill(const std::vector<Item>& items, int64_t left) {
  std::vector<size_t> formats;
  for (const auto& item : items) formats.push_back(item.format());
  for (;;) {
    double best = 0;
    size_t where = 0, what = 0;
    for (size_t i = 0; i < items.size(); ++i) {
      const auto& of = *items[i].choice;
      for (size_t f = 0; f < of.bytes.size(); ++f) {
        const double gain = of.error[formats[i]] - of.error[f];
        if (of.bytes[f] - of.bytes[formats[i]] > left || gain <= best) continue;
        best = gain, where = i, what = f;
      }
    }
    if (best == 0) return formats;
    left -= items[where].choice->bytes[what] - items[where].choice->bytes[formats[where]];
    formats[where] = what;
  }
}

Plan plan_of(const Choices& choices, const std::vector<size_t>& formats) {
  Plan plan;
  size_t item = 0;
  for (const auto& layer : choices.layers) {
    auto& out = plan.layers.emplace_back();
    out.order = layer.order;
    for (const auto& group : layer.groups) {
      GroupPlan next{group.neurons,
                     {.format = choices.formats[formats[item]]},
                     {.format = choices.formats[formats[item + 1]]}};
      item += 2;
      if (!out.groups.empty() && out.groups.back().key == next.key &&
          out.groups.back().value == next.value)
        out.groups.back().neurons += next.neurons;
      else
        out.groups.push_back(next);
    }
    if (out.groups.size() == 1) out.order.clear();  // nothing to tell apart
  }
  return plan;
}

}  // namespace

Cost uniform_cost(const Choices& choices, size_t format) {
  Cost cost;
  for (const auto& layer : choices.layers)
    for (const auto& group : layer.groups)
      for (const auto* half : {&group.key, &group.value})
        cost.bytes += half->bytes[format], cost.error += half->error[format];
  return cost;
}

std::optional<size_t> best_uniform(const Choices& choices, int64_t budget) {
  std::optional<size_t> best;
  for (size_t f = 0; f < choices.formats.size(); ++f) {
    const auto of = uniform_cost(choices, f);
    if (of.bytes <= budget && (!best || of.error < uniform_cost(choices, *best).error)) best = f;
  }
  return best;
}

Cost cost(const Choices& choices, const Plan& plan) {
  require(plan.layers.size() == choices.layers.size(), "plan for {} layers, expected {}",
          plan.layers.size(), choices.layers.size());
  const auto index = [&](Format format) {
    const auto found = std::find(choices.formats.begin(), choices.formats.end(), format);
    require(found != choices.formats.end(), "no error was measured for {}", to_name(format));
    return static_cast<size_t>(found - choices.formats.begin());
  };
  Cost cost;
  for (size_t l = 0; l < plan.layers.size(); ++l) {
    size_t at = 0;
    int64_t left = 0;
    for (const auto& group : choices.layers[l].groups) {
      if (left == 0) left = plan.layers[l].groups.at(at++).neurons;
      const auto& planned = plan.layers[l].groups[at - 1];
      left -= group.neurons;
      require(left >= 0, "layer {}: the plan cuts through a measured group", l);
      const auto k = index(planned.key.format), v = index(planned.value.format);
      cost.bytes += group.key.bytes[k] + group.value.bytes[v];
      cost.error += group.key.error[k];  // in the order of uniform_cost: equal plans cost the same
      cost.error += group.value.error[v];
    }
  }
  return cost;
}

Plan plan_for_budget(const Choices& choices, int64_t budget) {
  std::vector<Item> items;
  int64_t bytes = 0;
  for (const auto& layer : choices.layers)
    for (const auto& group : layer.groups)
      for (const auto* half : {&group.key, &group.value}) {
        items.push_back({half, ladder(*half)});
        bytes += half->bytes[items.back().format()];
      }
  require(bytes <= budget, "a budget of {} bytes: the cheapest formats need {}", budget, bytes);

  std::priority_queue<std::pair<double, size_t>> steps;
  const auto offer = [&](size_t i) {
    if (!items[i].top()) steps.emplace(items[i].step_gain(), i);
  };
  for (size_t i = 0; i < items.size(); ++i) offer(i);
  while (!steps.empty()) {
    const auto i = steps.top().second;
    steps.pop();
    if (bytes + items[i].step_bytes() > budget) continue;  // a smaller step may still fit
    bytes += items[i].step_bytes();
    ++items[i].at;
    offer(i);
  }
  auto formats = fill(items, budget - bytes);
  double error = 0;
  for (size_t i = 0; i < items.size(); ++i) error += items[i].choice->error[formats[i]];
  if (const auto uniform = best_uniform(choices, budget);
      uniform && uniform_cost(choices, *uniform).error < error)
    formats.assign(items.size(), *uniform);
  auto plan = plan_of(choices, formats);
  plan.name = fmt::format("planned for {} bytes", budget);
  return plan;
}

}  // namespace cajal::surgery
