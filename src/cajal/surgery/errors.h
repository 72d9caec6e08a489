#pragma once
#include <span>

#include "cajal/models/lm/transformer.h"
#include "cajal/surgery/planner.h"

namespace cajal::surgery {

struct ErrorOptions {
  std::vector<Format> formats = {Format::q4_0, Format::q4_1, Format::q5_0, Format::q8_0};
  std::vector<double> cuts = {0.0625, 0.125, 0.25, 0.5};  // where the ranked neurons may be cut
  Score score = Score::hits;
  uint64_t seed = 0;
  int64_t tokens = 4096;  // of calibration text
};

/// Runs the model over calibration text and measures, for the keys and the values of each group of
/// neurons and each format, how much what the group writes changes: E ||sum a_i w_i - a'_i w'_i||^2
/// over the tokens, as a share of E ||residual stream||^2 behind the layer, so that the errors of
/// layers can be compared. Formats that do not fit the width are left out.
Choices measure_errors(lm::Transformer& model, const atlas::Census& census,
                       std::span<const int32_t> ids, const ErrorOptions& options = {});

/// What the planner makes small, measured on whole layers: the sum over layers of
/// E ||FFN(x) - FFN'(x)||^2 / E ||residual stream||^2, where FFN' is the layer under the plan.
double plan_error(lm::Transformer& model, const Plan& plan, const atlas::Census& census,
                  std::span<const int32_t> ids, int64_t tokens = 4096);

/// Formats and cuts fine enough that a plan for any budget from q4_0 to bf16 comes within 1 % of
/// its bytes in layers of 512 neurons or more (2 % in layers of 128: groups are of 32 neurons).
ErrorOptions fine_errors();

/// A plan and what it costs: bytes, and plan_error.
struct JudgedPlan {
  Plan plan;
  int64_t bytes = 0;
  double error = 0;
};

/// The plan for a budget that errs least on whole layers: the planner's, or the best of the plain
/// ways that fit (one format, the usual mix), as it is or with what the budget still allows; so it
/// never errs more than those. `plain` is the best of them. Throws Error as plan_for_budget does.
struct BudgetPlan {
  JudgedPlan best, plain;
};
BudgetPlan best_for_budget(lm::Transformer& model, const atlas::Census& census,
                           std::span<const int32_t> ids, int64_t budget,
                           const ErrorOptions& options = fine_errors());

/// E ||FFN(x) - FFN'(x)||^2 / E ||FFN(x)||^2 in each layer, where FFN' is that of `changed` and x
/// is what the layer reads in `model`.
std::vector<double> output_errors(lm::Transformer& model, const lm::Transformer& changed,
                                  std::span<const int32_t> ids, int64_t tokens = 4096);

}  // namespace cajal::surgery
