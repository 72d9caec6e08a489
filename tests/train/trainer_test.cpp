#include "cajal/train/trainer.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/nn.h>

#include <csignal>
#include <fstream>

#include "cajal/core/tensors.h"
#include "cajal/train/log.h"
#include "core/scratch.h"

namespace {

using namespace cajal;
using namespace cajal::train;

// A small regression whose batches follow from the step; dropout makes it need the generator too.
struct Regression {
  explicit Regression(uint64_t seed = 1) {
    torch::manual_seed(seed);
    network =
        torch::nn::Sequential(torch::nn::Linear(6, 16), torch::nn::BatchNorm1d(16),
                              torch::nn::ReLU(), torch::nn::Dropout(0.2), torch::nn::Linear(16, 1));
    network->train();
  }

  Task task() {
    return task_of(
        *network,
        [](const Slice& slice) -> Batch {
          auto generator = at::detail::createCPUGenerator(static_cast<uint64_t>(slice.step) + 7);
          const int64_t mine = 32 / slice.parts;
          const auto x = torch::randn({32, 6}, generator).narrow(0, slice.part * mine, mine);
          return {x, (x.sum(1, true) * 0.5).sin()};
        },
        [this](const Batch& batch) {
          return torch::mse_loss(network->forward(batch[0]), batch[1]);
        });
  }

  torch::Tensor flat() const {
    std::vector<torch::Tensor> parts;
    for (const auto& p : network->parameters()) parts.push_back(p.detach().flatten());
    for (const auto& b : network->buffers()) parts.push_back(b.to(torch::kFloat).flatten());
    return torch::cat(parts);
  }

  torch::nn::Sequential network{nullptr};
};

Options quick(int64_t steps) {
  Options options;
  options.steps = steps;
  options.learning_rate = 0.01;
  options.average = 0.9;
  return options;
}

using Trainer = Scratch;

TEST_F(Trainer, LowersTheLoss) {
  Regression regression;
  auto options = quick(200);
  options.schedule = Schedule::constant;
  const auto task = regression.task();
  const double before = task.loss(task.batch({1000, 0, 1})).item<double>();
  run(task, options);
  EXPECT_LT(task.loss(task.batch({1000, 0, 1})).item<double>(), before / 3);
}

TEST_F(Trainer, ResumedRunEndsExactlyWhereAnUnbrokenOneDoes) {
  auto options = quick(9);
  options.save_every = 4;
  Regression whole;
  run(whole.task(), options, {in("whole")});
  Regression first;  // ends as if killed: what came after the checkpoint of step 4 is lost
  Task killed = first.task();
  const auto batch = killed.batch;
  killed.batch = [&](const Slice& slice) {
    if (slice.step == 6) throw std::runtime_error("killed");
    return batch(slice);
  };
  EXPECT_THROW(run(killed, options, {in("parts")}), std::runtime_error);
  Regression second(99);  // other weights, which the checkpoint replaces
  run(second.task(), options, {in("parts"), /*resume=*/true});
  EXPECT_TRUE(whole.flat().equal(second.flat()));
}

TEST_F(Trainer, AccumulatesMicroBatchesIntoTheGradientOfTheWholeBatch) {
  const auto train = [](int64_t accumulate) {
    torch::manual_seed(5);
    torch::nn::Linear linear(6, 1);
    Regression data;
    Task task = task_of(*linear, data.task().batch, [&](const Batch& batch) {
      return torch::mse_loss(linear->forward(batch[0]), batch[1]);
    });
    auto options = quick(10);
    options.accumulate = accumulate;
    run(task, options);
    return linear->weight.detach().clone();
  };
  EXPECT_TRUE(torch::allclose(train(1), train(4), 1e-4, 1e-6));
}

/// The same task, in whose step 3 the process is asked to end.
Task interrupted(Task task) {
  task.batch = [batch = task.batch](const Slice& slice) {
    if (slice.step == 3) std::raise(SIGTERM);
    return batch(slice);
  };
  return task;
}

TEST_F(Trainer, StopsOnASignalSavesAndGoesOn) {
  Regression regression;
  const Task task = interrupted(regression.task());
  const auto result = run(task, quick(10), {in("run")});
  EXPECT_TRUE(result.stopped);
  EXPECT_EQ(result.steps, 4);
  EXPECT_EQ(run(regression.task(), quick(10), {in("run"), true}).steps, 10);
}

TEST_F(Trainer, ASignalEndsAProcessThatHasNowhereToSaveTo) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Regression regression;
  const Task task = interrupted(regression.task());
  EXPECT_EXIT(run(task, quick(10)), testing::KilledBySignal(SIGTERM), "");
}

TEST_F(Trainer, KeepsTheBestWeightsByEvaluationLoss) {
  Regression regression;
  Task task = regression.task();
  std::vector<double> losses{3, 1, 2, 1};  // the last one: of what was kept
  size_t next = 0;
  torch::Tensor at_best;
  task.evaluate = [&] {
    if (next == 1) at_best = regression.flat();
    return Json{{"loss", losses[next++]}};
  };
  auto options = quick(6);
  options.evaluate_every = 2;
  const auto result = run(task, options, {in("run")});
  EXPECT_EQ(result.kept_step, 4);
  EXPECT_EQ(result.evaluation.at("loss"), 1);
  EXPECT_TRUE(regression.flat().equal(at_best));
  const auto best = TensorFile::open(in("run") / "checkpoints/best.safetensors");
  EXPECT_EQ(best.metadata().at("step"), "4");
  EXPECT_EQ(TensorFile::open(in("run") / "checkpoints/last.safetensors").metadata().at("step"),
            "6");
}

TEST_F(Trainer, LogForgetsWhatWasNotSavedWhenItResumes) {
  Regression regression;
  auto options = quick(4);
  options.log_every = 1;
  run(regression.task(), options, {in("run")});
  {
    std::ofstream crashed(in("run") / "log.jsonl", std::ios::app);
    crashed << R"({"step":5,"loss":0})"
            << "\n"
            << R"({"step":6,"lo)";
  }
  options.steps = 6;
  run(regression.task(), options, {in("run"), true});
  std::vector<int64_t> steps;
  for (const auto& line : Log::read(in("run") / "log.jsonl")) steps.push_back(line.at("step"));
  EXPECT_EQ(steps, (std::vector<int64_t>{1, 2, 3, 4, 5, 6}));
}

TEST_F(Trainer, SaysWhenTheLossIsNoNumber) {
  Regression regression;
  Task task = regression.task();
  task.loss = [loss = task.loss](const Batch& batch) { return loss(batch) * NAN; };
  EXPECT_EQ(error_of([&] { run(task, quick(20)); }),
            "the loss is nan at step 10: try a lower learning_rate, more warmup_steps or a clip");
}

TEST_F(Trainer, RefusesTheCheckpointOfAnotherModel) {
  Regression regression;
  run(regression.task(), quick(2), {in("run")});
  torch::nn::Linear other(6, 1);
  Task task = task_of(*other, regression.task().batch, [&](const Batch& batch) {
    return torch::mse_loss(other->forward(batch[0]), batch[1]);
  });
  EXPECT_NE(error_of([&] {
              run(task, quick(3), {in("run"), true});
            }).find("last.safetensors"),
            std::string::npos);
}

TEST_F(Trainer, RefusesADamagedCheckpoint) {
  Regression regression;
  run(regression.task(), quick(2), {in("run")});
  const auto path = in("run") / "checkpoints/last.safetensors";
  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  EXPECT_NE(error_of([&] { run(regression.task(), quick(3), {in("run"), true}); }), "");
}

}  // namespace
