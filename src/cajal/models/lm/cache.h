#pragma once
#include <vector>

#include "cajal/core/torch.h"
#include "cajal/engine/config.h"

namespace cajal::lm {

/// Keys and values of the tokens so far, one pair a layer; a layer with a window keeps only that
/// many. For inference: nothing in it carries gradients.
class KeyValueCache {
 public:
  explicit KeyValueCache(const Config& config, int64_t batch = 1);

  int64_t tokens() const { return tokens_; }  // seen so far: the position of the next one
  int64_t bytes() const;                      // allocated

  // For the model: appends k, v [batch, kv_heads, new, head_width] of layer `layer` and returns all
  // keys and values to attend to; `first` is the position of the first of them.
  struct View {
    torch::Tensor k, v;
    int64_t first;
  };
  View append(int64_t layer, const torch::Tensor& k, const torch::Tensor& v);
  void advance(int64_t count) { tokens_ += count; }

 private:
  struct Layer {
    torch::Tensor k, v;            // [batch, kv_heads, room, head_width]
    int64_t begin = 0, count = 0;  // the part in use
  };
  void make_room(Layer& layer, int64_t extra, const torch::Tensor& like);

  std::vector<Layer> layers_;
  std::vector<int64_t> window_;
  int64_t batch_, context_, tokens_ = 0;
};

}  // namespace cajal::lm
