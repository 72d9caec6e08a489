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

std::vector<const Choice*> halves(const Choices& choices) {
  std::vector<const Choice*> out;
  for (const auto& layer : choices.layers)
    for (const auto& group : layer.groups) out.push_back(&group.key), out.push_back(&group.value);
  return out;
}

// One half of one group in another format.
struct Move {
  size_t item = 0, format = 0;
  int64_t bytes = 0;  // more than now
  double error = 0;
};

// Every move from `formats`, bytes rising.
std::vector<Move> moves(const std::vector<const Choice*>& items,
                        const std::vector<size_t>& formats) {
  std::vector<Move> out;
  for (size_t i = 0; i < items.size(); ++i)
    for (size_t f = 0; f < items[i]->bytes.size(); ++f)
      if (f != formats[i])
        out.push_back({i, f, items[i]->bytes[f] - items[i]->bytes[formats[i]],
                       items[i]->error[f] - items[i]->error[formats[i]]});
  std::stable_sort(out.begin(), out.end(),
                   [](const Move& a, const Move& b) { return a.bytes < b.bytes; });
  return out;
}

// The best moves of at most so many bytes, for any number of bytes: of any item, and of another.
struct Best {
  Move first, second;
};

// The move, or the two moves of different halves, that take away most error within `left` bytes:
// one half may have to give bytes for another to take them. Empty where none does.
std::vector<Move> best_moves(const std::vector<Move>& all, int64_t left) {
  std::vector<Best> best(all.size() + 1);
  for (size_t m = 0; m < all.size(); ++m) {
    auto next = best[m];
    if (all[m].error < next.first.error) {
      if (next.first.item != all[m].item) next.second = next.first;
      next.first = all[m];
    } else if (all[m].item != next.first.item && all[m].error < next.second.error) {
      next.second = all[m];
    }
    best[m + 1] = next;
  }
  const auto within = [&](int64_t bytes) -> const Best& {
    const auto end = std::upper_bound(all.begin(), all.end(), bytes,
                                      [](int64_t b, const Move& m) { return b < m.bytes; });
    return best[static_cast<size_t>(end - all.begin())];
  };
  std::vector<Move> out;
  double error = 0;
  if (const auto& one = within(left).first; one.error < 0) out = {one}, error = one.error;
  if (!out.empty()) return out;
  for (const auto& gives : all) {
    if (gives.bytes >= 0) break;
    const auto& takes = within(left - gives.bytes);
    const auto& other = takes.first.item != gives.item ? takes.first : takes.second;
    if (other.error < 0 && gives.error + other.error < error * (1 + 1e-9))
      out = {gives, other}, error = gives.error + other.error;
  }
  return out;
}

// Spends what is left, format by format, hull or not.
void fill(const std::vector<const Choice*>& items, std::vector<size_t>& formats, int64_t left) {
  for (int step = 0; step < 10'000; ++step) {
    const auto chosen = best_moves(moves(items, formats), left);
    if (chosen.empty()) return;
    for (const auto& move : chosen) formats[move.item] = move.format, left -= move.bytes;
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

// The format of each half of each group in a plan.
std::vector<size_t> formats_of(const Choices& choices, const Plan& plan) {
  require(plan.layers.size() == choices.layers.size(), "plan for {} layers, expected {}",
          plan.layers.size(), choices.layers.size());
  const auto index = [&](Format format) {
    const auto found = std::find(choices.formats.begin(), choices.formats.end(), format);
    require(found != choices.formats.end(), "no error was measured for {}", to_name(format));
    return static_cast<size_t>(found - choices.formats.begin());
  };
  std::vector<size_t> out;
  for (size_t l = 0; l < plan.layers.size(); ++l) {
    size_t at = 0;
    int64_t left = 0;
    for (const auto& group : choices.layers[l].groups) {
      if (left == 0) left = plan.layers[l].groups.at(at++).neurons;
      const auto& planned = plan.layers[l].groups[at - 1];
      left -= group.neurons;
      require(left >= 0, "layer {}: the plan cuts through a measured group", l);
      out.push_back(index(planned.key.format)), out.push_back(index(planned.value.format));
    }
  }
  return out;
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
  const auto items = halves(choices);
  const auto formats = formats_of(choices, plan);
  Cost cost;
  for (size_t i = 0; i < items.size(); ++i) {
    cost.bytes += items[i]->bytes[formats[i]];
    cost.error += items[i]->error[formats[i]];
  }
  return cost;
}

Plan filled(const Choices& choices, const Plan& plan, int64_t budget) {
  const auto bytes = cost(choices, plan).bytes;
  require(bytes <= budget, "a plan of {} bytes for a budget of {}", bytes, budget);
  auto formats = formats_of(choices, plan);
  fill(halves(choices), formats, budget - bytes);
  auto out = plan_of(choices, formats);
  out.name =
      fmt::format("{}, filled up to {} of {} bytes", plan.name, cost(choices, out).bytes, budget);
  return out;
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
  std::vector<size_t> formats;
  for (const auto& item : items) formats.push_back(item.format());
  fill(halves(choices), formats, budget - bytes);
  double error = 0;
  for (size_t i = 0; i < items.size(); ++i) error += items[i].choice->error[formats[i]];
  if (const auto uniform = best_uniform(choices, budget);
      uniform && uniform_cost(choices, *uniform).error < error)
    formats.assign(items.size(), *uniform);
  auto plan = plan_of(choices, formats);
  plan.name = fmt::format("planned: {} of {} bytes", cost(choices, plan).bytes, budget);
  return plan;
}

}  // namespace cajal::surgery
