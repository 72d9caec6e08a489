#include "cajal/surgery/prune.h"

#include <gtest/gtest.h>

#include "cajal/atlas/measure.h"
#include "cajal/atlas/planted_neurons.h"
#include "cajal/core/error.h"

namespace cajal::surgery {
namespace {

atlas::PlantedNeurons planted() {
  return atlas::plant_neurons(
      {.layers = 2, .neurons = 256, .vocabulary = 512, .context = 64, .tokens = 640});
}

torch::Tensor logits(lm::Transformer& model, std::span<const int32_t> text) {
  const torch::NoGradGuard no_grad;
  return model->forward(atlas::windows(model->config, text, 64));
}

TEST(Prune, DeadNeuronsTakeNothingFromTheLogits) {
  auto p = planted();
  const auto census = atlas::measure(p.model, p.text);
  const auto before = logits(p.model, p.text);
  const auto kept = alive_neurons(census);
  EXPECT_LE(std::ssize(kept[0]), 256 - 16);  // those that were planted dead
  const double gone = keep_neurons(p.model, kept);
  EXPECT_EQ(p.model->blocks[0].ffn.groups[0].neurons(), std::ssize(kept[0]));
  EXPECT_DOUBLE_EQ(gone, 1 - static_cast<double>(kept[0].size() + kept[1].size()) / 512);
  EXPECT_LE((logits(p.model, p.text) - before).abs().max().item<double>(), 1e-5);
}

TEST(Prune, LongestNeuronsAreAsManyAndOfThoseTheLongest) {
  const auto p = planted();
  const auto census = atlas::blank(p.model);
  const auto kept = longest_neurons(census, {{0, 1, 2}, {7}});
  ASSERT_EQ(kept[0].size(), 3u);
  const auto& layer = census.layers[1];
  const auto length = [&](int64_t i) { return layer.key_norm[i] * layer.value_norm[i]; };
  for (int64_t i = 0; i < layer.neurons; ++i) EXPECT_LE(length(i), length(kept[1][0]));
}

TEST(Prune, RefusesAnotherNumberOfLayers) {
  auto p = planted();
  EXPECT_THROW(keep_neurons(p.model, {{0, 1}}), Error);
}

}  // namespace
}  // namespace cajal::surgery
