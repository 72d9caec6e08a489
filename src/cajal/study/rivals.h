#pragma once
#include "cajal/study/subject.h"
#include "cajal/surgery/predictor.h"
#include "cajal/surgery/sparsity.h"

/// What leaves neurons or inputs out while a model runs, as studies of sparse networks compare it.
namespace cajal::study {

struct Sparse {
  double left_out = 0;  // of what the rule looks at
  double recall = 0;    // of firing neurons; 0 where nothing is predicted
  double bits_per_byte = 0;
};
CAJAL_OPTIONS(Sparse, left_out, recall, bits_per_byte)

/// TEAL or CATS with thresholds that leave out `share` of the calibration text's entries.
Sparse with_rule(Subject& subject, surgery::SparseRule rule, double share);

/// Neurons guessed by Deja Vu's predictors, and the same with the tenth of all neurons that fire
/// most always computed (PowerInfer). `share` of the neurons in all are computed; 0: those that are
/// guessed with probability 0.5.
std::vector<Sparse> with_predictors(Subject& subject, const surgery::PredictorOptions& options,
                                    double share = 0);

}  // namespace cajal::study
