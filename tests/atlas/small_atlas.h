#pragma once
#include <filesystem>

#include "cajal/atlas/store.h"
#include "cajal/core/random.h"

namespace cajal::atlas {

/// A census of 2 layers of 20 neurons over 100 tokens, and findings whose words are known: neuron i
/// of a layer fires at 5 i tokens (0: dead), raises " Sea<i>" and "<b>", lowers " land". Markup and
/// quotes stand in names and words.
inline std::pair<Census, Findings> small_atlas() {
  Census census{.model = "<script>model</script>", .text = "it's \"text\"", .text_tokens = 100};
  census.context = 50, census.batch = 1, census.units = 2, census.covered = {{0, 2}};
  census.token_totals.assign(8, 12), census.position_totals.assign(50, 2);
  Findings findings;
  for (int l = 0; l < 2; ++l) {
    LayerCensus layer(std::vector<float>(20, 1.0f), std::vector<float>(20, 2.0f), false,
                      {.shapes = true, .positions = 50, .vocabulary = 8});
    layer.tokens = layer.live_tokens = 100;
    auto& found = findings.neurons.emplace_back(20);
    findings.layers.emplace_back();
    for (int64_t i = 0; i < 20; ++i) {
      layer.fired[i] = layer.positive[i] = 5 * i;
      layer.zero[i] = 100 - 5 * i;
      layer.top[i] = i >= 18 ? 60 : 0;
      layer.sum[i].add(static_cast<double>(i)), layer.absolute[i].add(static_cast<double>(i));
      layer.square[i].add(static_cast<double>(i * i));
      layer.tables.histogram.count[i * Histogram::bins + 64] = 100;
      if (i > 0) layer.peaks[i * LayerCensus::peaks_kept] = {static_cast<float>(i), 7};
      found[i].promoted = {" Sea" + std::to_string(i), "<b>"}, found[i].lowered = {" land"};
    }
    found[3].triggers = {.order = 1, .covered = 1, .keys = {2}, .counts = {15}};
    found[3].trigger_texts = {" it's"};
    found[5].universal = {{"other", 1, 4, 0.9, 0.2}};
    layer.tables.pack();
    census.layers.push_back(std::move(layer));
  }
  census.contexts[7] = {"<img src=x> ", "\xc3\xa9t\xc3\xa9", " \xff end"};
  return {census, findings};
}

inline void save_small_atlas(const std::filesystem::path& path) {
  const auto [census, findings] = small_atlas();
  save(census, path, &findings);
}

}  // namespace cajal::atlas
