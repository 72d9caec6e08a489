#pragma once
#include <string>

#include "cajal/core/options.h"
#include "cajal/core/torch.h"
#include "cajal/layers/ffn/routing.h"
#include "cajal/neurons/activation.h"

namespace cajal {

/// How a sparse memory chooses the blocks that a token reads.
enum class Selector {
  avg_k,        // the highest x · mean key of the block
  vanilla,      // cells: the highest x · key, all keys computed
  low_rank,     // cells: the same with keys U Dᵀ of low rank
  product_key,  // cells: the same with keys [c_i; c'_j] for all pairs of two lists
  random_hash,  // a fixed random table by token id
  switched,     // Switch: the most probable of a gate, with capacity
  noisy_top_k   // mixture of experts: the best k of a noisy gate
};

/// What the answer of a chosen block is multiplied with.
enum class BlockGate {
  own,      // what the selector's source has: Switch its probability, noisy top-k the softmax over
            // the chosen, the others nothing
  none,     // 1
  softmax,  // its softmax over the scores of all blocks
  sigmoid   // σ of its score
};

/// How the same sum is computed.
enum class MemoryPath {
  automatic,  // grouped for blocks of 32 cells and more; else gather for up to 8 rows, masked
              // beyond
  masked,     // all cells, those not chosen times 0
  gather,     // the rows of the chosen cells, copied for each token
  grouped     // tokens sorted by block, one product a block
};

struct SparseMemoryOptions {
  int64_t width = 0;          // features in
  int64_t outputs = 0;        // features out; 0 = width
  int64_t neurons = 0;        // cells of the whole memory
  int64_t block = 1;          // cells of a block
  int64_t active_blocks = 1;  // read for each token
  Selector selector = Selector::avg_k;
  BlockGate gate = BlockGate::own;
  Activation law = Activation::relu;
  bool bias = false;       // of cells and of blocks
  int64_t shared = 0;      // neurons of a block that every token reads (shared expert, master leaf)
  int64_t rank = 0;        // low_rank
  int64_t ids = 256;       // random_hash: rows of its table
  int64_t ngram = 1;       // random_hash: ids that are hashed together
  uint64_t seed = 0;       // random_hash
  double capacity = 1.25;  // switched, in training; 0 = no row is dropped
  bool noise = true;       // noisy_top_k, in training
  double tie_noise = 0;    // avg_k, in training: deviation of noise on the scores
  double auxiliary = 0.01;              // switched: weight of its loss
  double importance = 0.1, load = 0.1;  // noisy_top_k: weights of its losses
  double deviation = 0.02;              // of keys and gates at the start; 0: uniform ±1/√fan_in
  int64_t layers = 1;  // of the network: values start with deviation / √(2 layers)
  MemoryPath path = MemoryPath::automatic;
  bool losses = false;  // `forward` also gives the selector's loss
};
CAJAL_OPTIONS(SparseMemoryOptions, width, outputs, neurons, block, active_blocks, selector, gate,
              law, bias, shared, rank, ids, ngram, seed, capacity, noise, tie_noise, auxiliary,
              importance, load, deviation, layers, path, losses)

/// Feed-forward network as a key-value memory of which a token reads some blocks of cells,
/// y = Σ over chosen blocks j of gate_j (Σ over cells i of j of law(x · k_i + b_i) v_i + c_j).
/// Dense feed-forward is one block; a mixture of experts has blocks as large as a network.
/// Shapes: x [..., width], ids i64 [...] (random_hash) -> y [..., outputs]; key [neurons, width],
/// value [neurons, outputs], bias_key [neurons], bias_value [blocks, outputs]; gate, noise [blocks,
/// width]; down [width, rank] and up [neurons, rank]; sub_keys [2, √neurons, width / 2]; table i64
/// [ids, active_blocks] (a buffer); shared_{key,value,bias_key,bias_value}.
/// Throws Error for options that do not fit together and for a wrong last axis of x.
/// Source: Liu et al. 2023, arXiv 2305.13999; dossier sparse-neural-memory.
class SparseMemoryImpl : public torch::nn::Module {
 public:
  explicit SparseMemoryImpl(const SparseMemoryOptions& options);

  /// y, and with `losses` the selector's loss [] (0 where it has none); else that is undefined.
  std::tuple<torch::Tensor, torch::Tensor> forward(const torch::Tensor& x,
                                                   const torch::Tensor& ids = {});

  /// The blocks (cells, for selectors of cells) that rows x [rows, width] read.
  routing::Selection select(const torch::Tensor& rows, const torch::Tensor& ids = {}) const;
  /// What rows read from a selection: [rows, outputs].
  torch::Tensor read(const torch::Tensor& rows, const routing::Selection& selection) const;

  /// Keeps the mean keys that avg_k scores with, for inference; training forgets them.
  void prepare();

  int64_t blocks() const { return options.neurons / options.block; }
  bool chooses_cells() const;

  const SparseMemoryOptions options;
  torch::Tensor key, value, bias_key, bias_value, gate, noise, down, up, sub_keys, table;
  torch::Tensor shared_key, shared_value, shared_bias_key, shared_bias_value;

 private:
  torch::Tensor block_scores(const torch::Tensor& rows) const;
  torch::Tensor cell_scores(const torch::Tensor& rows) const;
  torch::Tensor masked(const torch::Tensor& rows, const routing::Selection& chosen) const;
  torch::Tensor gathered(const torch::Tensor& rows, const routing::Selection& chosen) const;
  torch::Tensor grouped(const torch::Tensor& rows, const routing::Selection& chosen) const;
  torch::Tensor cells(const torch::Tensor& rows, const routing::Selection& chosen) const;

  torch::Tensor means_;  // [blocks, width] after `prepare`
};
TORCH_MODULE(SparseMemory);

/// What one token costs, in values and multiply-adds.
struct MemoryCost {
  int64_t stored = 0;    // parameters
  int64_t active = 0;    // parameters that a token reads, the selector's included
  int64_t memory = 0;    // multiply-adds with keys and values of chosen cells
  int64_t selector = 0;  // multiply-adds that choose them
};
MemoryCost cost_of(const SparseMemoryOptions& options);

}  // namespace cajal

CAJAL_ENUM(cajal::Selector, {cajal::Selector::avg_k, "avg_k"},
           {cajal::Selector::vanilla, "vanilla"}, {cajal::Selector::low_rank, "low_rank"},
           {cajal::Selector::product_key, "product_key"},
           {cajal::Selector::random_hash, "random_hash"}, {cajal::Selector::switched, "switch"},
           {cajal::Selector::noisy_top_k, "noisy_top_k"})
CAJAL_ENUM(cajal::BlockGate, {cajal::BlockGate::own, "own"}, {cajal::BlockGate::none, "none"},
           {cajal::BlockGate::softmax, "softmax"}, {cajal::BlockGate::sigmoid, "sigmoid"})
CAJAL_ENUM(cajal::MemoryPath, {cajal::MemoryPath::automatic, "automatic"},
           {cajal::MemoryPath::masked, "masked"}, {cajal::MemoryPath::gather, "gather"},
           {cajal::MemoryPath::grouped, "grouped"})
