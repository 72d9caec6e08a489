#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <set>

#include "cajal/core/error.h"
#include "cajal/data/corruption.h"
#include "cajal/data/curves.h"
#include "cajal/data/street_digits.h"

namespace cajal::data {
namespace {

TEST(ChangeLight, IsContrastAroundTheMeanThenBrightness) {
  std::vector<float> picture = {0.1f, 0.3f, 0.5f, 0.7f};
  Random random(1);
  change_light({.contrast = 0.5, .brightness = 0.2}, picture, 2, random);
  const float expected[] = {0.45f, 0.55f, 0.65f, 0.75f};
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(picture[i], expected[i], 1e-6);
}

TEST(ChangeLight, LeavesAPictureAloneToTheBit) {
  std::vector<float> picture = {0.1f, 0.33f, 1.7f, -0.2f};
  const auto before = picture;
  Random random(1);
  change_light({}, picture, 2, random);
  EXPECT_EQ(picture, before);
}

TEST(ChangeLight, ClipsOnlyWhenAskedTo) {
  std::vector<float> open = {0.2f, 0.8f}, clipped = open;
  Random random(1);
  change_light({.brightness = 0.6}, open, 2, random);
  change_light({.brightness = 0.6, .clip = true}, clipped, 2, random);
  EXPECT_NEAR(open[1], 1.4, 1e-6);
  EXPECT_EQ(clipped[1], 1.0f);
}

TEST(ChangeLight, TheGradientRunsFromLeftToRight) {
  std::vector<float> picture(6, 1.0f);
  Random random(1);
  change_light({.gradient = 0.5}, picture, 3, random);
  EXPECT_NEAR(picture[0], 0.5, 1e-6);
  EXPECT_NEAR(picture[1], 1.0, 1e-6);
  EXPECT_NEAR(picture[5], 1.5, 1e-6);
}

TEST(ChangeLight, RefusesRowsThatDoNotFit) {
  std::vector<float> picture(5);
  Random random(1);
  EXPECT_THROW(change_light({}, picture, 2, random), Error);
  EXPECT_THROW(change_light({.gamma = 0}, picture, 5, random), Error);
}

TEST(ShiftedBumps, HaveUnitEnergyOverTheInterval) {
  const auto curves = shifted_bumps(40, {.noise = 0}, 3);
  for (int64_t n = 0; n < curves.count(); ++n) {
    double energy = 0;
    for (int64_t i = 0; i < 128; ++i) energy += std::pow(curves.values[n * 128 + i], 2) / 127;
    EXPECT_NEAR(energy, 1, 0.02) << curves.labels[n];
  }
  EXPECT_EQ(std::set<int64_t>(curves.labels.begin(), curves.labels.end()).size(), 4u);
}

TEST(ShiftedBumps, AtTwiceThePointsAreTheSameBumps) {
  const auto coarse = shifted_bumps(10, {.points = 65, .noise = 0}, 3);
  const auto fine = shifted_bumps(10, {.points = 129, .noise = 0}, 3);
  for (int64_t n = 0; n < 10; ++n)
    for (int64_t i = 0; i < 65; ++i)
      EXPECT_NEAR(coarse.values[n * 65 + i], fine.values[n * 129 + 2 * i], 1e-4);
}

TEST(ShiftedBumps, TheNoiseHasItsDeviationAndLength) {
  const auto curves = shifted_bumps(1000, {.signal = 0}, 5);
  double variance = 0, product = 0;
  for (int64_t n = 0; n < 1000; ++n) {
    variance += std::pow(curves.values[n * 128 + 60], 2) / 1000;
    product += curves.values[n * 128 + 60] * curves.values[n * 128 + 66] / 1000;
  }
  EXPECT_NEAR(std::sqrt(variance), 0.5, 0.03);
  const double d = std::sqrt(5.0) * 6 / 127 / 0.05;
  EXPECT_NEAR(product / variance, (1 + d + d * d / 3) * std::exp(-d), 0.05);
}

TEST(BrainWaves, OnlyChannelsThreeToFiveCarryTheWave) {
  const auto trials = brain_waves(300, {.decibel = 30}, 1);
  std::vector<double> peak(8, 0);
  for (int64_t n = 0; n < 300; ++n) {
    if (trials.labels[n] != 0) continue;
    for (int64_t t = 0; t < 256; ++t)
      for (int64_t c = 0; c < 8; ++c)
        peak[c] = std::max<double>(peak[c], trials.values[(n * 256 + t) * 8 + c]);
  }
  for (int64_t c = 0; c < 8; ++c) EXPECT_EQ(peak[c] > 30, c >= 3 && c <= 5) << c;
}

TEST(StreetDigits, KeepTheClassAndShowTheDigit) {
  LabelledImages digits;
  digits.images.shape = {2, 28, 28};
  digits.images.bytes.resize(2 * 784);
  for (int i = 0; i < 784; ++i) digits.images.bytes[784 + i] = std::byte{255};  // class 1: all ink
  digits.labels = {0, 1};
  const auto street = street_digits(digits, 50, 9);
  EXPECT_EQ(street.images.shape, (std::vector<int64_t>{50, 3, 32, 32}));
  EXPECT_EQ(street.labels.size(), 50u);
  const auto again = street_digits(digits, 50, 9);
  EXPECT_EQ(street.images.bytes, again.images.bytes);
  EXPECT_NE(street.images.bytes, street_digits(digits, 50, 10).images.bytes);
  EXPECT_THROW(street_digits(LabelledImages{}, 5, 1), Error);
}

}  // namespace
}  // namespace cajal::data
