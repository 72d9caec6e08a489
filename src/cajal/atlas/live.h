#pragma once
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cajal/core/json.h"
#include "cajal/models/lm/transformer.h"
#include "cajal/text/tokenizer.h"

namespace cajal::atlas {

/// A loaded model that is asked what its neurons do on short texts, by one thread or many (they
/// wait for each other).
class Live {
 public:
  static constexpr size_t most_bytes = 2000;     // of a text
  static constexpr int64_t most_tokens = 256;    // of a text; what follows is not read
  static constexpr int64_t most_named = 50'000;  // neurons in one answer
  static constexpr int64_t most_top = 8;         // neurons of one token and layer

  /// Loads a checkpoint folder or GGUF file. Throws Error that names what is missing.
  explicit Live(const std::filesystem::path& path);

  /// {"tokens": [text], "cut": bool, "layers": [[[[neuron, activation, share]]]]}: for every layer
  /// and token the neurons with the largest output norm, and the share of the layer's output energy
  /// at that token that each holds. Throws Error for a text too long, and for one of no tokens.
  Json strongest(const std::string& text);

  /// {"tokens": [text], "cut": bool, "activations": [a]} of one neuron.
  Json follow(const std::string& text, int64_t layer, int64_t neuron);

  uint64_t hash() const { return hash_; }  // of the model, as its atlas has it

 private:
  struct Read {
    Json answer;
    torch::Tensor ids;  // i64 [1, tokens], with the begin token where the family has one
    bool begins = false;
  };
  Read read(const std::string& text) const;

  std::mutex mutex_;
  lm::Transformer model_{nullptr};
  std::optional<text::Tokenizer> tokenizer_;
  std::vector<torch::Tensor> norms_;  // of value rows
  uint64_t hash_ = 0;
};

}  // namespace cajal::atlas
