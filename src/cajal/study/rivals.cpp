#include "cajal/study/rivals.h"

namespace cajal::study {

Sparse with_rule(Subject& s, surgery::SparseRule rule, double share) {
  lm::Hooks hooks;
  surgery::SparseCount count;
  surgery::attach(hooks, s.model, rule,
                  surgery::find_thresholds(s.model, rule, share, s.calibration), count);
  const double bits = s.bits_per_byte(s.model, &hooks);
  return {count.share(), 0, bits};
}

std::vector<Sparse> with_predictors(Subject& s, const surgery::PredictorOptions& options,
                                    double share) {
  constexpr double kHot = 0.1;
  const auto predictors = surgery::train_predictors(s.model, s.calibration, options);
  std::vector<Sparse> out;
  for (const double hot : {0.0, kHot}) {
    lm::Hooks hooks;
    surgery::PredictorCount count;
    const double threshold =
        share > 0 ? surgery::threshold_for(s.model, predictors, s.calibration, share - hot)
                  : options.threshold;
    surgery::attach(hooks, s.model, predictors,
                    hot > 0 ? surgery::hot_neurons(s.census, hot) : std::vector<torch::Tensor>(),
                    threshold, count);
    const double bits = s.bits_per_byte(s.model, &hooks);
    out.push_back({1 - count.density(), count.recall(), bits});
  }
  return out;
}

}  // namespace cajal::study
