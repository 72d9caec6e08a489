#include "cajal/atlas/census.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cajal/core/random.h"

namespace cajal::atlas {
namespace {

std::vector<float> activations(int64_t rows, int64_t neurons, uint64_t seed) {
  Random random(seed);
  std::vector<float> a(static_cast<size_t>(rows * neurons));
  for (auto& x : a) x = static_cast<float>(std::max(0.0, random.normal() - 0.5));
  return a;
}

LayerCensus layer_of(int64_t neurons, bool gated = false) {
  std::vector<float> key(static_cast<size_t>(neurons), 1), value(static_cast<size_t>(neurons));
  for (int64_t i = 0; i < neurons; ++i) value[i] = 0.5f + static_cast<float>(i % 7);
  return {key, value, gated};
}

Census census_of(int64_t begin, int64_t end) {  // units of 10 tokens
  ThreadPool threads(1);
  const int64_t neurons = 40;
  Census census{.model = "m", .text = "t", .model_hash = 1, .text_hash = 2, .text_tokens = 60};
  census.context = 10, census.batch = 1, census.units = 6;
  census.covered = {{begin, end}};
  census.layers = {layer_of(neurons)};
  const auto chosen = sample_tokens(60, 20, 7);
  for (int64_t unit = begin; unit < end; ++unit) {
    const auto a = activations(10, neurons, 100 + unit);
    census.layers[0].add(a, unit * 10, threads);
    for (const auto token : chosen)
      if (token / 10 == unit) {
        census.sample_tokens.push_back(token);
        census.layers[0].samples.insert(census.layers[0].samples.end(),
                                        a.begin() + token % 10 * neurons,
                                        a.begin() + (token % 10 + 1) * neurons);
      }
  }
  return census;
}

TEST(Census, EqualsSumsTakenOneByOne) {
  ThreadPool threads(2);
  const int64_t rows = 50, neurons = 70;
  auto layer = layer_of(neurons);
  const auto a = activations(rows, neurons, 1);
  layer.add(a, 0, threads);
  for (const int64_t i : {0, 33, 69}) {
    double sum = 0, energy = 0, norm = 0, fired = 0;
    for (int64_t t = 0; t < rows; ++t) {
      const double x = a[t * neurons + i], w = layer.value_norm[i];
      sum += x / rows, norm += std::fabs(x) * w / rows, energy += x * x * w * w / rows;
      fired += (x > 0) / static_cast<double>(rows);
    }
    EXPECT_NEAR(layer.mean(i), sum, 1e-9);
    EXPECT_NEAR(layer.mean_norm(i), norm, 1e-6);
    EXPECT_NEAR(layer.energy(i), energy, 1e-5);
    EXPECT_NEAR(layer.firing_share(i), fired, 1e-12);
  }
}

TEST(Census, HitsCountTheLargestTenthOfOutputNorms) {
  ThreadPool threads(1);
  LayerCensus layer(std::vector<float>(20, 1), std::vector<float>(20, 1), false);
  std::vector<float> a(20, 0.1f);
  a[3] = 5, a[17] = -4;
  layer.add(a, 0, threads);
  for (int64_t i = 0; i < 20; ++i) EXPECT_EQ(layer.top[i], i == 3 || i == 17) << i;
}

TEST(Census, SilentNeuronsAreNeverHits) {
  ThreadPool threads(1);
  LayerCensus layer(std::vector<float>(20, 1), std::vector<float>(20, 1), false);
  std::vector<float> a(20, 0.0f);
  a[5] = 1;
  layer.add(a, 0, threads);
  EXPECT_EQ(layer.top[5], 1);
  EXPECT_EQ(layer.top[6], 0);
  EXPECT_EQ(layer.dead_count(), 19);
}

TEST(Census, TokenCurveIsTheShareOfEachTokensOwnLargest) {
  ThreadPool threads(1);
  LayerCensus layer(std::vector<float>(100, 1), std::vector<float>(100, 1), false);
  std::vector<float> a(200, 0.0f);
  a[7] = 3, a[8] = 1;      // token 0: energies 9 and 1
  a[150] = 1, a[151] = 1;  // token 1: half and half
  layer.add(a, 0, threads);
  EXPECT_NEAR(layer.token_curve(0), (0.9 + 0.5) / 2, 1e-6);  // 1 % = one neuron
  EXPECT_NEAR(layer.token_curve(1), 1, 1e-6);
  EXPECT_NEAR(layer.fixed_curve(0.01), 9.0 / 12, 1e-6);
}

TEST(Census, IsTheSameForAnyThreadCount) {
  ThreadPool one(1), three(3);
  auto a = layer_of(300), b = layer_of(300);
  const auto x = activations(64, 300, 5);
  a.add(x, 0, one), b.add(x, 0, three);
  EXPECT_EQ(a, b);
}

TEST(Census, FourShardsMergeIntoExactlyTheWhole) {
  const auto whole = census_of(0, 6);
  auto merged = merge(census_of(3, 4), census_of(0, 2), "a", "b");
  merged = merge(merged, census_of(4, 6), "a", "b");
  EXPECT_FALSE(merged.complete());
  merged = merge(merged, census_of(2, 3), "a", "b");
  EXPECT_TRUE(merged.complete());
  EXPECT_EQ(merged, whole);
}

TEST(Census, RefusesToCountAUnitTwice) {
  try {
    merge(census_of(0, 2), census_of(1, 3), "a.db", "b.db");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("a.db and b.db both count unit 1"), std::string::npos)
        << error.what();
  }
}

TEST(Census, RefusesToMergeCensusesOfDifferentTexts) {
  auto other = census_of(2, 3);
  other.text_hash = 9;
  EXPECT_THROW(merge(census_of(0, 2), other, "a", "b"), Error);
}

TEST(Census, KeepsTheStrongestTokensFirst) {
  ThreadPool threads(1);
  LayerCensus layer({1}, {1}, false);
  layer.add(std::vector<float>{1, 9, -3, 4, 9, 2, 0, 7}, 100, threads);
  const std::vector<Peak> expected = {{9, 101}, {9, 104}, {7, 107}, {4, 103}, {-3, 102}};
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), layer.peaks.begin()));
}

TEST(Census, AGatedNeuronIsDeadOnlyIfItNeverWrites) {
  ThreadPool threads(1);
  LayerCensus plain({1, 1}, {1, 1}, false), gated({1, 1}, {1, 1}, true);
  const std::vector<float> a = {-0.1f, 0, -0.2f, 0};
  plain.add(a, 0, threads), gated.add(a, 0, threads);
  EXPECT_EQ(plain.dead_count(), 2);
  EXPECT_EQ(gated.dead_count(), 1);
}

TEST(Census, RefusesActivationsThatAreNotFinite) {
  ThreadPool threads(1);
  for (const float bad : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
    auto layer = layer_of(3);
    EXPECT_THROW(layer.add(std::vector<float>{1, bad, 2}, 0, threads), Error);
  }
}

TEST(SampleTokens, DependOnTheSeedAlone) {
  EXPECT_EQ(sample_tokens(1000, 10, 3), sample_tokens(1000, 10, 3));
  EXPECT_NE(sample_tokens(1000, 10, 3), sample_tokens(1000, 10, 4));
  EXPECT_EQ(sample_tokens(4, 10, 3), (std::vector<int64_t>{0, 1, 2, 3}));
}

TEST(ExactSum, DoesNotDependOnTheOrder) {
  ExactSum a, b;
  for (const double x : {1e15, 1e-12, -1e15, 3.25}) a.add(x);
  for (const double x : {1e-12, 3.25, -1e15, 1e15}) b.add(x);
  EXPECT_EQ(a, b);
  EXPECT_NEAR(a.value(), 3.25 + 1e-12, 1e-18);
}

}  // namespace
}  // namespace cajal::atlas
