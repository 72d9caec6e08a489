#pragma once
#include <functional>
#include <utility>
#include <vector>

#include "cajal/core/torch.h"

/// Units (channels) of vision models that mean the same: pairs whose spatial activation maps
/// correlate on the same images and that choose each other.
/// Source: Dravid et al. 2023, arXiv 2306.09346; dossier rosetta-neurons.
namespace cajal::atlas {

/// Activation maps of the chosen layers of a model on a batch: [images, channels, height, width]
/// each. Units are numbered through the layers in order.
using UnitMaps = std::vector<torch::Tensor>;

/// Tokens of a transformer as maps: [images, tokens, width], the first `special` dropped, the rest
/// a square.
torch::Tensor tokens_as_maps(const torch::Tensor& tokens, int64_t special = 1);

/// Mean and standard deviation of every unit over images and pixels.
struct UnitStatistics {
  std::vector<torch::Tensor> mean, deviation;  // fp64 [channels] of each layer
};

enum class Pooling {
  exact,   // over all batches together: results do not depend on how images are cut into batches
  batches  // the paper's code: means over batches (of variances, and of correlations)
};

class UnitStatisticsPass {
 public:
  explicit UnitStatisticsPass(Pooling pooling = Pooling::exact) : pooling_(pooling) {}
  void add(const UnitMaps& maps);
  UnitStatistics finish() const;  // throws Error when nothing was added

 private:
  Pooling pooling_;
  std::vector<torch::Tensor> mean_, square_;  // sums over batches, or running mean and M2
  int64_t batches_ = 0;
  std::vector<double> count_;
};

/// (a - mean) / (deviation + 1e-5).
UnitMaps normalise_units(const UnitMaps& maps, const UnitStatistics& statistics);

/// The table of correlations of all units of two models over a stream of batches. Maps of two
/// layers are compared at the larger of their sizes (bilinear). Memory: the table and one batch.
class UnitMatcher {
 public:
  /// `shifts`: a table each, with b's pictures moved against a's by so many within each batch.
  UnitMatcher(UnitStatistics a, UnitStatistics b, Pooling pooling = Pooling::exact,
              std::vector<int64_t> shifts = {0})
      : a_(std::move(a)), b_(std::move(b)), pooling_(pooling), shifts_(std::move(shifts)) {}
  /// Maps of the same images. Throws Error when their numbers differ.
  void add(const UnitMaps& a, const UnitMaps& b);
  /// [units of a, units of b], fp32; 0 where a unit is constant. Of the shift at that place.
  torch::Tensor table(size_t shift = 0) const;
  int64_t bytes() const;  // held between batches

 private:
  UnitStatistics a_, b_;
  Pooling pooling_;
  std::vector<int64_t> shifts_;
  std::vector<torch::Tensor> product_;              // of each layer pair and shift
  std::vector<torch::Tensor> square_a_, square_b_;  // of each layer pair
  int64_t batches_ = 0;
};

/// The same by a loop over pairs of units, for tests and timing.
torch::Tensor naive_table(const UnitMaps& a, const UnitMaps& b, const UnitStatistics& statistics_a,
                          const UnitStatistics& statistics_b);

struct UnitPair {
  int64_t a, b;
  double score;
};
/// Pairs that are among each other's `k` best, best first; k = 1: best buddies.
std::vector<UnitPair> mutual_best(const torch::Tensor& table, int64_t k = 1);
/// Every unit of a with its best in b.
std::vector<UnitPair> one_way_best(const torch::Tensor& table);

/// Scores of the best buddies of a table of models whose images were paired wrongly: their
/// `percentile` (0.999) is what a score must pass to mean anything.
double null_threshold(const std::vector<torch::Tensor>& shuffled_tables, double percentile = 0.999);

/// Units of a common model with a best buddy above `threshold` in each of the others.
struct RosettaUnit {
  int64_t unit;
  std::vector<int64_t> buddies;  // one of each table
  double score;                  // mean
};
std::vector<RosettaUnit> rosetta_set(const std::vector<torch::Tensor>& tables,
                                     double threshold = -1);

/// Agglomerative clustering by average similarity [n, n]: merges while the best pair of clusters is
/// at least `threshold` alike. The cluster of each item.
std::vector<int64_t> cluster_units(const torch::Tensor& similarity, double threshold);

/// Linear centred kernel alignment of two layers' features [samples, features], a comparison of
/// layers without units (Kornblith et al. 2019).
double linear_cka(const torch::Tensor& a, const torch::Tensor& b);

}  // namespace cajal::atlas
