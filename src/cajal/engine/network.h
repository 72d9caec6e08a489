#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cajal/engine/cache.h"
#include "cajal/engine/checkpoint.h"
#include "cajal/engine/linear.h"
#include "cajal/kernels/law.h"

/// Whole language models without libtorch: one copy of the weights, mapped as they lie in their
/// file or packed. Results are bitwise the same for every number of threads.
namespace cajal::engine {

struct Norm {
  std::vector<float> weight, bias;  // empty where there are none
};

struct Attention {
  Linear query, key, value;
  Linear fused;  // instead of the three: q|k|v of one head after another (GPT-NeoX)
  Linear output;
  Norm query_norm, key_norm;
};

/// Some neurons of one layer whose rows share their formats.
struct NeuronGroup {
  Linear key, gate;  // one row a neuron
  Linear value;      // one row an output, or
  RowMatrix values;  // one row a neuron, in split models
  int64_t neurons() const { return key.outputs(); }
};

/// The feed-forward network of one layer as the file stores it.
struct StoredFeedForward {
  Law law = Law::silu;
  bool gated = false;
  std::vector<NeuronGroup> groups;
  std::vector<float> bias;  // of the outputs, or empty
  int64_t bytes() const;

  /// y [batch, width] = FFN(x).
  void apply(Input& x, float* y) const;
};

/// What a layer does between its second norm and the residual stream: y [batch, width] = f(x).
using FeedForward = std::function<void(Input& x, float* y)>;

struct Layer {
  Norm norm1, norm1_after, norm2, norm2_after;  // *_after: Gemma 2 and 3
  Attention attention;
  std::shared_ptr<StoredFeedForward> stored;
  FeedForward feed_forward;      // in place of the stored one: experts, or a bank behind a selector
  int64_t ffn_bytes = 0;         // that it reads for a token
  int64_t unread_ffn_bytes = 0;  // of the stored network, that it does not
};

/// Whether a checkpoint is a causal language model of stored types and a law that kernels have.
bool can_run(const lm::Checkpoint& checkpoint);

/// How quantised matrices lie. stored: as their file has them, mapped; opening takes milliseconds.
/// packed: in tiles, which takes a reading of the file and decodes faster. Matrices that are read
/// in exact arithmetic stay as they are stored.
enum class Layout { stored, packed };

struct NetworkOptions {
  Arithmetic arithmetic = Arithmetic::rounded;
  Layout layout = Layout::packed;
};

/// A causal language model: every family of lm::Config that has a language head.
/// Source: dossier _language-model.
class Network {
 public:
  /// Opens a folder in Hugging Face layout, one that `cajal split` wrote, or a GGUF file.
  /// Throws Error naming the tensor that is missing or of the wrong shape, and for models that are
  /// not causal language models.
  static Network open(const std::filesystem::path& path, const NetworkOptions& options = {});
  static Network open(lm::Checkpoint checkpoint, const NetworkOptions& options = {});

  /// Reads `ids` after the tokens in `cache` and returns the logits of the last `wanted` of them,
  /// [wanted, vocabulary]. Throws Error for ids out of range and for more than the cache has room
  /// for.
  std::vector<float> forward(std::span<const int32_t> ids, int64_t wanted, Cache& cache,
                             ThreadPool& threads) const;

  const lm::Config& config() const { return checkpoint_.config; }
  /// Packs what is still as it is stored and runs in that form: for networks that were opened with
  /// Layout::stored, once banks have taken the neurons that they want. What it was packed from
  /// leaves memory, unless another copy of the checkpoint holds it.
  void pack(ThreadPool& threads);

  /// The form of keys and values that suits the weights: f32 for f32, else f16.
  CacheFormat cache_format() const;
  /// Bytes of weights read to decode one token.
  int64_t bytes_per_token() const;
  /// Bytes of all weights.
  int64_t bytes() const;

  std::vector<Layer> layers;
  NetworkOptions options;

 private:
  friend class NetworkLoader;
  struct Turn;

  void embed(std::span<const int32_t> ids, int64_t first, float* x, ThreadPool& threads) const;
  void run_chunk(std::span<const int32_t> ids, int64_t total, int64_t wanted, Cache& cache,
                 float* logits, ThreadPool& threads) const;
  void run_layer(int64_t index, int64_t batch, const Turn& turn, Cache& cache, float* x,
                 ThreadPool& threads) const;
  void attend(int64_t index, int64_t batch, const Turn& turn, Cache& cache, const float* x,
              float* y, ThreadPool& threads) const;
  void normalise(const Norm& norm, const float* x, int64_t rows, int64_t width, float* y) const;

  lm::Checkpoint checkpoint_;  // keeps the mapped bytes alive
  Linear tokens_;              // [vocabulary, embedding width]
  Linear positions_;
  Linear project_in_, project_out_;  // OPT, where the embedding is narrower than the model
  Norm norm_;
  std::optional<Linear> vocabulary_;  // where it is not the embedding
};

}  // namespace cajal::engine
