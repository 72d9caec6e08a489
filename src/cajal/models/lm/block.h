#pragma once
#include <map>
#include <string>
#include <tuple>

#include "cajal/models/lm/transformer.h"

// The inside of TransformerImpl: one block of the forward pass.
namespace cajal::lm {

/// The hook points under one prefix ("blocks.3."); nothing is done where no hooks are.
class Points {
 public:
  explicit Points(Hooks* hooks, std::string prefix = "")
      : hooks_(hooks && !hooks->empty() ? hooks : nullptr), prefix_(std::move(prefix)) {}

  bool wants(std::string_view point) const {
    return hooks_ && hooks_->wants(prefix_ + std::string(point));
  }
  torch::Tensor operator()(std::string_view point, torch::Tensor value) const {
    return hooks_ ? hooks_->visit(prefix_ + std::string(point), std::move(value)) : value;
  }

 private:
  Hooks* hooks_;
  std::string prefix_;
};

/// Throws Error when the tokens go past the context or the mask does not cover them.
void check_pass(const Config& config, const Pass& pass, int64_t batch, int64_t tokens);

/// What the layers of one pass have in common: rotations, masks, cache, hooks.
class Shared {
 public:
  Shared(const Config& config, const Pass& pass, const torch::Tensor& residual);

  struct Rotation {
    torch::Tensor cos, sin;  // [tokens, 1, rotated width / 2]
  };
  const Rotation& rotation(int64_t layer) const;

  struct Visibility {
    torch::Tensor bias;   // adds to the scores, 0 or -inf; undefined: all keys are seen
    bool causal = false;  // instead of a bias: query i sees keys up to i
  };
  /// Which of `keys` keys, the first at position `first`, a layer's queries see; with `spelled_out`
  /// always as a bias where anything is hidden.
  Visibility visibility(int64_t layer, int64_t first, int64_t keys, bool spelled_out);

  const Config& config;
  Hooks* const hooks;
  KeyValueCache* const cache;
  const int64_t past, tokens;

 private:
  torch::Tensor bias(int64_t window, int64_t first, int64_t keys) const;

  torch::Tensor mask_;  // bool [batch, past + tokens] or undefined
  torch::Device device_;
  Rotation global_, local_;
  std::map<std::tuple<int64_t, int64_t, int64_t>, torch::Tensor> biases_;
};

/// The residual stream and what is still to be added to it, so that the sum and the norm that reads
/// it are one step.
struct Stream {
  torch::Tensor residual, delta;
  const torch::Tensor& settle();  // adds delta
};

/// The norm of the stream, through the points NAME.hook_scale and NAME.hook_normalized.
torch::Tensor normalise(const Config& config, Stream& stream, const Norm& norm,
                        const std::string& name, const Points& at);

/// Attention of one layer: x [batch, tokens, width] (normed) -> what it adds to the stream.
torch::Tensor attend(int64_t layer, const Attention& attention, const torch::Tensor& x,
                     Shared& shared, const Points& at);

/// x [batch, heads, tokens, head width] -> each head `times` times: key heads for the query heads
/// that follow each other and share one.
torch::Tensor repeat_heads(const torch::Tensor& x, int64_t times);

/// Feed-forward network of one layer: x [batch, tokens, width] (normed) -> what it adds.
torch::Tensor feed_forward(const Config& config, const FeedForward& ffn, const torch::Tensor& x,
                           const Points& at);

void run_block(int64_t layer, const Block& block, Stream& stream, Shared& shared);

}  // namespace cajal::lm
