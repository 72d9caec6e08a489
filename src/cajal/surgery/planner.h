#pragma once
#include <optional>
#include <vector>

#include "cajal/surgery/plan.h"

namespace cajal::surgery {

/// What one half (keys and gates, or values) of one group of neurons costs in each format.
struct Choice {
  std::vector<int64_t> bytes;  // [formats]
  std::vector<double> error;   // [formats] E ||what is written - what would be written||^2
};

struct GroupChoices {
  int64_t neurons = 0;
  Choice key, value;
};

/// What the planner knows of a model. Errors are weighted so that they may be added over layers.
struct Choices {
  std::vector<Format> formats;
  struct Layer {
    std::vector<int32_t> order;
    std::vector<GroupChoices> groups;  // in that order
  };
  std::vector<Layer> layers;
};

/// The plan that stores every neuron in formats[f]: its bytes and error by the same account.
struct Cost {
  int64_t bytes = 0;
  double error = 0;
};
Cost uniform_cost(const Choices& choices, size_t format);
/// The format that errs least among those that fit the budget when every neuron is stored in it, or
/// nothing.
std::optional<size_t> best_uniform(const Choices& choices, int64_t budget);
Cost cost(const Choices& choices, const Plan& plan);

/// A plan of at most `budget` bytes with little error: from the cheapest formats upward, always the
/// step that takes away the most error a byte, then whatever still fits and errs less; never worse
/// than the best single format that fits. Neighbouring groups that come out alike are joined.
/// Throws Error when even the cheapest formats need more than the budget (naming the least there
/// is). Source: dossier ffsplit (Build 6).
Plan plan_for_budget(const Choices& choices, int64_t budget);

/// A plan of groups that `choices` know, with what the budget still allows spent on whatever takes
/// away most error. Throws Error for a plan of more bytes.
Plan filled(const Choices& choices, const Plan& plan, int64_t budget);

}  // namespace cajal::surgery
