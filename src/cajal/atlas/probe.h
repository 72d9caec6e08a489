#pragma once
#include "cajal/core/options.h"
#include "cajal/core/torch.h"

namespace cajal::atlas {

struct ProbeOptions {
  double l2 = 1e-3;          // times |weight|²/2, beside the mean cross entropy
  int64_t iterations = 200;  // of L-BFGS, at most
  bool standardise = true;   // features to mean 0 and variance 1 first
};
CAJAL_OPTIONS(ProbeOptions, l2, iterations, standardise)

/// A linear readout of an activation, acting on raw features.
struct LinearProbe {
  torch::Tensor weight;  // [outputs, features]
  torch::Tensor bias;    // [outputs]

  torch::Tensor operator()(const torch::Tensor& x) const;  // [rows, features] -> [rows, outputs]
  /// Share of rows whose largest output is their label.
  double accuracy(const torch::Tensor& x, const torch::Tensor& labels) const;
};

/// Softmax regression of labels i64 [rows] in [0, classes) on x [rows, features]. Convex, so the
/// result depends on nothing else. Throws Error for labels out of range.
LinearProbe fit_classes(const torch::Tensor& x, const torch::Tensor& labels, int64_t classes,
                        const ProbeOptions& options = {});

/// Ridge regression of y [rows, outputs] on x; `l2` is a share of the features' mean variance.
LinearProbe fit_values(const torch::Tensor& x, const torch::Tensor& y, double l2 = 1e-6);

}  // namespace cajal::atlas
