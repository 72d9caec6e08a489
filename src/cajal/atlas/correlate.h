#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/progress.h"
#include "cajal/core/threads.h"
#include "cajal/core/torch.h"
#include "cajal/kernels/cross.h"
#include "cajal/models/lm/transformer.h"

// Pearson correlation between all neurons of two models over the same tokens, streamed.
namespace cajal::atlas {

/// The bases that the neurons of the second model are compared with: their own, the same turned at
/// random in every layer, or their own at shuffled tokens.
enum class Basis { own, gaussian, orthogonal };

/// rho between n1 and n2 series that come in pieces. Sums are kept in fp64; products of values from
/// which the first piece's mean was taken are summed in fp32 over 256 tokens (bf16: 2048), tile by
/// tile in the cache, and added up in fp64. Precision::bf16 rounds the factors of the products
/// (not those of the variances) to 8 bits: several times as fast where the processor has a matrix
/// unit, and rho is then off by about 0.002 / sqrt(tokens at which both fire). Memory: 8 n1 n2
/// bytes, and with `within` 8 bytes for every pair of series of the second kind in one layer.
/// Source: dossier universal-neurons, Build 1.
class Pearson {
 public:
  /// `layers_b`: [begin, end) ranges of series b, one a layer; with `within` correlations inside
  /// each are kept too, which turned bases need.
  Pearson(int64_t a, int64_t b, std::vector<std::pair<int64_t, int64_t>> layers_b, bool within,
          Precision precision = Precision::f32);

  /// Adds tokens: a [tokens, n1] and b [tokens, n2], fp32 on the CPU.
  /// Throws Error when the shapes do not fit.
  void add(const torch::Tensor& a, const torch::Tensor& b);

  int64_t tokens() const { return tokens_; }
  /// rho [n1, n2] fp64, of rows [begin, end) of a; 0 for a series that never changes.
  torch::Tensor rho(int64_t begin, int64_t end) const;
  /// The same with the series of layer `layer` of b replaced by `turn` [m, m] times them, by
  /// linearity: [n1, m]. Throws Error without `within`.
  torch::Tensor turned(int64_t layer, const torch::Tensor& turn) const;
  /// Multiply-adds that went into products so far.
  double multiplications() const { return multiplications_; }

 private:
  torch::Tensor deviation(bool of_a) const;  // sqrt of the centred sums of squares
  // Centred values of a piece, with the zeros behind them that products read.
  struct Centred {
    torch::Tensor values;  // [tokens and more, columns and more]
    ColumnTable table(int64_t begin, int64_t end) const;
  };
  void centre(const torch::Tensor& x, const torch::Tensor& shift, Centred& out, torch::Tensor& sum,
              torch::Tensor& square);

  ThreadPool threads_;
  CrossProducts products_;
  Centred centred_a_, centred_b_;
  std::vector<std::pair<int64_t, int64_t>> layers_;
  torch::Tensor shift_a_, shift_b_, sum_a_, sum_b_, square_a_, square_b_, cross_;
  std::vector<torch::Tensor> within_;  // [m, m] a layer
  int64_t tokens_ = 0;
  double multiplications_ = 0;
};

/// A random turn of m axes: rows of independent normals with unit length, or exactly orthogonal.
torch::Tensor random_turn(Basis basis, int64_t m, uint64_t seed);

/// A neuron of the other model and how well it follows.
struct Match {
  int64_t index = -1;  // neurons of all layers counted through
  float rho = 0;
};

/// What is kept of all correlations of each neuron of the first model.
struct Matches {
  int64_t kept = 0;                  // best ones of each neuron
  std::vector<Match> best;           // [neurons, kept], largest rho first
  std::vector<double> turned;        // [neurons] largest rho with the turned basis
  std::vector<int64_t> histogram;    // [100] of all rho, bins of 0.02 from -1 to 1
  std::vector<double> mean, spread;  // [neurons] of rho over the other model's neurons
  double excess(int64_t neuron) const { return best[neuron * kept].rho - turned[neuron]; }
};

struct CorrelateOptions {
  int64_t context = 0;               // tokens a window; 0 = 512, or what the models hold
  int64_t batch = 8;                 // windows in one go
  Basis turned = Basis::orthogonal;  // the baseline
  int64_t kept = 5;
  uint64_t seed = 0;                     // of the turn
  Precision precision = Precision::f32;  // of the products
  bool shuffle = false;                  // b reads its tokens in another order within each batch
  int64_t memory = int64_t{4} << 30;  // bytes for sums of products; more neurons take more passes
};

/// Correlates every FFN neuron (after its law) of `a` with every one of `b` over the text, which
/// both must read alike. Where the sums do not fit into `memory` the neurons of `a` are taken a
/// part at a time, a pass over the text each. Throws Error for models of different vocabularies.
Matches correlate(lm::Transformer& a, lm::Transformer& b, std::span<const int32_t> ids,
                  const CorrelateOptions& options = {}, Progress* progress = nullptr);

/// Activations of every layer, [tokens, all neurons] fp32, batch after batch of the text as
/// `measure` cuts it (without the begin tokens).
void each_activation(lm::Transformer& model, std::span<const int32_t> ids, int64_t context,
                     int64_t batch,
                     const std::function<void(int64_t first, const torch::Tensor&)>& take);

}  // namespace cajal::atlas

CAJAL_ENUM(cajal::atlas::Basis, {cajal::atlas::Basis::own, "own"},
           {cajal::atlas::Basis::gaussian, "gaussian"},
           {cajal::atlas::Basis::orthogonal, "orthogonal"})
