#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/threads.h"
#include "cajal/core/torch.h"
#include "cajal/models/lm/transformer.h"

/// Multifractal analysis of the graph of a network's neurons, whose edges are 1/|weight| long: how
/// fast the number of neighbours within a radius grows, and how much that differs between neurons.
/// Needs weights only. Source: Xiao et al. 2025, arXiv 2402.09099; dossier neuromfa.
namespace cajal::atlas {

/// Edges between one set of nodes and the next.
struct EdgeLayer {
  std::string name;
  torch::Tensor weight;  // [sources, targets]
};

/// A transformer as a chain of edge layers, four a block: residual -> q|k|v, heads -> residual
/// (output), residual -> neurons (gated: gate and key side by side), neurons -> residual. Biases,
/// norms and embeddings are left out. `compat`: the rows of a query-key-value matrix fused by head
/// in the order in which they lie, as the paper's code takes them.
std::vector<EdgeLayer> edge_layers(const lm::Transformer& model, bool compat = false);

/// A convolution [outputs, inputs, ...] as edges of the mean |weight| of each kernel.
EdgeLayer convolution_edges(const std::string& name, const torch::Tensor& weight);

/// Distances 1/|w| from every source to its targets; zero weights are no edges.
using Distances = std::vector<std::vector<double>>;

struct SampleOptions {
  int64_t nodes = 32;  // of each set; twice as many of the neurons
  uint64_t seed = 0;   // the same nodes for every checkpoint of a model
  bool compat = false;
};
CAJAL_OPTIONS(SampleOptions, nodes, seed, compat)
/// Distances in the subgraph of a sample of nodes, drawn without replacement; queries, keys and
/// values share theirs.
Distances sample_graph(const lm::Transformer& model, const SampleOptions& options = {});

enum class SpectrumFilter { none, negative, falling, both };
struct MultifractalOptions {
  double theta = 150;      // edges longer than this do not count
  double least = 1;        // nor those of this length and below
  int64_t min_edges = 10;  // a node needs more
  double q_max = 3;
  int64_t q_steps = 30;  // from 0 to q_max, and as many down
  double quantile = 0;   // > 0: lengths are scaled so that this quantile of all is theta, which
                         // makes the result independent of the scale of the weights
};
CAJAL_OPTIONS(MultifractalOptions, theta, least, min_edges, q_max, q_steps, quantile)

struct Spectrum {
  std::vector<double> q, tau;     // [2 q_steps + 1]
  std::vector<double> alpha, f;   // [2 q_steps]; of q and the next
  double alpha_0 = 0, width = 0;  // alpha at the largest f (of equal ones, of the
                                  // q nearest 0); largest minus smallest alpha
  int64_t nodes = 0;              // that counted
  bool rises() const;             // any f > 0: no spectrum in the strict sense
  bool turns() const;             // alpha does not fall
  bool passes(SpectrumFilter filter) const;
};

/// How many neighbours each node has within each radius: what a spectrum needs of a graph.
/// Radii are whole numbers, as the paper rounds them.
struct MassCounts {
  std::vector<double> radii;               // [radii]
  std::vector<std::vector<int64_t>> mass;  // [nodes][radii], 1 + neighbours within
};
MassCounts count_mass(const Distances& distances, const MultifractalOptions& options);
/// Of all edges of a layer list, one row at a time: no sampling, memory of the counts only.
MassCounts count_mass(const std::vector<EdgeLayer>& layers, const MultifractalOptions& options,
                      ThreadPool& threads);

/// The spectrum. Bitwise the same for any order of nodes and number of threads. Throws Error when
/// fewer than two radii or no node counts.
Spectrum multifractal(MassCounts counts, const MultifractalOptions& options, ThreadPool& threads);
Spectrum multifractal(const Distances& distances, const MultifractalOptions& options = {});

/// Means over graph samples that pass the filter, with standard deviations.
struct SpectrumMean {
  double alpha_0 = 0, width = 0, alpha_0_sd = 0, width_sd = 0;
  int64_t samples = 0, rising = 0, turning = 0;
};
SpectrumMean mean_spectrum(const lm::Transformer& model, int64_t samples,
                           const MultifractalOptions& options = {},
                           SpectrumFilter filter = SpectrumFilter::none,
                           const SampleOptions& sampling = {});

/// (w / w_0) ln(alpha_0 at the start / alpha_0 now): 0 at the start.
double emergence(const SpectrumMean& start, const SpectrumMean& now);

/// Standard deviations of alpha_0 and the width over `rounds` resamplings of the nodes.
std::pair<double, double> bootstrap_error(const Distances& distances,
                                          const MultifractalOptions& options, int64_t rounds,
                                          uint64_t seed);

/// Each node's own dimension: the slope of ln N(r) on ln r over its radii up to `theta`; 0 with ten
/// neighbours or fewer.
std::vector<double> node_dimensions(const Distances& distances, double theta = 200);

/// Statistics of weights that a spectrum should be compared with.
struct WeightTails {
  double kurtosis = 0;     // of all weights, mean over layers
  double norm_spread = 0;  // standard deviation over mean of the rows' norms
  double hill = 0;         // tail exponent of |w| by row, from the largest tenth
  double spectral = 0;     // tail exponent of the squared singular values, from the largest half
};
CAJAL_OPTIONS(WeightTails, kurtosis, norm_spread, hill, spectral)
WeightTails weight_tails(const std::vector<EdgeLayer>& layers);

/// Rows of Pareto weights |w| = U^(-1/D) / c: every node has N(r) proportional to r^D up to c.
Distances planted_graph(const std::vector<double>& dimensions, int64_t nodes_each, int64_t edges,
                        double c, uint64_t seed);

}  // namespace cajal::atlas

CAJAL_ENUM(cajal::atlas::SpectrumFilter, {cajal::atlas::SpectrumFilter::none, "none"},
           {cajal::atlas::SpectrumFilter::negative, "negative"},
           {cajal::atlas::SpectrumFilter::falling, "falling"},
           {cajal::atlas::SpectrumFilter::both, "both"})
