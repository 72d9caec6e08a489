#include "cajal/train/processes.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/nn.h>
#include <spawn.h>
#include <sys/wait.h>
#include <torch/nn.h>
#include <unistd.h>

#include <map>

#include "cajal/train/log.h"
#include "cajal/train/trainer.h"
#include "core/scratch.h"

extern char** environ;

namespace {

using namespace cajal;
using namespace cajal::train;

// What both sides train: a tiny network on batches that follow from the step.
std::vector<double> train_tiny(const std::filesystem::path& folder, const Processes& processes) {
  torch::manual_seed(1);
  torch::nn::Sequential network(torch::nn::Linear(8, 32), torch::nn::Tanh(),
                                torch::nn::Linear(32, 1));
  Task task = task_of(
      *network,
      [](const Slice& slice) -> Batch {
        auto generator = at::detail::createCPUGenerator(static_cast<uint64_t>(slice.step));
        const int64_t mine = 16 / slice.parts;
        const auto x = torch::randn({16, 8}, generator).narrow(0, slice.part * mine, mine);
        return {x, x.square().sum(1, true)};
      },
      [&](const Batch& batch) { return torch::mse_loss(network->forward(batch[0]), batch[1]); });
  Options options;
  options.steps = 200;
  options.log_every = 1;
  run(task, options, {folder}, processes);
  std::vector<double> losses;
  if (processes.writes())
    for (const auto& line : Log::read(folder / "log.jsonl")) losses.push_back(line.at("loss"));
  return losses;
}

using DataParallel = Scratch;

// Started by the test below in a process of its own; does nothing when it is run by itself.
TEST_F(DataParallel, Worker) {
  const char* folder = std::getenv("CAJAL_TEST_WORKER");
  if (folder == nullptr) return;
  at::set_num_threads(1);
  train_tiny(folder, Processes::from_environment(torch::kCPU));
}

pid_t start_worker(const std::filesystem::path& folder, int rank, int port) {
  std::map<std::string, std::string> own{{"CAJAL_TEST_WORKER", folder.string()},
                                         {"RANK", std::to_string(rank)},
                                         {"WORLD_SIZE", "2"},
                                         {"LOCAL_RANK", std::to_string(rank)},
                                         {"MASTER_ADDR", "127.0.0.1"},
                                         {"MASTER_PORT", std::to_string(port)}};
  std::vector<std::string> entries;
  for (char** entry = environ; *entry; ++entry) entries.emplace_back(*entry);
  for (const auto& [name, value] : own) entries.push_back(name + "=" + value);
  std::vector<char*> environment;
  for (auto& entry : entries) environment.push_back(entry.data());
  environment.push_back(nullptr);
  char program[] = "/proc/self/exe", filter[] = "--gtest_filter=DataParallel.Worker",
       brief[] = "--gtest_brief=1";
  char* arguments[] = {program, filter, brief, nullptr};
  pid_t child = 0;
  require(posix_spawn(&child, program, nullptr, nullptr, arguments, environment.data()) == 0,
          "the worker could not be started");
  return child;
}

TEST_F(DataParallel, TwoProcessesTrainLikeOne) {
#ifndef CAJAL_GLOO
  GTEST_SKIP() << "this build has no Gloo (libgloo-dev)";
#endif
  const int port = 20000 + getpid() % 20000;
  const pid_t first = start_worker(in("two"), 0, port), second = start_worker(in("two"), 1, port);
  for (const pid_t child : {first, second}) {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
  }
  std::vector<double> two;
  for (const auto& line : Log::read(in("two") / "log.jsonl")) two.push_back(line.at("loss"));
  const auto one = train_tiny(in("one"), Processes());
  ASSERT_EQ(one.size(), 200u);
  ASSERT_EQ(two.size(), 200u);
  for (size_t step = 0; step < one.size(); ++step)
    ASSERT_NEAR(one[step], two[step], 1e-4 * std::max(1.0, one[step])) << "step " << step;
}

TEST_F(DataParallel, NamesTheVariableThatIsWrong) {
  setenv("WORLD_SIZE", "2", 1), setenv("RANK", "5", 1);
  EXPECT_EQ(error_of([] { Processes::from_environment(torch::kCPU); }),
            "environment RANK: expected a number below 2");
  setenv("RANK", "one", 1);
  EXPECT_EQ(error_of([] { Processes::from_environment(torch::kCPU); }),
            "environment RANK='one': expected a whole number");
  setenv("RANK", "0", 1), unsetenv("MASTER_ADDR");
  EXPECT_EQ(error_of([] { Processes::from_environment(torch::kCPU); }),
            "environment MASTER_ADDR: expected the address of process 0 of 2");
  unsetenv("WORLD_SIZE"), unsetenv("RANK");
}

TEST_F(DataParallel, AloneWithoutAnEnvironment) {
  EXPECT_EQ(Processes::from_environment(torch::kCPU).count(), 1);
}

}  // namespace
