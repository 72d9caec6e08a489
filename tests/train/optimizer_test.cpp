#include "cajal/train/optimizer.h"

#include <gtest/gtest.h>
#include <torch/optim.h>

namespace {

using namespace cajal::train;

torch::Tensor leaf(torch::IntArrayRef shape) { return torch::randn(shape).requires_grad_(); }

Options steady() {
  Options options;
  options.schedule = Schedule::constant;
  options.learning_rate = 0.01;
  options.clip = 0;
  return options;
}

// One step with the gradient of sum(cos(p)) for each parameter.
void take_step(FlatParameters& parameters, Optimizer& optimizer, int64_t step) {
  auto loss = torch::zeros({});
  for (const auto& slot : parameters.slots()) loss = loss + slot.parameter.tensor.cos().sum();
  loss.backward();
  parameters.gather(1, false);
  optimizer.prepare(step);
  optimizer.step();
}

TEST(Optimizer, TakesTheStepsOfTorchAdamW) {
  torch::manual_seed(1);
  auto matrix = leaf({5, 3}), vector = leaf({7});
  const auto matrix_copy = matrix.detach().clone().requires_grad_();
  const auto vector_copy = vector.detach().clone().requires_grad_();
  const auto options = steady();

  FlatParameters parameters({{"m", matrix, Role::matrix}, {"v", vector, Role::vector}},
                            torch::kFloat);
  Optimizer ours(parameters, options);
  using Group = torch::optim::OptimizerParamGroup;
  const auto set = [&](double decay) {
    return std::make_unique<torch::optim::AdamWOptions>(
        torch::optim::AdamWOptions(0.01).betas({0.9, 0.95}).eps(1e-8).weight_decay(decay));
  };
  std::vector<Group> groups;
  groups.emplace_back(std::vector<torch::Tensor>{matrix_copy}, set(options.weight_decay));
  groups.emplace_back(std::vector<torch::Tensor>{vector_copy}, set(0));
  torch::optim::AdamW theirs(groups, torch::optim::AdamWOptions(0.01));
  for (int64_t step = 0; step < 5; ++step) {
    take_step(parameters, ours, step);
    theirs.zero_grad();
    (matrix_copy.cos().sum() + vector_copy.cos().sum()).backward();
    theirs.step();
  }
  EXPECT_TRUE(torch::allclose(matrix, matrix_copy, 1e-6, 1e-7));
  EXPECT_TRUE(torch::allclose(vector, vector_copy, 1e-6, 1e-7));
}

TEST(Optimizer, ClipsTheNormOverAllParameters) {
  auto a = leaf({3}), b = leaf({4});
  FlatParameters parameters({{"a", a}, {"b", b}}, torch::kFloat);
  auto options = steady();
  options.clip = 1;
  Optimizer optimizer(parameters, options);
  ((a * 30).sum() + (b * 40).sum()).backward();
  parameters.gather(1, false);
  optimizer.prepare(0);
  optimizer.step();
  EXPECT_NEAR(optimizer.norm().item<double>(), std::sqrt(3 * 900. + 4 * 1600.), 1e-3);
  EXPECT_NEAR(parameters.gradient.norm().item<double>(), 1, 1e-5);
}

TEST(Optimizer, AverageFollowsTheValues) {
  auto a = leaf({3});
  FlatParameters parameters({{"a", a}}, torch::kFloat);
  auto options = steady();
  options.average = 0.5;
  Optimizer optimizer(parameters, options);
  auto expected = a.detach().clone();
  for (int64_t step = 0; step < 4; ++step) {
    take_step(parameters, optimizer, step);
    const double keep = std::min(0.5, (step + 1.) / (step + 11.));
    expected = keep * expected + (1 - keep) * a.detach();
  }
  EXPECT_TRUE(torch::allclose(FlatParameters::part(optimizer.average, parameters.slots()[0]),
                              expected, 1e-5, 1e-6));
}

TEST(Muon, BringsSingularValuesNearOne) {
  torch::manual_seed(2);
  for (const auto& shape : {std::vector<int64_t>{2, 6, 6}, {3, 8, 3}, {1, 3, 8}}) {
    const auto values = std::get<1>(torch::linalg_svd(orthogonalise(torch::randn(shape)), false));
    EXPECT_LT(values.max().item<double>(), 1.3);
    EXPECT_GT(values.min().item<double>(), 0.3);
  }
}

TEST(Muon, MovesEachMatrixAsIfItWereAlone) {
  torch::manual_seed(3);
  auto a = leaf({4, 6}), b = leaf({4, 6}), c = leaf({5});
  const auto alone = b.detach().clone().requires_grad_();
  auto options = steady();
  options.optimizer = Rule::muon;
  FlatParameters together({{"a", a, Role::matrix}, {"b", b, Role::matrix}, {"c", c}},
                          torch::kFloat);
  FlatParameters single({{"b", alone, Role::matrix}}, torch::kFloat);
  Optimizer first(together, options), second(single, options);
  for (int64_t step = 0; step < 3; ++step)
    take_step(together, first, step), take_step(single, second, step);
  EXPECT_TRUE(torch::allclose(b, alone, 1e-5, 1e-6));
  EXPECT_FALSE(torch::allclose(a, b));
}

TEST(FlatParameters, RefuseWhatTheyCannotHold) {
  auto narrow = torch::randn({3}, torch::kDouble).requires_grad_();
  EXPECT_THROW(FlatParameters({{"x", narrow}}, torch::kFloat), cajal::Error);
}

}  // namespace
