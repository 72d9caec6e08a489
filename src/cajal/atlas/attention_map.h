#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "cajal/atlas/contributions.h"

/// Maps of a transformer layer: how much token j contributes to row i after each of its parts.
/// Source: Kobayashi et al. 2024, arXiv 2302.00456; dossier ff-attention-map.
namespace cajal::atlas {

struct AttentionMapOptions {
  BiasMode bias = BiasMode::inside;
  bool rollout = false;  // contributions of the model's input tokens, carried through all layers;
                         // else each layer's own inputs count as its tokens
  int64_t tile = 16;     // rows carried at a time; results do not depend on it
};
CAJAL_OPTIONS(AttentionMapOptions, bias, rollout, tile)

/// A layer's map after one of its parts. Parts in order, pre-norm: norm1, attention, residual1,
/// norm2, ffn, residual2, next_norm (the next layer's first, or the final one); post-norm:
/// attention, residual1, norm1, ffn, residual2, norm2. "ffn" is the network's output before the
/// residual is added.
struct StageMap {
  std::string stage;
  torch::Tensor map;   // [tokens, tokens], |contribution of j to i|
  torch::Tensor bias;  // [tokens], |what no token gave|
  double error = 0;    // largest |Σ_j parts + bias - activation| over the largest |activation|
};

struct LayerMaps {
  int64_t layer = 0;
  std::vector<StageMap> stages;
  torch::Tensor attention;  // the pattern, mean over heads, [tokens, tokens]

  /// Throws Error naming the stages there are.
  const torch::Tensor& at(std::string_view stage) const;
};

/// Sees the contributions of rows [begin, end) after a stage.
using ContributionVisitor = std::function<void(int64_t layer, std::string_view stage, int64_t begin,
                                               const Contributions& contributions)>;

/// The maps of one text: input i64 [1, tokens], or pixels [1, ...] for vision. Every family, in the
/// type of the model's weights. Memory: one tile of [rows, tokens, width], or with rollout one
/// tensor [tokens, tokens, width] for each layer at work.
std::vector<LayerMaps> attention_maps(lm::Transformer& model, const torch::Tensor& input,
                                      const AttentionMapOptions& options = {},
                                      const ContributionVisitor& visit = {}, lm::Pass pass = {});

/// Where maps are compared: rows and columns from `first` on (1 leaves out a begin token), and
/// under a causal mask only j <= i.
struct MapRegion {
  bool causal = true;
  int64_t first = 0;
};

/// 1 - Spearman's rho of the entries of two maps.
double map_change(const torch::Tensor& before, const torch::Tensor& after, const MapRegion& region);
/// Spearman's rho of the entries of two maps.
double map_agreement(const torch::Tensor& a, const torch::Tensor& b, const MapRegion& region);

/// What a layer's FFN and its surroundings do to its map. atb is the map that the FFN's block
/// starts from: post-norm norm1, pre-norm residual1; the end is norm2 or next_norm.
struct LayerChange {
  double ffn = 0, residual = 0, norm = 0;  // 1 - rho of each step: atb to ffn (pre-norm: its norm
                                           // included), to residual2, to the end
  double net = 0;                          // of atb and the end
  double cancel = 0;  // cosine of the FFN's change of the map and that of what follows it
};
LayerChange layer_change(const LayerMaps& maps, const MapRegion& region);

/// Rows of `map` divided by their sums.
torch::Tensor row_shares(const torch::Tensor& map);
/// row_shares(after) - row_shares(before): which pairs a part amplifies.
torch::Tensor amplification(const torch::Tensor& before, const torch::Tensor& after);

/// |Σ_{j≠i} C_ij| / (|Σ_{j≠i} C_ij| + |C_ii|) of rows that begin at `first_row`: the share of
/// mixing in a representation. [rows]
torch::Tensor mixing_ratio(const Contributions& x, int64_t first_row);

/// Attention rollout: the product of A/2 + I/2 over the layers up to each one (Abnar and Zuidema
/// 2020). [tokens, tokens] each.
std::vector<torch::Tensor> attention_rollout(const std::vector<LayerMaps>& layers);

/// A pair of tokens of a text, for tables of what is amplified.
enum class PairClass { same_token, same_word, punctuation, adjacent, other };
PairClass pair_class(const std::vector<std::string>& tokens, int64_t i, int64_t j);

/// Writes a map as NAME.csv, as a grey picture NAME.pgm (each row scaled to its largest entry) and
/// as a table with its tokens NAME.html; tokens are escaped.
void write_map(const std::filesystem::path& path_without_ending, const torch::Tensor& map,
               const std::vector<std::string>& tokens);

}  // namespace cajal::atlas

CAJAL_ENUM(cajal::atlas::PairClass, {cajal::atlas::PairClass::same_token, "same token"},
           {cajal::atlas::PairClass::same_word, "same word"},
           {cajal::atlas::PairClass::punctuation, "punctuation"},
           {cajal::atlas::PairClass::adjacent, "adjacent"},
           {cajal::atlas::PairClass::other, "other"})
