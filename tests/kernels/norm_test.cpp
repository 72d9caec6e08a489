#include "cajal/kernels/norm.h"

#include "cajal/kernels/law.h"
#include "kernels/every_target.h"

namespace cajal {
namespace {

double exact(Law law, double x) {
  const auto between = [](double v, double low, double high) {
    return v < low ? low : v > high ? high : v;
  };
  switch (law) {
    case Law::identity:
      return x;
    case Law::relu:
      return x > 0 ? x : 0;
    case Law::relu2:
      return x > 0 ? x * x : 0;
    case Law::relu6:
      return between(x, 0, 6);
    case Law::leaky_relu:
      return x > 0 ? x : 0.01 * x;
    case Law::elu:
      return x > 0 ? x : std::expm1(x);
    case Law::selu:
      return 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * std::expm1(x));
    case Law::gelu:
      return x * std::erfc(-x * std::sqrt(0.5)) / 2;
    case Law::gelu_tanh:
      return x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))) / 2;
    case Law::quick_gelu:
      return x / (1 + std::exp(-1.702 * x));
    case Law::silu:
      return x / (1 + std::exp(-x));
    case Law::mish:
      return x * std::tanh(x > 50 ? x : std::log1p(std::exp(x)));
    case Law::softplus:
      return x > 50 ? x : std::log1p(std::exp(x));
    case Law::softsign:
      return x / (1 + std::fabs(x));
    case Law::sigmoid:
      return 1 / (1 + std::exp(-x));
    case Law::tanh:
      return std::tanh(x);
    case Law::hard_tanh:
      return between(x, -1, 1);
    case Law::hard_sigmoid:
      return between(x + 3, 0, 6) / 6;
    case Law::hard_swish:
      return x * between(x + 3, 0, 6) / 6;
    default:
      return NAN;
  }
}

TEST(Law, WithoutAKernelIsRefusedByName) {
  float x = 1;
  EXPECT_THROW(apply_law(Law::sine, &x, 1, &x), Error);
}

TEST(Law, IsItsFormulaOnEveryTarget) {
  std::vector<float> x = {-1e4f, -200, -87.5f, 88.5f, 200, 1e4f, 0, -0.0f};
  for (int i = -2000; i <= 2000; ++i) x.push_back(static_cast<float>(i) / 100);
  std::vector<float> y(x.size());
  on_every_target([&] {
    for (const auto& [law, name] : EnumNames<Law>::values) {
      if (law > Law::hard_swish) continue;  // of those, layers only have a kernel
      apply_law(law, x.data(), static_cast<int64_t>(x.size()), y.data());
      for (size_t i = 0; i < x.size(); ++i) {
        const double expected = exact(law, x[i]);
        ASSERT_NEAR(y[i], expected, 3e-7 * std::max(1.0, std::fabs(expected)))
            << name << "(" << x[i] << ")";
      }
    }
  });
}

TEST(Law, KeepsWhatIsNotANumber) {
  on_every_target([] {
    for (const auto& [law, name] : EnumNames<Law>::values) {
      if (law > Law::hard_swish) continue;
      std::vector<float> x(17, NAN);
      apply_law(law, x.data(), 17, x.data());
      for (const float value : x) ASSERT_TRUE(std::isnan(value)) << name;
    }
  });
}

TEST(Law, OfAGateMultipliesWhatPasses) {
  const auto gate = normals(67, 1), x = normals(67, 2);
  on_every_target([&] {
    std::vector<float> law(67), y(67);
    apply_law(Law::silu, gate.data(), 67, law.data());
    apply_gate(Law::silu, gate.data(), x.data(), 67, y.data());
    for (int i = 0; i < 67; ++i) ASSERT_EQ(y[i], law[i] * x[i]);
  });
}

constexpr int64_t kBatch = 3;

TEST(Norm, RmsIsItsFormulaForEveryWidth) {
  on_every_target([] {
    for (const int64_t width : {1, 7, 16, 40, 129}) {
      const auto x = normals(kBatch * width, 1), weight = normals(width, 2);
      std::vector<float> y(x.size()), expected(x.size());
      for (int64_t b = 0; b < kBatch; ++b) {
        double squares = 0;
        for (int64_t i = 0; i < width; ++i) squares += double{x[b * width + i]} * x[b * width + i];
        for (int64_t i = 0; i < width; ++i)
          expected[b * width + i] = static_cast<float>(
              x[b * width + i] / std::sqrt(squares / static_cast<double>(width) + 1e-5) *
              (weight[i] + 1.0));
      }
      rms_norm(x.data(), weight.data(), kBatch, width, 1e-5f, y.data(), 1);
      ASSERT_LT(relative_error(y, expected), 1e-6) << width;
    }
  });
}

TEST(Norm, LayerNormIsItsFormulaForEveryWidthAndWorksInPlace) {
  on_every_target([] {
    for (const int64_t width : {1, 7, 16, 40, 129}) {
      auto x = normals(kBatch * width, 1);
      const auto weight = normals(width, 2), bias = normals(width, 3);
      std::vector<float> expected(x.size());
      for (int64_t b = 0; b < kBatch; ++b) {
        const float* of = x.data() + b * width;
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < width; ++i) mean += of[i] / static_cast<double>(width);
        for (int64_t i = 0; i < width; ++i)
          variance += (of[i] - mean) * (of[i] - mean) / static_cast<double>(width);
        for (int64_t i = 0; i < width; ++i)
          expected[b * width + i] =
              static_cast<float>((of[i] - mean) / std::sqrt(variance + 1e-5) * weight[i] + bias[i]);
      }
      layer_norm(x.data(), weight.data(), bias.data(), kBatch, width, 1e-5f, x.data());
      ASSERT_LT(relative_error(x, expected), 2e-6) << width;
    }
  });
}

TEST(Norm, WithoutWeightsHasUnitScale) {
  const auto x = normals(64, 1);
  std::vector<float> y(64);
  rms_norm(x.data(), nullptr, 1, 64, 0, y.data());
  double squares = 0;
  for (const float value : y) squares += double{value} * value;
  EXPECT_NEAR(squares, 64, 1e-4);
}

TEST(Softmax, SumsToOneForLargeScores) {
  on_every_target([] {
    std::vector<float> x = {1000, 999, -1000, 998, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 999};
    const auto width = static_cast<int64_t>(x.size());
    softmax(x.data(), 1, width, x.data());
    double sum = 0;
    for (const float value : x) sum += value;
    EXPECT_NEAR(sum, 1, 1e-6);
    EXPECT_NEAR(x[1] / x[0], std::exp(-1), 1e-6);
    EXPECT_EQ(x[2], 0);
  });
}

TEST(Rotary, LayoutsTurnTheSamePairs) {
  constexpr int64_t heads = 3, width = 48, pairs = 20, tokens = 5, stride = heads * width + 7;
  const auto frequency = normals(pairs, 1), x = normals(tokens * stride, 2);
  std::vector<float> cosine(tokens * pairs), sine(tokens * pairs);
  rotary_angles(frequency.data(), pairs, 11, tokens, 0.5f, cosine.data(), sine.data());
  on_every_target([&] {
    auto halves = x, interleaved = x;
    const auto turned = [&](int64_t t, int64_t head, int64_t i) {
      return t * stride + head * width + (i % 2 ? pairs + i / 2 : i / 2);
    };
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t head = 0; head < heads; ++head)
        for (int64_t i = 0; i < 2 * pairs; ++i)
          interleaved[t * stride + head * width + i] = x[turned(t, head, i)];
    rotate(halves.data(), tokens, heads, width, stride, cosine.data(), sine.data(), pairs,
           RotaryLayout::halves);
    rotate(interleaved.data(), tokens, heads, width, stride, cosine.data(), sine.data(), pairs,
           RotaryLayout::interleaved);
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t head = 0; head < heads; ++head)
        for (int64_t i = 0; i < 2 * pairs; ++i)
          ASSERT_NEAR(interleaved[t * stride + head * width + i], halves[turned(t, head, i)], 1e-6);
    // By the formula, for one pair; and what is not turned stays.
    const int64_t at = 2 * stride + width + 3;
    const double angle = 13.0f * frequency[3];
    EXPECT_NEAR(halves[at], 0.5 * (x[at] * std::cos(angle) - x[at + pairs] * std::sin(angle)),
                2e-6);
    EXPECT_NEAR(halves[at + pairs],
                0.5 * (x[at] * std::sin(angle) + x[at + pairs] * std::cos(angle)), 2e-6);
    EXPECT_EQ(halves[at - 3 + 2 * pairs], x[at - 3 + 2 * pairs]);
  });
}

}  // namespace
}  // namespace cajal
