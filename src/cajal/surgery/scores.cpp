#include "cajal/surgery/scores.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cajal/core/random.h"

namespace cajal::surgery {

std::vector<int32_t> ranking(const atlas::LayerCensus& layer, Score score, uint64_t seed) {
  const auto count = static_cast<size_t>(layer.neurons);
  std::vector<double> first(count), second(count);
  Random random(seed);
  for (size_t i = 0; i < count; ++i) {
    const auto n = static_cast<int64_t>(i);
    second[i] = layer.energy(n);
    switch (score) {
      case Score::hits:
        first[i] = layer.hits(n);
        break;
      case Score::mean_norm:
        first[i] = layer.mean_norm(n);
        break;
      case Score::energy:
        first[i] = second[i];
        break;
      case Score::weight:
        first[i] = double{layer.key_norm[i]} * layer.value_norm[i];
        break;
      case Score::random:
        first[i] = random.uniform();
        break;
    }
  }
  std::vector<int32_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return first[a] != first[b] ? first[a] > first[b] : second[a] > second[b];
  });
  return order;
}

int64_t heavy_count(int64_t neurons, double ratio) {
  require(ratio >= 0 && ratio <= 1, "ratio is {}, expected 0 to 1", ratio);
  const auto wanted = static_cast<int64_t>(std::ceil(ratio * static_cast<double>(neurons) - 1e-9));
  return std::min(neurons, (wanted + 31) / 32 * 32);
}

std::vector<int32_t> heavy_neurons(const atlas::LayerCensus& layer, Score score, double ratio,
                                   uint64_t seed) {
  auto order = ranking(layer, score, seed);
  order.resize(static_cast<size_t>(heavy_count(layer.neurons, ratio)));
  return order;
}

double energy_share(const atlas::LayerCensus& layer, const int32_t* begin, const int32_t* end) {
  double all = 0, held = 0;
  for (int64_t i = 0; i < layer.neurons; ++i) all += layer.energy(i);
  for (const int32_t* i = begin; i != end; ++i) held += layer.energy(*i);
  return all > 0 ? held / all : 0;
}

double jaccard(std::vector<int32_t> a, std::vector<int32_t> b) {
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  std::vector<int32_t> both;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
  const auto either = a.size() + b.size() - both.size();
  return either > 0 ? static_cast<double>(both.size()) / static_cast<double>(either) : 1;
}

}  // namespace cajal::surgery
