#include <gtest/gtest.h>

#include "cajal/core/error.h"
#include "cajal/layers/pade/conv.h"
#include "cajal/neurons/elementwise.h"
#include "gradcheck.h"

namespace cajal {
namespace {

using torch::Tensor;

/// The neuron from scratch: every polynomial summed on its own, elementwise on lists of terms.
Tensor naive(PadeForm form, const std::vector<Tensor>& p, const std::vector<Tensor>& q, Tensor w0) {
  const auto sum = [](Tensor start, const std::vector<Tensor>& terms, int count) {
    for (int i = 0; i < count; ++i) start = start + terms[i];
    return start;
  };
  const int m = static_cast<int>(p.size()), n = static_cast<int>(q.size());
  const auto pm = sum(w0, p, m);
  if (n == 0) return pm;
  const auto one = torch::ones_like(q[0]);
  const auto qn = sum(one, q, n), lower = sum(one, q, n - 1);
  if (form == PadeForm::plain) return pm / qn;
  if (form == PadeForm::a) {
    auto below = one;
    for (const auto& term : q) below = below + term.abs();
    return pm / below;
  }
  if (m == 0) return qn * w0 / (qn * qn + lower * lower);
  return (qn * pm + lower * sum(w0, p, m - 1)) / (qn * qn + lower * lower);
}

Tensor naive_linear(const PadeLinear& layer, const Tensor& x) {
  const auto terms = [&](const Tensor& weight) {
    std::vector<Tensor> out;
    for (int64_t k = 0; weight.defined() && k < weight.size(0); ++k)
      out.push_back(torch::matmul(torch::pow(x, static_cast<double>(k + 1)), weight[k].t()));
    return out;
  };
  return naive(layer->options.form, terms(layer->a), terms(layer->b), layer->w0);
}

void randomise(torch::nn::Module& module) {
  const torch::NoGradGuard no_grad;
  for (auto& parameter : module.parameters())
    parameter.set_data(0.4 * torch::randn_like(parameter));
}

TEST(Pade, EveryDegreePairAndFormIsItsFormulaWithItsGradient) {
  torch::manual_seed(2);
  for (const auto form : {PadeForm::a, PadeForm::s})
    for (int64_t m = 0; m <= 3; ++m)
      for (int64_t n = 0; n <= 3; ++n) {
        if (m + n == 0) continue;
        PadeLinear layer(PadeLinearOptions{4, 3, m, n, form});
        layer->to(torch::kDouble);
        randomise(*layer);
        auto x = torch::randn({5, 4}, torch::kDouble);
        EXPECT_TRUE(torch::allclose(layer->forward(x), naive_linear(layer, x), 1e-10, 1e-12))
            << to_name(form) << m << n;
        std::vector<Tensor> inputs = layer->parameters();
        inputs.push_back(x);
        EXPECT_LT(testing::gradient_error([&] { return layer->forward(x); }, inputs, 1e-6), 1e-5)
            << to_name(form) << m << n;
      }
}

// The official layer crashes for type s with N = 0 and M >= 2.
TEST(Pade, TheSmoothFormWithoutDenominatorIsThePolynomial) {
  PadeLinear smooth(PadeLinearOptions{2, 2, 3, 0, PadeForm::s});
  randomise(*smooth);
  const auto x = torch::randn({3, 2});
  EXPECT_TRUE(torch::allclose(smooth->forward(x), naive_linear(smooth, x), 1e-5, 1e-6));
}

TEST(Pade, AtTheStartFormAIsTheConvolutionAndFormSHalfOfIt) {
  torch::manual_seed(3);
  for (const auto form : {PadeForm::a, PadeForm::s}) {
    PadeConv2d layer(
        PadeConv2dOptions{.inputs = 3, .outputs = 5, .form = form, .padding_mode = Padding::zeros});
    const auto x = torch::randn({2, 3, 8, 9});
    const auto plain = torch::conv2d(x, layer->numerator->weight[0], {}, 1, {1, 1});
    const auto w0 = layer->w0.reshape({-1, 1, 1});
    const auto expected = form == PadeForm::a ? plain + w0 : plain / 2 + w0;
    EXPECT_TRUE(torch::allclose(layer->forward(x), expected, 1e-6, 1e-6));
  }
}

// The official start, b = 0 exactly, gives |b x| no gradient: the denominator would never learn.
TEST(Pade, FormAHasAGradientForItsDenominatorAtTheStart) {
  PadeConv2d layer(PadeConv2dOptions{.inputs = 2, .outputs = 3, .form = PadeForm::a});
  layer->forward(torch::randn({1, 2, 6, 6})).square().sum().backward();
  EXPECT_GT(layer->denominator->weight.grad().abs().min().item<double>(), 0);
}

TEST(Pade, ThePlainFormIsGuardedAtItsPoles) {
  const auto one = torch::ones({2});
  const auto y = pade(PadeForm::plain, {one}, {torch::tensor({-1.0f, -1.0f})}, torch::zeros({1}));
  EXPECT_TRUE(torch::isfinite(y).all().item<bool>());
}

TEST(Pade, TheGroupedConvolutionEqualsALoopOverPowers) {
  torch::manual_seed(4);
  for (const auto mode : {Padding::zeros, Padding::reflect, Padding::replicate, Padding::circular})
    for (const int64_t groups : {1, 2}) {
      PadeConv2d layer(PadeConv2dOptions{.inputs = 4,
                                         .outputs = 6,
                                         .numerator = 3,
                                         .denominator = 2,
                                         .stride = 2,
                                         .padding_mode = mode,
                                         .groups = groups});
      layer->to(torch::kDouble);
      randomise(*layer);
      const auto x = 0.5 * torch::randn({2, 4, 7, 8}, torch::kDouble);
      const auto terms = [&](const PowerConv2d& power) {
        std::vector<Tensor> out;
        for (int64_t k = 0; k < power->weight.size(0); ++k)
          out.push_back(torch::conv2d(pad(torch::pow(x, static_cast<double>(k + 1)), 1, mode),
                                      power->weight[k], {}, 2, torch::IntArrayRef{0, 0}, 1,
                                      groups));
        return out;
      };
      const auto expected = naive(PadeForm::s, terms(layer->numerator), terms(layer->denominator),
                                  layer->w0.reshape({-1, 1, 1}));
      EXPECT_TRUE(torch::allclose(layer->forward(x), expected, 1e-5, 1e-5)) << to_name(mode);
    }
}

// The official layers have no groups: what one group sees does not reach the other's outputs.
TEST(PadeTraps, GroupsDoNotSeeEachOther) {
  torch::manual_seed(6);
  PadeConv2d layer(
      PadeConv2dOptions{.inputs = 4, .outputs = 6, .numerator = 2, .denominator = 1, .groups = 2});
  randomise(*layer);
  const torch::NoGradGuard no_grad;
  auto x = 0.5 * torch::randn({1, 4, 5, 5});
  const auto before = layer->forward(x);
  x.slice(1, 0, 2).add_(1);
  const auto after = layer->forward(x);
  EXPECT_FALSE(torch::allclose(before.slice(1, 0, 3), after.slice(1, 0, 3)));
  EXPECT_TRUE(torch::equal(before.slice(1, 3), after.slice(1, 3)));
}

TEST(Pade, TransposedConvolutionEqualsALoopOverPowers) {
  torch::manual_seed(5);
  PadeConvTranspose2d layer(PadeConvTranspose2dOptions{.inputs = 3,
                                                       .outputs = 2,
                                                       .numerator = 2,
                                                       .denominator = 2,
                                                       .stride = 2,
                                                       .output_padding = 1});
  layer->to(torch::kDouble);
  randomise(*layer);
  const auto x = 0.5 * torch::randn({2, 3, 4, 5}, torch::kDouble);
  const auto terms = [&](const Tensor& weight) {
    std::vector<Tensor> out;
    for (int64_t k = 0; k < 2; ++k)
      out.push_back(torch::conv_transpose2d(torch::pow(x, static_cast<double>(k + 1)), weight[k],
                                            {}, 2, {1, 1}, {1, 1}));
    return out;
  };
  EXPECT_TRUE(torch::allclose(
      layer->forward(x),
      naive(PadeForm::s, terms(layer->a), terms(layer->b), layer->w0.reshape({-1, 1, 1})), 1e-5,
      1e-5));
}

// Each special case against an implementation of its own.
TEST(Pade, LinearQuadraticAndGenerativeNeuronsAreSpecialCases) {
  torch::manual_seed(6);
  const auto x = torch::randn({5, 4});
  PadeLinear linear(PadeLinearOptions{4, 3, 1, 0, PadeForm::a});
  EXPECT_TRUE(torch::allclose(linear->forward(x), torch::addmm(linear->w0, x, linear->a[0].t()),
                              1e-6, 1e-6));
  QuadraticLinear quadratic(QuadraticLinearOptions{4, 3});
  randomise(*quadratic);
  const auto& q = quadratic->neuron;
  EXPECT_TRUE(torch::allclose(
      quadratic->forward(x),
      torch::matmul(x, q->a[0].t()) + torch::matmul(x * x, q->a[1].t()) + q->w0, 1e-5, 1e-6));
  GenerativeLinear generative(GenerativeLinearOptions{4, 3, 3});
  randomise(*generative);
  const auto& g = generative->neuron;
  auto sum = g->w0.expand({5, 3});
  for (int64_t k = 0; k < 3; ++k)
    sum = sum + torch::matmul(torch::pow(x, static_cast<double>(k + 1)), g->a[k].t());
  EXPECT_TRUE(torch::allclose(generative->forward(x), torch::tanh(sum), 1e-5, 1e-6));
  // and with b = 0 the Padé neuron of any denominator is its numerator
  PadeLinear pade_neuron(PadeLinearOptions{4, 3, 3, 2, PadeForm::a});
  const torch::NoGradGuard no_grad;
  pade_neuron->a.copy_(g->a), pade_neuron->w0.copy_(g->w0);
  EXPECT_TRUE(
      torch::allclose(torch::tanh(pade_neuron->forward(x)), generative->forward(x), 1e-6, 1e-6));
}

TEST(Pade, ADepthwisePointIsAPauActivationAChannel) {
  PadeConv2d layer(PadeConv2dOptions{.inputs = 3,
                                     .outputs = 3,
                                     .kernel = 1,
                                     .numerator = 5,
                                     .denominator = 4,
                                     .form = PadeForm::a,
                                     .groups = 3});
  Elementwise pau(parse_elementwise("pau_terms:per_channel", 3));
  const torch::NoGradGuard no_grad;
  layer->w0.copy_(pau->named_parameters()["a0"]);
  for (int64_t k = 1; k <= 5; ++k)
    layer->numerator->weight[k - 1].flatten().copy_(
        pau->named_parameters()["a" + std::to_string(k)]);
  for (int64_t k = 1; k <= 4; ++k)
    layer->denominator->weight[k - 1].flatten().copy_(
        pau->named_parameters()["b" + std::to_string(k)]);
  const auto x = torch::randn({2, 3, 4, 4});
  EXPECT_TRUE(torch::allclose(layer->forward(x), pau->forward(x), 1e-5, 1e-6));
}

TEST(Pade, ASuperNeuronIsAGenerativeOneOnShiftedChannels) {
  torch::manual_seed(7);
  SuperConv2dOptions options;
  options.inputs = 3, options.outputs = 2;
  SuperConv2d super(options);
  randomise(*super->neuron->numerator);
  GenerativeConv2d generative(GenerativeConv2dOptions{.inputs = 3, .outputs = 2});
  const torch::NoGradGuard no_grad;
  generative->neuron->numerator->weight.copy_(super->neuron->numerator->weight);
  generative->neuron->w0.copy_(super->neuron->w0);
  const auto x = torch::randn({2, 3, 8, 8});
  EXPECT_TRUE(torch::allclose(super->forward(x),
                              generative->forward(super->neuron->shift->forward(x)), 1e-6, 1e-6));
}

TEST(Shift, AWholePixelIsAnIndexShiftInTheInterior) {
  Shift shift(ShiftOptions{.channels = 2, .range = 3});
  const torch::NoGradGuard no_grad;
  shift->shift.copy_(torch::tensor({{2.0f, -1.0f}, {0.0f, 3.0f}}));  // (dx, dy)
  const auto x = torch::randn({2, 2, 9, 10});
  const auto y = shift->forward(x);
  const auto inside = [](const Tensor& t, int64_t c, int64_t dy, int64_t dx) {
    return t.select(1, c).slice(1, 3 + dy, 6 + dy).slice(2, 3 + dx, 7 + dx);
  };
  EXPECT_TRUE(torch::allclose(inside(y, 0, 0, 0), inside(x, 0, -1, 2), 0, 1e-5));
  EXPECT_TRUE(torch::allclose(inside(y, 1, 0, 0), inside(x, 1, 3, 0), 0, 1e-5));
}

// The official code averages over the batch, so that an output depends on its batch mates.
TEST(Shift, APredictedShiftOfAnImageIgnoresItsBatchMates) {
  torch::manual_seed(8);
  for (const auto average : {ShiftAverage::image, ShiftAverage::batch}) {
    Shift shift(ShiftOptions{.channels = 2, .kind = ShiftKind::predicted, .average = average});
    const auto x = torch::rand({3, 2, 6, 6}) + torch::arange(3).reshape({3, 1, 1, 1});
    EXPECT_TRUE(torch::allclose(shift->forward(x), x, 0, 1e-5));  // starts without shift
    randomise(*shift);
    const bool alone =
        torch::allclose(shift->forward(x)[0], shift->forward(x.slice(0, 0, 1))[0], 1e-4, 1e-5);
    EXPECT_EQ(alone, average == ShiftAverage::image);
  }
}

TEST(Shift, IsClampedToItsRange) {
  Shift shift(ShiftOptions{.channels = 1, .range = 1});
  const auto x = torch::randn({1, 1, 8, 8});
  const torch::NoGradGuard no_grad;
  shift->shift.fill_(1);
  const auto at_most = shift->forward(x);
  shift->shift.fill_(5);
  EXPECT_TRUE(torch::equal(shift->forward(x), at_most));
}

// Two zero factors never leave zero, and a zero direction has no norm: both are in the official
// code.
TEST(Pade, SeparableAndWeightNormLayersCanLeaveTheirStart) {
  for (const bool norm : {false, true})
    for (const bool separable : {false, true}) {
      PadeConv2d layer(PadeConv2dOptions{
          .inputs = 2, .outputs = 3, .numerator = 2, .separable = separable, .weight_norm = norm});
      auto y = layer->forward(torch::randn({1, 2, 6, 6}));
      y.square().sum().backward();
      EXPECT_TRUE(torch::isfinite(y).all().item<bool>());
      const auto& factor = norm ? layer->denominator->length : layer->denominator->weight;
      EXPECT_GT(factor.grad().abs().max().item<double>(), 0) << norm << separable;
      EXPECT_TRUE(torch::isfinite(factor.grad()).all().item<bool>());
    }
}

TEST(Pade, RefusesDegreesAndSizesThatMakeNoLayer) {
  EXPECT_THROW(PadeLinear(PadeLinearOptions{2, 2, 0, 0}), Error);
  EXPECT_THROW(PadeLinear(PadeLinearOptions{2, 2, -1, 1}), Error);
  EXPECT_THROW(PadeConv2d(PadeConv2dOptions{.inputs = 3, .outputs = 4, .groups = 2}), Error);
  PadeConv2d layer(PadeConv2dOptions{.inputs = 3, .outputs = 4, .padding_mode = Padding::reflect});
  EXPECT_THROW(layer->forward(torch::randn({1, 3, 1, 1})), Error);
  EXPECT_THROW(layer->forward(torch::randn({1, 2, 5, 5})), Error);
}

}  // namespace
}  // namespace cajal
