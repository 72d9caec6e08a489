#include "cajal/train/sparse_memory.h"

#include <gtest/gtest.h>

namespace cajal::train {
namespace {

TEST(MemoryPlans, ReadAsManyCellsAsTheDenseNetworkHasButForTheWideOne) {
  for (const auto& [name, o] : memory_plans(16, 64, 4, 2, {64, 16})) {
    const int64_t read = o.block * o.active_blocks + o.shared;
    EXPECT_EQ(read, name.starts_with("wide") ? 256 : 64) << name;
    EXPECT_NO_THROW(SparseMemory{o}) << name;
  }
}

TEST(MemoryLanguage, CountsWhatItsMemoriesStore) {
  const SmallLanguageOptions preset{
      .width = 16, .layers = 2, .heads = 2, .neurons = 64, .context = 16, .batch = 2, .steps = 2};
  const auto text = (torch::rand({2048}) * 255).to(torch::kByte);
  SparseMemoryOptions options{.width = 16, .neurons = 64, .block = 64, .layers = 2};
  const auto dense = fit_memory_language(preset, options, text, text, 0, torch::kCPU);
  options.neurons = 128, options.block = 16, options.active_blocks = 4;
  const auto sparse = fit_memory_language(preset, options, text, text, 0, torch::kCPU);
  EXPECT_EQ(sparse.parameters - dense.parameters, 2 * 64 * 16);
  EXPECT_EQ(sparse.base_multiply_adds, dense.base_multiply_adds);
  EXPECT_EQ(dense.use_entropy, 1);
  EXPECT_LT(sparse.use_entropy, 1);
}

TEST(FactsHeld, AreMoreInALargerMemory) {
  torch::manual_seed(1);
  const auto held = [](int64_t neurons) {
    return facts_held({.width = 16, .neurons = neurons, .block = neurons}, 256, 60);
  };
  const double few = held(4), many = held(64);
  EXPECT_GT(many, 1.5 * few);
}

}  // namespace
}  // namespace cajal::train
