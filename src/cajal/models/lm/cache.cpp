#include "cajal/models/lm/cache.h"

#include <algorithm>

namespace cajal::lm {

KeyValueCache::KeyValueCache(const Config& config, int64_t batch)
    : layers_(static_cast<size_t>(config.layers)),
      window_(config.window),
      batch_(batch),
      context_(config.context) {
  require(config.causal, "a cache of keys and values needs a causal model");
}

int64_t KeyValueCache::bytes() const {
  int64_t total = 0;
  for (const auto& layer : layers_)
    if (layer.k.defined()) total += static_cast<int64_t>(layer.k.nbytes() + layer.v.nbytes());
  return total;
}

// Room for `extra` more tokens behind those in use: by moving these to the front where that frees
// enough, else into a larger buffer (twice the need, so that tokens are copied O(1) times each).
void KeyValueCache::make_room(Layer& layer, int64_t extra, const torch::Tensor& like) {
  const int64_t room = layer.k.defined() ? layer.k.size(2) : 0;
  if (layer.begin + layer.count + extra <= room) return;
  const int64_t need = layer.count + extra;
  const int64_t wanted = std::max(need, std::min(2 * need, std::max(context_, need)));
  const bool fits = need <= room && 2 * layer.begin >= room;
  for (auto* kept : {&layer.k, &layer.v}) {
    auto sizes = like.sizes().vec();
    sizes[2] = fits ? room : std::max(wanted, int64_t{64});
    auto buffer = fits ? *kept : torch::empty(sizes, like.options());
    if (layer.count > 0)
      buffer.narrow(2, 0, layer.count).copy_(kept->narrow(2, layer.begin, layer.count).clone());
    *kept = buffer;
  }
  layer.begin = 0;
}

KeyValueCache::View KeyValueCache::append(int64_t index, const torch::Tensor& k,
                                          const torch::Tensor& v) {
  const torch::NoGradGuard no_grad;
  require(k.size(0) == batch_, "cache: a batch of {}, expected {} as when it was made", k.size(0),
          batch_);
  auto& layer = layers_[static_cast<size_t>(index)];
  const int64_t window = window_[static_cast<size_t>(index)], added = k.size(2);
  const int64_t first = tokens_ - layer.count;
  const auto used = [&](const torch::Tensor& t) { return t.narrow(2, layer.begin, layer.count); };
  if (window > 0 && added >= window) {  // a long prompt: attend to all of it, keep its end
    View view{k, v, first};
    if (layer.count > 0)
      view.k = torch::cat({used(layer.k), k}, 2), view.v = torch::cat({used(layer.v), v}, 2);
    layer = {};
    make_room(layer, window, k);
    layer.k.narrow(2, 0, window).copy_(k.narrow(2, added - window, window));
    layer.v.narrow(2, 0, window).copy_(v.narrow(2, added - window, window));
    layer.count = window;
    return view;
  }
  make_room(layer, added, k);
  layer.k.narrow(2, layer.begin + layer.count, added).copy_(k);
  layer.v.narrow(2, layer.begin + layer.count, added).copy_(v);
  layer.count += added;
  // The oldest of the new queries sees window - 1 keys before it.
  const int64_t skip = window > 0 ? std::max<int64_t>(0, layer.count - (window - 1 + added)) : 0;
  const auto seen = [&](const torch::Tensor& t) {
    return t.narrow(2, layer.begin + skip, layer.count - skip);
  };
  const View view{seen(layer.k), seen(layer.v), first + skip};
  if (window > 0 && layer.count > window) {
    layer.begin += layer.count - window;
    layer.count = window;
  }
  return view;
}

}  // namespace cajal::lm
