#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cajal/atlas/census.h"
#include "cajal/core/json.h"
#include "cajal/kernels/formats/format.h"
#include "cajal/surgery/scores.h"

namespace cajal::surgery {

/// How the rows of one group are kept: in a format, as a low-rank product (of least error in the
/// weights, or weighted: in what the group does on a text), or not at all.
struct Storage {
  enum class Kind { format, low_rank, weighted_low_rank, drop };
  Kind kind = Kind::format;
  Format format = Format::f32;  // of the rows, or of the two factors of a low rank
  double rank_share = 0;        // low ranks: rank over the smaller side of the matrix

  /// "q8_0", "svd:0.33", "asvd:0.33" (weighted), "drop"; throws Error naming the choices.
  static Storage parse(std::string_view text, std::string_view where);
  std::string text() const;
  bool is_low_rank() const { return kind == Kind::low_rank || kind == Kind::weighted_low_rank; }
  /// Of a matrix of so many rows and columns.
  int64_t rank(int64_t rows, int64_t columns) const;
  bool operator==(const Storage&) const = default;
};

/// A range of neurons of one layer and how its keys (gates alike) and values are kept.
struct GroupPlan {
  int64_t neurons = 0;
  Storage key, value;
  bool operator==(const GroupPlan&) const = default;
};

/// One layer: its neurons in their new order, cut into groups.
struct LayerPlan {
  std::vector<int32_t> order;  // [neurons]; empty = as they are
  std::vector<GroupPlan> groups;
  bool operator==(const LayerPlan&) const = default;
};

/// What is to become of every FFN of a model.
struct Plan {
  std::string name;
  std::vector<LayerPlan> layers;

  Json json() const;
  /// Throws Error naming the field for anything that is no plan: an order that is no permutation,
  /// groups that do not add up to `neurons[layer]`, unknown formats.
  static Plan from_json(const Json& json, const std::vector<int64_t>& neurons,
                        const std::string& where);
  bool operator==(const Plan&) const = default;
};

struct PlanOptions {
  Score score = Score::hits;
  double ratio = 0.25;  // of the neurons are heavy
  uint64_t seed = 0;    // of random sets
};

/// Writes out a plan in words for the layers of a census:
///   all=F               every neuron in format F, order unchanged
///   heavy=F,rest=G      the heavy hitters by `score` in F, the rest in G
///   random=F,rest=G     as many random neurons in F (a control)
///   inverse=F,rest=G    as many of the least active neurons in F (a control)
///   mix=F,values=G      every neuron in F, but values of half of the layers in G: the first and
///   the
///                       last eighth and every third between, as llama.cpp's Q4_K_M has it (recall)
/// F is a format (q8_0, q4_0, bf16, ...), two of them (q8_0/q4_0: keys / values), svd:SHARE or
/// asvd:SHARE (rank over the smaller side) or drop. Throws Error on anything else.
Plan make_plan(std::string_view words, const atlas::Census& census,
               const PlanOptions& options = {});

/// The mix that llama.cpp's Q4_K_M makes of rows of `width`: q4_K and q6_K, or, where their blocks
/// do not fit, q5_0 and q8_0 in their places (recall).
std::string usual_mix(int64_t width);

/// Bytes that the rows of a group take: keys (gates) and values, no biases.
int64_t group_bytes(const GroupPlan& group, int64_t width, bool gated);
/// Bytes of all groups of a plan.
int64_t plan_bytes(const Plan& plan, int64_t width, bool gated);
/// Bits a weight over all FFN matrices, dropped neurons counted as weights.
double plan_bits(const Plan& plan, int64_t width, bool gated);

/// Is a split worth it in a layer? With quantisation error ~ 4^-bits, heavy neurons that hold the
/// share s of the output energy in `heavy` bits and the rest in `rest` bits leave the error
/// s 4^-heavy + (1 - s) 4^-rest, against 4^-b for one format with as many bytes.
/// Source: dossier ffsplit (Build 7).
struct Forecast {
  double ratio = 0;   // of the neurons are heavy, after rounding
  double share = 0;   // s(ratio)
  double needed = 0;  // the split wins from this share on
  bool wins() const { return share > needed; }
};
Forecast forecast(const atlas::LayerCensus& layer, Score score, double ratio, Format heavy,
                  Format rest);

}  // namespace cajal::surgery
