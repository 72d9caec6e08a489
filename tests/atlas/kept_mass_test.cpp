#include "cajal/atlas/kept_mass.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"
#include "cajal/models/lm/checkpoint.h"

namespace cajal::atlas {
namespace {

lm::Adapted adapted(lm::AdaptedAttention attention) {
  auto model = lm::initialise(lm::config_from_json({{"model_type", "gpt2"},
                                                    {"n_embd", 32},
                                                    {"n_layer", 2},
                                                    {"n_inner", 24},
                                                    {"n_head", 2},
                                                    {"vocab_size", 40},
                                                    {"n_positions", 32}},
                                                   "test"),
                              1, 0.5);
  return lm::Adapted(model, lm::AdapterOptions{.rank = 2, .blocks = 0, .attention = attention}, 1);
}

TEST(KeptMass, ExactKeysHoldMostAndRandomOnesAboutTheirShare) {
  auto model = adapted(lm::AdaptedAttention::sparse);
  std::vector<int32_t> ids;
  for (int i = 0; i < 32; ++i) ids.push_back(i * 7 % 40);
  const KeySearch searches[] = {KeySearch::codes, KeySearch::scores, KeySearch::random};
  const auto mass = kept_mass(model, ids, searches);
  EXPECT_LE(mass[0], mass[1]);
  EXPECT_LT(mass[2], mass[1]);
  EXPECT_GT(mass[2], 0.05);
  EXPECT_LE(mass[1], 1);
  auto dense = adapted(lm::AdaptedAttention::dense);
  EXPECT_THROW(kept_mass(dense, ids, searches), Error);
}

}  // namespace
}  // namespace cajal::atlas
