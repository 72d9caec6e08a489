#include "cajal/engine/network.h"

#include "cajal/engine/generate.h"
#include "engine/golden.h"

namespace cajal::engine {
namespace {

using namespace testing;
namespace fs = std::filesystem;

std::vector<float> logits_of(const fs::path& path, const std::vector<int32_t>& ids,
                             Arithmetic arithmetic, int threads = 2,
                             CacheFormat format = CacheFormat::f32) {
  const auto network = Network::open(path, {.arithmetic = arithmetic});
  ThreadPool pool(threads);
  Cache cache(network.config(), static_cast<int64_t>(ids.size()), format);
  return network.forward(ids, static_cast<int64_t>(ids.size()), cache, pool);
}

class GgufFile : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const auto folder = golden("gguf");
    CAJAL_NEED_GOLDEN(folder);
    path = folder / fmt::format("llama-{}.gguf", GetParam());
    reference.emplace(
        TensorFile::open(folder / fmt::format("llama-{}.reference.safetensors", GetParam())));
    ids = first_ids(reference->at("input_ids"));
  }

  fs::path path;
  std::optional<TensorFile> reference;
  std::vector<int32_t> ids;
};

TEST_P(GgufFile, GivesTheLogitsOfItsDecodedWeights) {
  const auto logits = logits_of(path, ids, Arithmetic::exact);
  EXPECT_LT(largest_distance(logits, floats(reference->at("logits"))), 1e-4);
}

TEST_P(GgufFile, RoundedStaysWithinWhatRoundingCosts) {
  const auto logits = logits_of(path, ids, Arithmetic::rounded);
  EXPECT_LT(relative_rms(logits, floats(reference->at("logits_ggml"))), 0.06);
}

TEST_P(GgufFile, ReadTokenByTokenIsReadAtOnce) {
  const auto network = Network::open(path, {.arithmetic = Arithmetic::exact});
  ThreadPool pool(2);
  Cache cache(network.config(), 24, CacheFormat::f32);
  std::vector<float> all;
  for (const int32_t id : ids) {
    const auto one = network.forward(std::span(&id, 1), 1, cache, pool);
    all.insert(all.end(), one.begin(), one.end());
  }
  EXPECT_LT(largest_distance(all, logits_of(path, ids, Arithmetic::exact)), 1e-4);
}

TEST_P(GgufFile, IsBitwiseTheSameForEveryNumberOfThreads) {
  const auto once = logits_of(path, ids, Arithmetic::rounded, 1);
  for (const int threads : {2, 3, 5})
    EXPECT_EQ(once, logits_of(path, ids, Arithmetic::rounded, threads));
}

std::vector<float> token_by_token(const Network& network, const std::vector<int32_t>& ids,
                                  int64_t at_once, int threads) {
  ThreadPool pool(threads);
  Cache cache(network.config(), std::ssize(ids), CacheFormat::f32);
  std::vector<float> all;
  for (int64_t t = 0; t + at_once <= std::ssize(ids); t += at_once) {
    const auto logits = network.forward(std::span(ids).subspan(t, at_once), at_once, cache, pool);
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

TEST_P(GgufFile, PackedGivesTheLogitsOfTheStoredRowsForFewAndManyTokens) {
  const auto stored = Network::open(path, {.layout = Layout::stored}), packed = Network::open(path);
  for (const int64_t at_once : {1, 5, 8, 12}) {
    const auto expected = token_by_token(stored, ids, at_once, 1);
    // Sums in another order, which the next rounding to 8 bits makes larger.
    EXPECT_LT(relative_rms(token_by_token(packed, ids, at_once, 1), expected), 0.01) << at_once;
  }
}

TEST_P(GgufFile, DecodesBitwiseTheSameForEveryNumberOfThreads) {
  const auto network = Network::open(path);
  for (const int64_t at_once : {1, 6}) {
    const auto once = token_by_token(network, ids, at_once, 1);
    for (const int threads : {2, 3, 5})
      EXPECT_EQ(once, token_by_token(network, ids, at_once, threads)) << at_once;
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, GgufFile, ::testing::Values("F32", "F16", "Q8_0", "Q4_0"));

TEST(Network, TheFolderAndTheFileOfTheSameWeightsAgree) {
  const auto folder = golden("gguf");
  CAJAL_NEED_GOLDEN(folder);
  const auto ids =
      first_ids(TensorFile::open(folder / "llama-F32.reference.safetensors").at("input_ids"));
  const auto ours = logits_of(folder / "hf", ids, Arithmetic::exact);
  EXPECT_LT(largest_distance(ours, logits_of(folder / "llama-F32.gguf", ids, Arithmetic::exact)),
            1e-5);
}

class Family : public ::testing::TestWithParam<const char*> {};

TEST_P(Family, GivesTheReferenceLogitsAndGreedyIds) {
  const auto folder = golden("checkpoints") / GetParam();
  if (!fs::exists(folder)) GTEST_SKIP() << "CAJAL_GOLDEN holds no checkpoint of this family";
  const auto reference = TensorFile::open(folder / "reference.safetensors");
  const auto ids = first_ids(reference.at("input_ids"));
  const auto logits = logits_of(folder, ids, Arithmetic::exact);
  auto expected = floats(reference.at("logits"));
  expected.resize(logits.size());  // of the first row
  EXPECT_LT(largest_distance(logits, expected), 1e-4);

  const auto greedy = first_ids(reference.at("greedy_ids"));
  const std::vector<int32_t> prompt(greedy.begin(), greedy.begin() + 6);
  const auto network = Network::open(folder);
  ThreadPool pool(2);
  const auto made =
      generate(network, prompt, {.max_tokens = static_cast<int64_t>(greedy.size()) - 6}, pool);
  EXPECT_EQ(made, greedy);
}

INSTANTIATE_TEST_SUITE_P(Golden, Family, ::testing::Values("gpt2", "opt", "llama"));

TEST(Network, RefusesMoreTokensThanItsCacheHolds) {
  const auto folder = golden("gguf");
  CAJAL_NEED_GOLDEN(folder);
  const auto network = Network::open(folder / "llama-F32.gguf");
  ThreadPool pool(1);
  Cache cache(network.config(), 3, CacheFormat::f16);
  EXPECT_THROW(network.forward(std::vector<int32_t>{1, 2, 3, 4}, 1, cache, pool), Error);
  EXPECT_THROW(network.forward(std::vector<int32_t>{512}, 1, cache, pool), Error);
}

TEST(Network, KeysInEightBitsChangeLogitsLittle) {
  const auto folder = golden("gguf");
  CAJAL_NEED_GOLDEN(folder);
  const auto path = folder / "llama-F32.gguf";
  const auto ids =
      first_ids(TensorFile::open(folder / "llama-F32.reference.safetensors").at("input_ids"));
  const auto plain = logits_of(path, ids, Arithmetic::exact);
  EXPECT_LT(relative_rms(logits_of(path, ids, Arithmetic::exact, 2, CacheFormat::f16), plain),
            1e-3);
  EXPECT_LT(relative_rms(logits_of(path, ids, Arithmetic::exact, 2, CacheFormat::q8), plain), 0.03);
}

}  // namespace
}  // namespace cajal::engine
