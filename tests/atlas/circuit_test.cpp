#include "cajal/atlas/circuit.h"

#include "cajal/atlas/arithmetic.h"
#include "models/tiny.h"

namespace cajal::atlas {
namespace {

using namespace lm::testing;

struct Case {
  lm::Transformer model = tiny_model(tiny_llama());
  torch::Tensor ids = some_ids(6, 4), answers = torch::arange(6);
  Recording mean;
  Case() {
    const torch::NoGradGuard no_grad;
    torch::manual_seed(4);
    mean = means(record(model, torch::randint(50, {40, 4}, torch::kLong), circuit_points()).values);
  }
};

TEST(Circuit, FaithfulnessIsOneForTheWholeAndZeroForNothing) {
  Case c;
  EXPECT_NEAR(faithfulness(c.model, c.ids, c.answers, whole_circuit(c.model->config), c.mean), 1,
              1e-6);
  EXPECT_NEAR(faithfulness(c.model, c.ids, c.answers, empty_circuit(c.model->config), c.mean), 0,
              1e-6);
}

TEST(Circuit, FaithfulnessEqualsANaiveLoopOverNeurons) {
  Case c;
  const torch::NoGradGuard no_grad;
  auto circuit = whole_circuit(c.model->config);
  for (const int64_t n : {1, 5, 9}) circuit.neurons[1][n] = false;
  circuit.heads[0][2] = false;
  const auto normalised = [&](const std::function<void(lm::Hooks&)>& change) {
    lm::Hooks hooks;
    change(hooks);
    const auto logits = c.model->forward(c.ids, {.hooks = &hooks}).select(1, -1);
    double sum = 0;
    for (int64_t b = 0; b < 6; ++b) sum += (logits[b][b] / logits[b].max()).item<double>() / 6;
    return sum;
  };
  const double some = normalised([&](lm::Hooks& hooks) {
    for (const int64_t n : {1, 5, 9}) ablate(hooks, {"post1", {}, {}, {n}}, Ablate::mean, c.mean);
    ablate(hooks, {"z0", {}, {2}}, Ablate::mean, c.mean);
  });
  const double none = normalised([&](lm::Hooks& hooks) {
    ablate(hooks, {"blocks.*.mlp.hook_post"}, Ablate::mean, c.mean);
    ablate(hooks, {"blocks.*.attn.hook_z"}, Ablate::mean, c.mean);
  });
  const double whole = normalised([](lm::Hooks&) {});
  EXPECT_NEAR(faithfulness(c.model, c.ids, c.answers, circuit, c.mean),
              (some - none) / (whole - none), 1e-5);
}

TEST(Circuit, EffectsOfPartsAreThoseOfPatching) {
  Case c;
  const torch::NoGradGuard no_grad;
  const auto source = c.ids.roll(1, 0);
  const auto metric = logit_of(c.answers);
  const auto effects = patching_effects(c.model, c.ids, source, metric);
  lm::Hooks hooks;
  patch(hooks, {"z1", {2}, {3}}, record(c.model, source, {"z1"}).values);
  EXPECT_NEAR(effects[1][3][2].item<double>(),
              metric(c.model->forward(c.ids, {.hooks = &hooks})).mean().item<double>(), 1e-5);
  const auto grown = grow_heads(c.model, c.ids, c.answers, c.mean, effects, 0.999);
  EXPECT_NEAR(grown.faithfulness.back(), 1, 0.001 + 1e-5);
}

TEST(ArithmeticTask, IsTheGridInFourTokens) {
  const auto task = arithmetic_task(
      {.op = Operator::subtract, .operands = 10, .max_result = 9, .trainer = {}}, 1);
  EXPECT_EQ(task.vocabulary, 15);
  EXPECT_EQ(task.ids.size(0), 55);
  EXPECT_TRUE((task.ids.select(1, 0) - task.ids.select(1, 2)).equal(task.answers));
  EXPECT_EQ(task.ids[0][1].item<int64_t>(), 11);
  EXPECT_EQ(task.train.size(0) + task.held_out.size(0), 55);
  EXPECT_EQ(std::get<0>(torch::cat({task.train, task.held_out}).sort()).equal(torch::arange(55)),
            true);
  const auto others = counterfactuals(task, task.train, 3);
  EXPECT_FALSE(task.answers.index_select(0, others)
                   .eq(task.answers.index_select(0, task.train))
                   .any()
                   .item<bool>());
}

TEST(ArithmeticTask, MapsHoldEachPairsActivationAndEffect) {
  ArithmeticOptions options{.operands = 6,
                            .max_result = 10,
                            .layers = 2,
                            .width = 16,
                            .heads = 2,
                            .neurons = 32,
                            .batch = 16,
                            .trainer = {}};
  options.trainer.steps = 3;
  const auto task = arithmetic_task(options, 1);
  auto model = train_arithmetic(options, task, 1);
  const auto maps = activation_maps(model, task, 1, torch::tensor({3, 30}, torch::kLong));
  const auto post = record(model, task.ids, {"post1"}).values.begin()->second.detach();
  EXPECT_LT(difference(maps.activations[1], post.select(1, -1).select(-1, 30)), 1e-6);
  EXPECT_EQ(maps.effects.sizes(), maps.activations.sizes());
}

}  // namespace
}  // namespace cajal::atlas
