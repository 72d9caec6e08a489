#ifdef CAJAL_CUDA
#include "cajal/layers/ops_cuda.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <functional>

#include "cajal/layers/ops.h"

// Each fused step against the plain fp32 form of the same function, forward and backward.
namespace {

using namespace cajal;
using torch::Tensor;
using Tensors = std::vector<Tensor>;
using Step = std::function<Tensors(const Tensors&)>;

class OpsOnCuda : public testing::Test {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "this machine has no GPU";
    torch::manual_seed(7);
  }
};

struct Answers {
  Tensors outputs, gradients;
};

Answers answers(const Step& step, const Tensors& inputs, torch::Dtype dtype) {
  Tensors leaves;
  for (const auto& input : inputs) {
    // Both forms start from the same numbers: those that bf16 can hold.
    const auto there = input.to(torch::kCUDA).to(torch::kBFloat16).to(dtype);
    leaves.push_back(there.detach().requires_grad_());
  }
  Answers out{step(leaves), {}};
  auto loss = torch::zeros({}, torch::TensorOptions(torch::kCUDA));
  auto generator = at::detail::createCPUGenerator(3);
  for (const auto& output : out.outputs) {
    const auto cotangent = torch::randn(output.sizes(), generator).to(torch::kCUDA);
    loss = loss + (output.to(torch::kFloat) * cotangent).sum();
  }
  loss.backward();
  for (const auto& leaf : leaves) out.gradients.push_back(leaf.grad());
  return out;
}

double distance(const Tensor& fused, const Tensor& plain) {
  const auto a = fused.detach().to(torch::kDouble), b = plain.detach().to(torch::kDouble);
  return ((a - b).norm() / (b.norm() + 1e-30)).item<double>();
}

void expect_same(const std::string& what, const Step& step, const Tensors& inputs,
                 double tolerance = 1e-2) {
  const auto fused = answers(step, inputs, torch::kBFloat16);
  const auto again = answers(step, inputs, torch::kBFloat16);
  const auto plain = answers(step, inputs, torch::kFloat);
  for (size_t i = 0; i < fused.outputs.size(); ++i) {
    EXPECT_EQ(fused.outputs[i].sizes(), plain.outputs[i].sizes()) << what << ", output " << i;
    EXPECT_LT(distance(fused.outputs[i], plain.outputs[i]), tolerance) << what << ", output " << i;
    EXPECT_TRUE(fused.outputs[i].equal(again.outputs[i])) << what << ", output " << i << " moves";
  }
  for (size_t i = 0; i < fused.gradients.size(); ++i) {
    EXPECT_LT(distance(fused.gradients[i], plain.gradients[i]), tolerance)
        << what << ", gradient " << i;
    EXPECT_TRUE(fused.gradients[i].equal(again.gradients[i]))
        << what << ", gradient " << i << " moves";
  }
}

constexpr ops::NormKind kKinds[] = {ops::NormKind::layer, ops::NormKind::rms,
                                    ops::NormKind::rms_one_plus};
constexpr Activation kLaws[] = {Activation::identity, Activation::relu, Activation::gelu,
                                Activation::gelu_tanh, Activation::silu};

TEST_F(OpsOnCuda, Norm) {
  for (const int64_t width : {8, 64, 320, 768, 1024, 2048, 4096, 8192})
    for (const auto kind : kKinds)
      expect_same(fmt::format("norm {} of {}", static_cast<int>(kind), width),
                  [&](const Tensors& in) -> Tensors {
                    return {ops::norm(in[0], kind, in[1], in[2], 1e-5)};
                  },
                  {torch::randn({37, width}) + 0.3, torch::randn({width}), torch::randn({width})});
}

TEST_F(OpsOnCuda, AddNorm) {
  for (const int64_t width : {320, 1024, 4096})
    for (const int64_t rows : {1, 37, 3000})
      for (const auto kind : kKinds)
        expect_same(fmt::format("add_norm {} of {} x {}", static_cast<int>(kind), rows, width),
                    [&](const Tensors& in) -> Tensors {
                      const auto [sum, y] =
                          ops::add_norm(in[0], in[1], kind, in[2], in[3], 1e-5, in[4]);
                      return {sum, y};
                    },
                    {torch::randn({rows, width}), torch::randn({rows, width}),
                     torch::randn({width}), torch::randn({width}), torch::randn({width})});
  expect_same("add_norm without bias and weight",
              [&](const Tensors& in) -> Tensors {
                return {ops::add_norm(in[0], in[1], ops::NormKind::rms, {}, {}, 1e-5).second};
              },
              {torch::randn({2, 50, 64}), torch::randn({2, 50, 64})});
}

TEST_F(OpsOnCuda, Linear) {
  for (const int64_t rows : {1, 129, 5000}) {
    expect_same(fmt::format("linear, {} rows", rows),
                [](const Tensors& in) -> Tensors { return {ops::linear(in[0], in[1], in[2])}; },
                {torch::randn({rows, 320}), torch::randn({960, 320}), torch::randn({960})});
    expect_same(fmt::format("linear without bias over a transposed weight, {} rows", rows),
                [](const Tensors& in) -> Tensors {
                  return {ops::linear(in[0].view({1, in[0].size(0), 64}), in[1].t(), {})};
                },
                {torch::randn({rows, 64}), torch::randn({64, 200})});
  }
}

TEST_F(OpsOnCuda, LinearActivate) {
  for (const auto law : kLaws) {
    expect_same(
        "linear_activate " + to_name(law),
        [&](const Tensors& in) -> Tensors {
          return {ops::linear_activate(in[0], in[1], in[2], law)};
        },
        {torch::randn({1000, 64}), torch::randn({1280, 64}) * 0.2, torch::randn({1280})}, 2e-2);
    expect_same(
        "linear_activate without bias " + to_name(law),
        [&](const Tensors& in) -> Tensors { return {ops::linear_activate(in[0], in[1], {}, law)}; },
        {torch::randn({100, 64}), torch::randn({136, 64}) * 0.2}, 2e-2);
  }
}

TEST_F(OpsOnCuda, GatedLinear) {
  for (const auto law : kLaws)
    expect_same(
        "gated_linear " + to_name(law),
        [&](const Tensors& in) -> Tensors { return {ops::gated_linear(in[0], in[1], in[2], law)}; },
        {torch::randn({500, 64}), torch::randn({704, 64}) * 0.2, torch::randn({704, 64}) * 0.2},
        2e-2);
}

TEST_F(OpsOnCuda, BiasAndGatedActivate) {
  for (const auto law : kLaws) {
    expect_same(
        "bias_activate " + to_name(law),
        [&](const Tensors& in) -> Tensors { return {ops::bias_activate(in[0], in[1], law)}; },
        {torch::randn({3, 333, 136}), torch::randn({136})});
    expect_same(
        "gated_activate " + to_name(law),
        [&](const Tensors& in) -> Tensors { return {ops::gated_activate(in[0], in[1], law)}; },
        {torch::randn({333, 136}), torch::randn({333, 136})});
  }
}

struct HeadCase {
  int64_t heads, kv_heads, width, tokens;
  bool turned, biased, separate;
};

TEST_F(OpsOnCuda, ProjectHeadsAndAttention) {
  for (const auto& c :
       {HeadCase{8, 8, 40, 100, false, true, true}, HeadCase{5, 5, 64, 512, false, true, false},
        HeadCase{7, 7, 32, 96, true, false, true}, HeadCase{6, 2, 64, 64, true, true, true}}) {
    const int64_t inputs = 64, q = c.heads * c.width, kv = c.kv_heads * c.width;
    const auto angle = torch::rand({c.tokens, c.width / 2}) * 6;
    const auto cosine = c.turned ? angle.cos().cuda() : Tensor();
    const auto sine = c.turned ? angle.sin().cuda() : Tensor();
    const auto project = [&](const Tensors& in) {
      const Tensors weights =
          c.separate ? Tensors{in[1], in[2], in[3]} : Tensors{torch::cat({in[1], in[2], in[3]})};
      Tensors biases(weights.size());
      if (c.biased)
        biases =
            c.separate ? Tensors{in[4], in[5], in[6]} : Tensors{torch::cat({in[4], in[5], in[6]})};
      return ops::project_heads(in[0], weights, biases, c.heads, c.kv_heads, cosine, sine);
    };
    Tensors in{torch::randn({3, c.tokens, inputs}), torch::randn({q, inputs}) * 0.2,
               torch::randn({kv, inputs}) * 0.2, torch::randn({kv, inputs}) * 0.2};
    if (c.biased) in.insert(in.end(), {torch::randn({q}), torch::randn({kv}), torch::randn({kv})});
    const auto name = fmt::format("{} / {} heads of {}", c.heads, c.kv_heads, c.width);
    expect_same(
        "project_heads, " + name,
        [&](const Tensors& in) -> Tensors {
          const auto h = project(in);
          return {h.q, h.k, h.v};
        },
        in);
    // The attention's own backward need not repeat bit for bit, so only values are compared.
    const auto attend = [&](const Tensors& in) -> Tensors {
      const auto h = project(in);
      return {attention(h.q, h.k, h.v, {}, true, 1 / std::sqrt(static_cast<double>(c.width)))};
    };
    const auto fused = answers(attend, in, torch::kBFloat16);
    const auto plain = answers(attend, in, torch::kFloat);
    EXPECT_LT(distance(fused.outputs[0], plain.outputs[0]), 2e-2) << name;
    for (size_t i = 0; i < in.size(); ++i) {
      if (i == 5) continue;  // a bias of all keys alike changes no attention: its gradient is noise
      EXPECT_LT(distance(fused.gradients[i], plain.gradients[i]), 3e-2) << name << ", " << i;
    }
  }
}

TEST_F(OpsOnCuda, CrossEntropy) {
  for (const int64_t classes : {8, 1000, 8192, 32000, 65536}) {
    const auto targets = torch::randint(classes, {77}, torch::kLong);
    targets[3] = -100, targets[76] = -100;
    const auto there = targets.cuda();
    for (const double factor : {1.0, 0.25})
      expect_same(
          fmt::format("cross_entropy of {} x {}", classes, factor),
          [&](const Tensors& in) -> Tensors { return {ops::cross_entropy(in[0], there) * factor}; },
          {torch::randn({77, classes}) * 3});
  }
}

TEST_F(OpsOnCuda, CrossEntropyOfATargetOutOfRangeIsNoNumber) {
  const auto logits = torch::randn({4, 16}).cuda().to(torch::kBFloat16);
  const auto targets = torch::tensor({1L, 2L, 16L, 3L}).cuda();
  EXPECT_TRUE(std::isnan(ops::cross_entropy(logits, targets).item<float>()));
}

TEST_F(OpsOnCuda, TakesTheFusedWay) {
  const auto x = torch::randn({4, 64}).cuda().to(torch::kBFloat16);
  EXPECT_TRUE(ops::fused::fits_norm(x));
  EXPECT_FALSE(ops::fused::fits_norm(x.narrow(1, 0, 63)));
  EXPECT_FALSE(ops::fused::fits_norm(x.to(torch::kFloat)));
}

}  // namespace
#endif
