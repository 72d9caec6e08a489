#pragma once
#include <cstdint>

#include "cajal/core/torch.h"

/// How sparse the answers of a layer are and which small groups of neurons answer to which class:
/// for any network, from its activations alone. Source: arXiv 2305.18353; dossier ff-ensembles.
namespace cajal::atlas {

/// Hoyer's sparsity of every row, (√d - ‖h‖₁ / ‖h‖₂) / (√d - 1): 1 for one neuron alone, 0 for all
/// alike. h [n, d] -> [n]; NaN for a row of zeros, which has none.
torch::Tensor hoyer_sparsity(const torch::Tensor& h);

struct Sparsity {
  double mean = 0;        // over rows that are not all zero
  double class_sd = 0;    // standard deviation of the classes' means
  int64_t zero_rows = 0;  // left out of the mean, so always to be shown beside it
  double dead_share = 0;  // of neurons that answer to no row
};
Sparsity sparsity(const torch::Tensor& h, const torch::Tensor& labels, int64_t classes);

/// Mean activation of every neuron over each class, [classes, d]; zeros for a class without rows.
torch::Tensor class_means(const torch::Tensor& h, const torch::Tensor& labels, int64_t classes);

/// Neurons of each class's ensemble, bool [classes, d]: those whose mean over the class is more
/// than `factor` times the mean of all other neurons over it (leave one out).
torch::Tensor ensembles(const torch::Tensor& h, const torch::Tensor& labels, int64_t classes,
                        double factor = 2);

/// The slow alternative: neurons that answer to the class more strongly than to every other class,
/// by the two-sample Kolmogorov-Smirnov test at level `p`, bool [classes, d]. Classes with fewer
/// than two rows have empty ensembles.
torch::Tensor ensembles_by_test(const torch::Tensor& h, const torch::Tensor& labels,
                                int64_t classes, double p = 0.05);

/// How many neurons two ensembles share, i64 [classes, classes].
torch::Tensor overlap(const torch::Tensor& ensembles);
/// Shared neurons over neurons of either, f64 [classes, classes]; 0 for two empty ones.
torch::Tensor jaccard_overlap(const torch::Tensor& ensembles);

/// What can be read off a set of ensembles.
struct EnsembleCensus {
  double median_share = 0;   // of neurons in the ensemble of a class, median over the classes
  double mean_jaccard = 0;   // over pairs of different classes
  double members_share = 0;  // of neurons in at least one ensemble
  double negative_in = 0;    // share of negative weights into the members
};
/// `weight` [d, inputs] leads into the neurons.
EnsembleCensus census_of(const torch::Tensor& ensembles, const torch::Tensor& weight);

}  // namespace cajal::atlas
