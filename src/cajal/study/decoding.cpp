#include "cajal/study/decoding.h"

#include "cajal/core/threads.h"
#include "cajal/core/timing.h"
#include "cajal/engine/network.h"

namespace cajal::study {

std::vector<Decoding> time_decoding(const std::vector<std::filesystem::path>& models,
                                    std::span<const int32_t> ids, int rounds) {
  std::vector<engine::Network> networks;
  for (const auto& model : models) networks.push_back(engine::Network::open(model));
  ThreadPool threads;
  std::vector<std::function<void()>> candidates;
  for (const auto& network : networks)
    candidates.push_back([&] {
      engine::Cache cache(network.config(), std::ssize(ids), network.cache_format());
      for (size_t t = 0; t < ids.size(); ++t) network.forward(ids.subspan(t, 1), 1, cache, threads);
    });
  const auto times = time_interleaved(candidates, rounds, 3);
  std::vector<Decoding> out;
  for (size_t k = 0; k < networks.size(); ++k)
    out.push_back({static_cast<double>(networks[k].bytes_per_token()),
                   static_cast<double>(ids.size()) / times.median_seconds(k), times.ratio(0, k)});
  return out;
}

}  // namespace cajal::study
