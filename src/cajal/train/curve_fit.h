#pragma once
#include "cajal/models/small/curve_models.h"
#include "cajal/train/descent.h"

namespace cajal::train {

using MakeCurveModel = std::function<CurveModel(const CurveSet& train)>;

/// Minimises cross entropy, or the mean squared error where y holds numbers. A model that learns
/// nothing stays as it is.
void fit_curves(const CurveModel& model, const CurveSet& set, const DescentOptions& options);

/// Share of curves whose largest score is their class.
double curve_accuracy(const CurveModel& model, const CurveSet& set);

/// How well models of `make` do on a fifth of `set` that they did not learn from: accuracy, or
/// minus the mean squared error. The last fifth; the mean over so many of them with `folds`, 1
/// to 5.
double held_out_quality(const MakeCurveModel& make, const CurveSet& set,
                        const DescentOptions& options, int folds = 1);

}  // namespace cajal::train
