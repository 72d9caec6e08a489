#include "cajal/neurons/activation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>

#include "gradcheck.h"

namespace cajal {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double tanh_gelu(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

double softplus(double x) { return std::log1p(std::exp(x)); }

const std::map<Activation, std::function<double(double)>> kFormulas = {
    {Activation::identity, [](double x) { return x; }},
    {Activation::relu, [](double x) { return std::max(x, 0.0); }},
    {Activation::relu2, [](double x) { return x > 0 ? x * x : 0; }},
    {Activation::relu6, [](double x) { return std::min(std::max(x, 0.0), 6.0); }},
    {Activation::leaky_relu, [](double x) { return x > 0 ? x : 0.01 * x; }},
    {Activation::elu, [](double x) { return x > 0 ? x : std::expm1(x); }},
    {Activation::selu,
     [](double x) {
       return 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * std::expm1(x));
     }},
    {Activation::gelu, [](double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2)); }},
    {Activation::gelu_tanh, tanh_gelu},
    {Activation::quick_gelu, [](double x) { return x * sigmoid(1.702 * x); }},
    {Activation::silu, [](double x) { return x * sigmoid(x); }},
    {Activation::mish, [](double x) { return x * std::tanh(softplus(x)); }},
    {Activation::softplus, softplus},
    {Activation::softsign, [](double x) { return x / (1 + std::abs(x)); }},
    {Activation::sigmoid, sigmoid},
    {Activation::tanh, [](double x) { return std::tanh(x); }},
    {Activation::hard_tanh, [](double x) { return std::min(std::max(x, -1.0), 1.0); }},
    {Activation::hard_sigmoid, [](double x) { return std::min(std::max(x + 3, 0.0), 6.0) / 6; }},
    {Activation::hard_swish, [](double x) { return x * std::min(std::max(x + 3, 0.0), 6.0) / 6; }},
    {Activation::elliott, [](double x) { return 0.5 * x / (1 + std::abs(x)) + 0.5; }},
    {Activation::scaled_sigmoid, [](double x) { return 4 * sigmoid(x) - 2; }},
    {Activation::resech, [](double x) { return x / std::cosh(x); }},
    {Activation::dsilu, [](double x) { return sigmoid(x) * (1 + x * (1 - sigmoid(x))); }},
    {Activation::arctan, [](double x) { return std::atan(x); }},
    {Activation::lisht, [](double x) { return x * std::tanh(x); }},
    {Activation::slu, [](double x) { return x > 0 ? x : 2 * std::log((std::exp(x) + 1) / 2); }},
    {Activation::vrelu, [](double x) { return std::abs(x); }},
    {Activation::tanhexp, [](double x) { return x * std::tanh(std::exp(x)); }},
    {Activation::colu, [](double x) { return x / (1 - x * std::exp(-(x + std::exp(x)))); }},
    {Activation::pflu, [](double x) { return x * (1 + x / std::sqrt(1 + x * x)) / 2; }},
    {Activation::fpflu, [](double x) { return x > 0 ? x : x + x * x / std::sqrt(1 + x * x); }},
    {Activation::gcu, [](double x) { return x * std::cos(x); }},
    {Activation::sine, [](double x) { return std::sin(x); }},
};

TEST(Activation, EveryLawIsItsFormula) {
  const auto x = torch::linspace(-8.03, 8.03, 257, torch::kDouble);
  for (const auto& [law, name] : EnumNames<Activation>::values) {
    ASSERT_TRUE(kFormulas.contains(law)) << name;
    const auto y = activate(law, x);
    for (int64_t i = 0; i < x.numel(); ++i)
      EXPECT_NEAR(y[i].item<double>(), kFormulas.at(law)(x[i].item<double>()), 1e-7)
          << name << " at " << x[i].item<double>();
  }
}

TEST(Activation, EveryLawHasTheGradientOfItsCurve) {
  for (const auto& [law, name] : EnumNames<Activation>::values) {
    auto x = torch::linspace(-4.03, 4.03, 24, torch::kDouble);  // no kink within the step
    EXPECT_LT(testing::gradient_error([&, law = law] { return activate(law, x); }, {x}), 1e-6)
        << name;
  }
}

TEST(Activation, KeepsShapeAndType) {
  for (const auto& [law, name] : EnumNames<Activation>::values) {
    const auto y = activate(law, torch::ones({2, 3}, torch::kBFloat16));
    EXPECT_EQ(y.scalar_type(), torch::kBFloat16) << name;
    EXPECT_EQ(y.sizes(), torch::IntArrayRef({2, 3})) << name;
  }
}

TEST(Activation, HuggingFaceNamesMeanTheirLaw) {
  EXPECT_EQ(activation_from_hf("gelu", "hidden_act"), Activation::gelu);
  EXPECT_EQ(activation_from_hf("gelu_new", "hidden_act"), Activation::gelu_tanh);
  EXPECT_EQ(activation_from_hf("gelu_pytorch_tanh", "hidden_act"), Activation::gelu_tanh);
  EXPECT_EQ(activation_from_hf("swish", "hidden_act"), Activation::silu);
  EXPECT_EQ(activation_from_hf("relu2", "hidden_act"), Activation::relu2);
}

TEST(Activation, AnUnknownHuggingFaceNameIsRefusedNamingTheField) {
  try {
    activation_from_hf("gelu_newer", "config.json: hidden_act");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("config.json: hidden_act"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("'gelu_new'"), std::string::npos);
  }
}

}  // namespace
}  // namespace cajal
