// Writes an atlas of made-up neurons, to see what cajal serve does with many of them:
// synthetic_atlas FILE [layers] [neurons a layer]
#include <cmath>
#include <cstdio>

#include "cajal/atlas/store.h"
#include "cajal/core/error.h"
#include "cajal/core/random.h"

namespace {

using namespace cajal;
using namespace cajal::atlas;

constexpr int64_t kTokens = 32768, kWindow = 512, kVocabulary = 8000;
constexpr int64_t kPlaces = 20000;  // tokens of the text that stand as peaks

std::string word(uint64_t number) {
  if (number % 500 == 1) return "<img src=x onerror=alert(1)>";  // must stay text
  static constexpr const char* kParts[] = {"ka", "lo", "mi", "ne", "pu", "ra", "so", "ti"};
  std::string out = " ";
  for (uint64_t rest = number + 8; rest > 0; rest /= 8) out += kParts[rest % 8];
  return out;
}

LayerCensus layer(int64_t l, int64_t neurons, Random& random) {
  LayerCensus out(std::vector<float>(neurons, 1.0f), std::vector<float>(neurons, 0.5f), false,
                  {.shapes = true, .positions = kWindow, .vocabulary = kVocabulary});
  out.tokens = out.live_tokens = kTokens;
  out.tables.positions.unpack();
  for (int64_t i = 0; i < neurons; ++i) {
    const bool dead = random.below(40) == 0;
    const double rate = dead ? 0 : std::pow(random.uniform(), 2.0 + 0.3 * static_cast<double>(l));
    const double strength = std::exp(random.normal());
    out.fired[i] = out.positive[i] = static_cast<int64_t>(rate * kTokens);
    out.zero[i] = kTokens - out.fired[i];
    out.top[i] = static_cast<int64_t>(rate * rate * kTokens);
    const double sum = rate * strength * kTokens;
    out.sum[i].add(sum), out.absolute[i].add(sum), out.square[i].add(sum * strength);
    for (int k = 0; k < LayerCensus::peaks_kept && !dead; ++k)
      out.peaks[i * LayerCensus::peaks_kept + k] = {static_cast<float>(strength * (10 - k)),
                                                    static_cast<int64_t>(random.below(kPlaces))};
    for (int64_t p = 0; p < kWindow; ++p)
      out.tables.positions.row(p)[i] =
          static_cast<uint32_t>(rate * kTokens / kWindow + random.uniform());
    for (int k = 0; k < kTokens / 64; ++k) {
      const auto x = static_cast<float>(random.normal() * strength - 1 + 2 * rate);
      out.tables.histogram.count[i * Histogram::bins + Histogram::bin(x)] += 64;
    }
  }
  out.tables.pack();
  return out;
}

Finding finding(Random& random, bool dead) {
  Finding out;
  for (int k = 0; k < 10; ++k) {
    out.promoted.push_back(word(random.below(kVocabulary)));
    out.lowered.push_back(word(random.below(kVocabulary)));
  }
  if (!dead && random.below(8) == 0) {
    out.triggers = {.order = 1, .pure = true, .covered = 0.97, .selectivity = 0.96};
    for (int k = 0; k < 8; ++k) {
      out.triggers.keys.push_back(static_cast<int64_t>(random.below(kVocabulary)));
      out.triggers.counts.push_back(20);
      out.trigger_texts.push_back(word(static_cast<uint64_t>(out.triggers.keys.back())));
    }
    out.suppressed = random.uniform();
  }
  out.position = random.below(20) == 0 ? PositionKind::weak : PositionKind::none;
  out.cosine_kurtosis = 3 + (random.below(10) == 0 ? 20 : 0), out.cosine_skew = random.normal();
  if (random.below(3) == 0)
    out.universal = {{"another", static_cast<int64_t>(random.below(12)),
                      static_cast<int64_t>(random.below(8000)), random.uniform(), 0.2}};
  return out;
}

void write(const std::string& file, int64_t layers, int64_t neurons) {
  Random random(1);
  Census census{.model = "synthetic <b class=hostile>atlas</b>",
                .text = "made-up.txt",
                .text_tokens = kTokens};
  census.context = kWindow, census.batch = 8, census.units = 8, census.covered = {{0, 8}};
  census.token_totals.assign(kVocabulary, 4);
  census.position_totals.assign(kWindow, kTokens / kWindow);
  for (int64_t token = 0; token < kPlaces; ++token) {
    std::string before;
    for (int k = 0; k < 12; ++k) before += word(random.below(kVocabulary));
    census.contexts[token] = {before, word(random.below(kVocabulary)),
                              word(random.below(kVocabulary))};
  }
  Findings findings;
  for (int64_t l = 0; l < layers; ++l) {
    census.layers.push_back(layer(l, neurons, random));
    findings.layers.emplace_back();
    auto& of_layer = findings.neurons.emplace_back();
    for (int64_t i = 0; i < neurons; ++i)
      of_layer.push_back(finding(random, census.layers.back().dead(i)));
  }
  save(census, file, &findings);
}

}  // namespace

int main(int argc, char** argv) try {
  cajal::require(argc >= 2 && argc <= 4, "usage: synthetic_atlas FILE [layers] [neurons a layer]");
  write(argv[1], argc > 2 ? std::stoll(argv[2]) : 12, argc > 3 ? std::stoll(argv[3]) : 8334);
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}
