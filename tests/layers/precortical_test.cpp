#include "cajal/layers/vision/precortical.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cajal/core/error.h"
#include "cajal/data/image.h"
#include "cajal/layers/vision/lenet.h"
#include "cajal/layers/vision/sub_pixel.h"
#include "cajal/layers/vision/super_resolution.h"
#include "cajal/math/picture.h"

namespace cajal {
namespace {

using torch::Tensor;

TEST(Precortical, LearnedIsTwoDepthwiseConvolutionsWithTanh) {
  Precortical module(PrecorticalOptions{.channels = 2});
  const auto x = torch::rand({3, 2, 12, 11});
  const auto stage = [](const Tensor& in, const Tensor& weight, const Tensor& bias) {
    return torch::tanh(torch::conv2d(in, weight.unsqueeze(1), bias, 1, {3, 3}, 1, 2));
  };
  const auto expected =
      stage(stage(x, module->weight1, module->bias1), module->weight2, module->bias2);
  EXPECT_TRUE(torch::allclose(module->forward(x), expected, 1e-5, 1e-6));
  EXPECT_EQ(module->weight1.numel() + module->bias1.numel(), 2 * 50);
}

TEST(Precortical, ZeroSumIgnoresBrightnessUpToTheBorder) {
  Precortical module(PrecorticalOptions{.front = FrontEnd::zero_sum});
  module->to(torch::kDouble);
  const auto x = torch::rand({2, 1, 16, 16}, torch::kDouble);
  EXPECT_LT((module->forward(x + 0.6) - module->forward(x)).abs().max().item<double>(), 1e-6);
}

/// |y(a x + b) - y(x)| / |y(x)| over pixels of enough energy.
double change(const PrecorticalOptions& options, double a, double b, double least_energy) {
  Precortical module(options);
  torch::manual_seed(3);
  const auto x = torch::rand({1, 1, 40, 40}, torch::kDouble);
  const auto y = module->forward(x), moved = module->forward(a * x + b);
  const auto r = blur(x, options.sigma_centre) - blur(x, options.sigma_surround);
  const auto enough =
      (blur(r.square(), options.sigma_pool) > least_energy).logical_and(y.abs() > 1e-6);
  EXPECT_GT(enough.sum().item<int64_t>(), 100);
  return ((moved - y).abs() / y.abs()).masked_select(enough).max().item<double>();
}

TEST(Precortical, FixedIgnoresContrastWhereThereIsEnergy) {
  PrecorticalOptions options{.front = FrontEnd::fixed, .epsilon = 1e-6};
  for (const double a : {0.5, 0.8, 1.5, 2.0})
    EXPECT_LE(change(options, a, 0.3, 1e3 * 1e-6), 2e-3) << a;
  options.epsilon = 0;
  for (const double a : {0.5, 2.0}) EXPECT_LE(change(options, a, 0.3, 0), 1e-9) << a;
}

TEST(Precortical, FixedGivesZeroForAConstantPicture) {
  for (const double epsilon : {0.0, 1e-4}) {
    Precortical module(PrecorticalOptions{.front = FrontEnd::fixed, .epsilon = epsilon});
    const auto y = module->forward(torch::full({1, 1, 20, 20}, 0.5, torch::kDouble));
    EXPECT_TRUE(torch::isfinite(y).all().item<bool>());
    if (epsilon > 0) {
      EXPECT_LT(y.abs().max().item<double>(), 1e-10);
    }
  }
}

TEST(Precortical, OnAndOffChannelsAreTheTwoSigns) {
  Precortical both(PrecorticalOptions{.front = FrontEnd::fixed});
  Precortical split(PrecorticalOptions{.front = FrontEnd::fixed, .on_off = true});
  const auto x = torch::rand({1, 1, 20, 20});
  const auto y = both->forward(x), parts = split->forward(x);
  EXPECT_TRUE(torch::equal(parts.slice(1, 0, 1), torch::relu(y)));
  EXPECT_TRUE(torch::equal(parts.slice(1, 1, 2), torch::relu(-y)));
}

// The response of a difference of Gaussians to a step is a difference of error functions.
TEST(Precortical, TheDifferenceOfGaussiansAnswersAStepWithErrorFunctions) {
  auto step = torch::zeros({1, 1, 40, 64}, torch::kDouble);
  step.slice(3, 32, 64).fill_(1);
  const auto r = blur(step, 1) - blur(step, 2);
  const auto phi = [](double x, double sigma) { return 0.5 * std::erfc(-x / sigma / M_SQRT2); };
  for (int64_t column = 24; column < 40; ++column) {
    const double x = static_cast<double>(column) - 31.5;
    EXPECT_NEAR(r[0][0][20][column].item<double>(), phi(x, 1) - phi(x, 2), 0.02);
  }
}

TEST(Precortical, ADiscExcitesItsCentreMostAtTheRadiusOfTheFormula) {
  const double sc = 2, ss = 4;
  const double best = sc * ss * std::sqrt(4 * std::log(ss / sc) / (ss * ss - sc * sc));
  double peak = 0, at = 0;
  for (double radius = 1; radius < 9; radius += 0.25) {
    const auto place = torch::arange(-20, 21, torch::kDouble);
    const auto distance = (place.square().unsqueeze(1) + place.square()).sqrt();
    const auto disc = (radius + 0.5 - distance).clamp(0, 1).unsqueeze(0).unsqueeze(0);
    const double r = (blur(disc, sc) - blur(disc, ss))[0][0][20][20].item<double>();
    if (r > peak) peak = r, at = radius;
  }
  EXPECT_NEAR(at, best, 0.5);
}

TEST(OrientationMap, FindsTheDirectionOfAGrating) {
  const auto place = torch::arange(40, torch::kDouble);
  for (const int64_t k : {0, 3, 8, 13}) {
    const double theta = M_PI * static_cast<double>(k) / 16;  // along the stripes
    const auto phase = 0.7 * (place.unsqueeze(1) * std::cos(theta) - place * std::sin(theta));
    const auto map = orientation_map(torch::sin(phase)).slice(0, 10, 30).slice(1, 10, 30);
    EXPECT_GT((map == k).to(torch::kDouble).mean().item<double>(), 0.9) << k;
  }
}

TEST(OrientationMap, IsTheSameForEveryLight) {
  torch::manual_seed(5);
  const auto picture = torch::rand({40, 40}, torch::kDouble);
  const auto same = orientation_map(picture) == orientation_map(0.3 * picture + 0.5);
  EXPECT_GE(same.to(torch::kDouble).mean().item<double>(), 0.999);
}

TEST(Precortical, WritesItsKernelsAsAPicture) {
  Precortical module(PrecorticalOptions{.channels = 2});
  const auto path = ::testing::TempDir() + "kernels.pgm";
  write_kernels(path, module->applied_kernel(1).detach());
  const auto image = data::read_image(path);
  EXPECT_EQ(image.width, 2 * 7 * 8);
  EXPECT_EQ(image.height, 7 * 8);
}

TEST(Precortical, RefusesPicturesThatItsKernelsDoNotFit) {
  Precortical module(PrecorticalOptions{.front = FrontEnd::fixed});
  EXPECT_THROW(module->forward(torch::rand({1, 1, 10, 10})), Error);
  EXPECT_THROW(module->forward(torch::rand({1, 2, 40, 40})), Error);
  EXPECT_THROW(Precortical(PrecorticalOptions{.kernel = 4}), Error);
}

TEST(LeNet, HasTheWeightsOfThePaperForBothSizes) {
  for (const int64_t size : {28, 32}) {
    LeNet net(LeNetOptions{.size = size});
    int64_t weights = 0;
    for (const auto& parameter : net->parameters()) weights += parameter.numel();
    EXPECT_EQ(weights, 6 * 26 + 16 * 151 + 120 * 401 + 84 * 121 + 10 * 85);
    EXPECT_EQ(net->forward(torch::rand({2, 1, size, size})).sizes(), torch::IntArrayRef({2, 10}));
  }
}

TEST(SubPixelHead, MovesChannelsIntoSpace) {
  for (const int64_t scale : {1, 2, 3, 4})
    for (const auto kind : {SubPixelKind::staged, SubPixelKind::direct}) {
      SubPixelHead head(
          SubPixelHeadOptions{.inputs = 4, .outputs = 1, .scale = scale, .kind = kind});
      EXPECT_EQ(head->forward(torch::randn({2, 4, 5, 6})).sizes(),
                torch::IntArrayRef({2, 1, 5 * scale, 6 * scale}));
      if (kind == SubPixelKind::staged && scale == 4) {
        EXPECT_EQ(head->parameters().size(), 6u);
      }  // two stages and a last convolution
    }
  EXPECT_THROW(SubPixelHead(SubPixelHeadOptions{.inputs = 4, .scale = 5}), Error);
}

TEST(SuperResolution, EveryNeuronRunsAndTellsItsWork) {
  for (const auto& [neuron, name] : EnumNames<SuperResolutionNeuron>::values) {
    SuperResolution net(SuperResolutionOptions{.neuron = neuron, .channels = 4, .blocks = 2});
    EXPECT_EQ(net->forward(torch::randn({1, 1, 6, 7})).sizes(), torch::IntArrayRef({1, 1, 12, 14}))
        << name;
    EXPECT_GT(net->work_per_pixel(), 4 * 4 * 9 * 4) << name;
    EXPECT_GT(net->smallest_divisor(torch::randn({1, 1, 6, 7})), 0) << name;
  }
}

TEST(SuperResolution, WorkIsCountedOncePerPlace) {
  SuperResolution net(
      SuperResolutionOptions{.neuron = SuperResolutionNeuron::relu, .channels = 4, .blocks = 1});
  // head 1 x 4, two 4 x 4, tail 4 x 16 at low resolution; 4 x 1 at four times as many pixels
  EXPECT_EQ(net->work_per_pixel(), 9 * (4 + 2 * 16 + 64 + 4 * 4));
}

}  // namespace
}  // namespace cajal
