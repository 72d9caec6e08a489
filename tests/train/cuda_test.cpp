#ifdef CAJAL_CUDA
#include <gtest/gtest.h>

#include "cajal/models/lm/checkpoint.h"
#include "cajal/models/lm/training.h"
#include "cajal/train/log.h"
#include "cajal/train/tokens.h"
#include "cajal/train/trainer.h"
#include "core/scratch.h"

namespace {

using namespace cajal;
using namespace cajal::train;

class TrainOnCuda : public Scratch {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "this machine has no GPU";
  }
};

double distance(const torch::Tensor& a, const torch::Tensor& b) {
  const auto x = a.detach().cpu().to(torch::kDouble), y = b.detach().cpu().to(torch::kDouble);
  return ((x - y).norm() / (y.norm() + 1e-30)).item<double>();
}

Json opt() {
  return {{"model_type", "opt"},
          {"hidden_size", 64},
          {"word_embed_proj_dim", 64},
          {"num_hidden_layers", 3},
          {"num_attention_heads", 2},
          {"ffn_dim", 256},
          {"vocab_size", 512},
          {"max_position_embeddings", 64},
          {"activation_function", "relu"},
          {"do_layer_norm_before", true}};
}
Json llama() {
  return {{"model_type", "llama"},      {"hidden_size", 64},
          {"intermediate_size", 192},   {"num_hidden_layers", 3},
          {"num_attention_heads", 4},   {"num_key_value_heads", 2},
          {"vocab_size", 512},          {"max_position_embeddings", 64},
          {"tie_word_embeddings", true}};
}

lm::Transformer model_of(const Json& json) {
  return lm::initialise(lm::config_from_json(json, "test"), 3, 0.1);
}

TEST_F(TrainOnCuda, LossAndGradientsOfAWholeModelAgreeWithFp32) {
  for (const auto& json : {opt(), llama()}) {
    auto plain = model_of(json), fused = model_of(json);
    fused->to(torch::kCUDA);
    fused->to(torch::kBFloat16);
    torch::manual_seed(1);
    const auto ids = torch::randint(512, {4, 64}, torch::kLong);
    const auto targets = torch::randint(512, {4, 64}, torch::kLong);
    auto expected = lm::TrainingLoss(plain)(ids, targets);
    auto got = lm::TrainingLoss(fused)(ids.cuda(), targets.cuda());
    EXPECT_NEAR(got.item<double>(), expected.item<double>(), 2e-2);
    expected.backward(), got.backward();
    const auto mine = fused->named_parameters();
    for (const auto& item : plain->named_parameters()) {
      if (item.key().find("key.bias") != std::string::npos) continue;  // no gradient but noise
      EXPECT_LT(distance(mine[item.key()].grad(), item.value().grad()), 6e-2)
          << json.at("model_type") << " " << item.key();
    }
  }
}

// Two optimisers over the same values and gradients, one on each device.
void compare_optimisers(Rule rule, double tolerance) {
  torch::manual_seed(2);
  std::vector<torch::Tensor> values{torch::randn({64, 48}), torch::randn({64, 48}),
                                    torch::randn({100, 32}), torch::randn({77})};
  const auto roles = {Role::matrix, Role::matrix, Role::table, Role::vector};
  const auto make = [&](torch::Device device) {
    std::vector<Parameter> out;
    auto role = roles.begin();
    for (const auto& value : values)
      out.push_back(
          {std::to_string(out.size()), value.clone().to(device).requires_grad_(), *role++});
    return out;
  };
  Options options;
  options.optimizer = rule;
  options.average = 0.9;
  auto here = make(torch::kCPU), there = make(torch::kCUDA);
  FlatParameters cpu(here, torch::kFloat), gpu(there, torch::kBFloat16);
  Optimizer on_cpu(cpu, options), on_gpu(gpu, options);
  for (int64_t step = 0; step < 5; ++step) {
    for (size_t i = 0; i < here.size(); ++i) {
      const auto gradient = torch::randn(here[i].tensor.sizes()).to(torch::kBFloat16);
      here[i].tensor.mutable_grad() = gradient.to(torch::kFloat);
      there[i].tensor.mutable_grad() = gradient.cuda();
    }
    cpu.gather(0.5, false), gpu.gather(0.5, false);
    on_cpu.prepare(step), on_gpu.prepare(step);
    on_cpu.step(), on_gpu.step();
    EXPECT_NEAR(on_cpu.norm().item<double>(), on_gpu.norm().item<double>(), 1e-3);
  }
  EXPECT_LT(distance(gpu.values, cpu.values), tolerance);
  EXPECT_LT(distance(on_gpu.first, on_cpu.first), 1e-5);
  EXPECT_LT(distance(on_gpu.average, on_cpu.average), tolerance);
  EXPECT_TRUE(gpu.working.equal(gpu.values.to(torch::kBFloat16)));
}

TEST_F(TrainOnCuda, AdamWTakesTheStepsOfTheCpu) { compare_optimisers(Rule::adamw, 1e-6); }
TEST_F(TrainOnCuda, MuonTakesTheStepsOfTheCpuUpToBf16) { compare_optimisers(Rule::muon, 1e-3); }

TEST_F(TrainOnCuda, GatherTakesManyParametersOfAnySize) {
  std::vector<Parameter> parameters;
  for (int i = 0; i < 300; ++i)
    parameters.push_back({std::to_string(i), torch::zeros({1 + i * 97}).cuda().requires_grad_()});
  FlatParameters flat(parameters, torch::kBFloat16);
  std::vector<torch::Tensor> expected;
  for (auto& p : parameters) {
    p.tensor.mutable_grad() = torch::randn(p.tensor.sizes()).cuda().to(torch::kBFloat16);
    expected.push_back(p.tensor.grad().to(torch::kFloat));
  }
  flat.gather(2, false);
  for (const auto& slot : flat.slots())
    EXPECT_TRUE(FlatParameters::part(flat.gradient, slot)
                    .equal(2 * expected[std::stoul(slot.parameter.name)]));
}

TEST_F(TrainOnCuda, RecordedStepsAreTheEagerSteps) {
  std::string ids;
  Random random(1);
  for (int i = 0; i < 20000; ++i) {
    const auto id = static_cast<uint16_t>(random.below(32) * random.below(16));
    ids.append(reinterpret_cast<const char*>(&id), 2);
  }
  const TokenFile tokens(put("ids.u16", ids));
  for (const Rule rule : {Rule::adamw, Rule::muon}) {
    std::vector<std::vector<double>> losses;
    for (const bool graph : {true, false}) {
      auto model = model_of(opt());
      model->to(torch::kCUDA);
      lm::TrainingLoss loss(model);
      const Windows windows(tokens, 64, torch::kCUDA);
      Task task = task_of(
          *model,
          [&](const Slice& s) -> Batch { return {windows.starts(1, s.step, 16, s.part, s.parts)}; },
          [&](const Batch& batch) {
            const auto [in, targets] = windows.at(batch[0]);
            return loss(in, targets);
          });
      task.precision = Precision::bf16;
      task.recordable = true;
      Options options;
      options.steps = 30, options.log_every = 1, options.accumulate = 2;
      options.optimizer = rule;
      options.learning_rate = 3e-3;
      options.cuda_graph = graph;
      options.average = 0.9;
      const auto folder = in(graph ? "graph" : "eager") / to_name(rule);
      run(task, options, {folder});
      auto& curve = losses.emplace_back();
      for (const auto& line : Log::read(folder / "log.jsonl")) curve.push_back(line.at("loss"));
    }
    ASSERT_EQ(losses[0].size(), losses[1].size());
    for (size_t i = 0; i < losses[0].size(); ++i)
      EXPECT_NEAR(losses[0][i], losses[1][i], 1e-2) << to_name(rule) << " step " << i + 1;
    EXPECT_LT(losses[0].back(), losses[0].front() - 0.3);
  }
}

TEST_F(TrainOnCuda, TrainedParametersComeBackAsFp32) {
  auto model = model_of(llama());
  model->to(torch::kCUDA);
  lm::TrainingLoss loss(model);
  const auto ids = torch::randint(512, {2, 64}, torch::kLong);
  Task task = task_of(
      *model, [&](const Slice&) -> Batch { return {ids}; },
      [&](const Batch& batch) { return loss(batch[0], batch[0]); });
  task.precision = Precision::bf16;
  task.recordable = true;
  Options options;
  options.steps = 8;
  run(task, options);
  for (const auto& p : model->parameters()) {
    EXPECT_EQ(p.scalar_type(), torch::kFloat);
    EXPECT_TRUE(p.isfinite().all().item<bool>());
  }
}

}  // namespace
#endif
