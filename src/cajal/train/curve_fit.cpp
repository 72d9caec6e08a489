#include "cajal/train/curve_fit.h"

#include "cajal/core/error.h"

namespace cajal::train {

void fit_curves(const CurveModel& model, const CurveSet& set, const DescentOptions& options) {
  descend(
      model.parameters, set.x.size(0),
      [&](const torch::Tensor& rows) {
        const auto part = set.rows(rows);
        const auto scores = model.scores(part.x);
        return part.y.is_floating_point() ? (scores - part.y).square().mean()
                                          : torch::cross_entropy_loss(scores, part.y);
      },
      options);
}

double curve_accuracy(const CurveModel& model, const CurveSet& set) {
  return share_correct(outputs(model.scores, set.x), set.y);
}

double held_out_quality(const MakeCurveModel& make, const CurveSet& set,
                        const DescentOptions& options, int folds) {
  const int64_t count = set.x.size(0), part = count / 5;
  require(part > 0 && folds >= 1 && folds <= 5,
          "held-out quality: {} curves, {} folds: expected 5 curves or more, 1 to 5 folds", count,
          folds);
  double sum = 0;
  for (int fold = 0; fold < folds; ++fold) {
    const int64_t from = count - (fold + 1) * part;
    const auto rest = torch::cat({torch::arange(from), torch::arange(from + part, count)});
    const auto learned = set.rows(rest), held = set.rows(torch::arange(from, from + part));
    const auto model = make(learned);
    fit_curves(model, learned, options);
    if (!held.y.is_floating_point()) {
      sum += curve_accuracy(model, held);
      continue;
    }
    sum -= (outputs(model.scores, held.x) - held.y).square().mean().item<double>();
  }
  return sum / folds;
}

}  // namespace cajal::train
