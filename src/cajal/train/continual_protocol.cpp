#include "cajal/train/continual_protocol.h"

#include <algorithm>

namespace cajal::train {
namespace {

std::vector<double> judged(const TaskNet& net, const std::vector<StreamTask>& tasks, Judge judge) {
  std::vector<double> out;
  for (size_t s = 0; s < net->heads.size(); ++s)
    out.push_back(task_accuracy(net, s, judge == Judge::valid ? tasks[s].valid : tasks[s].test));
  return out;
}

}  // namespace

double StreamRecord::average() const {
  double sum = 0;
  for (const double accuracy : seen.back()) sum += accuracy;
  return sum / static_cast<double>(seen.back().size());
}

double StreamRecord::forgetting() const {
  if (seen.size() < 2) return 0;
  double sum = 0;
  for (size_t s = 0; s + 1 < seen.size(); ++s) {
    double best = 0;
    for (size_t t = s; t < seen.size(); ++t) best = std::max(best, seen[t][s]);
    sum += best - seen.back()[s];
  }
  return sum / static_cast<double>(seen.size() - 1);
}

StreamRecord learn_in_turn(const TaskNetOptions& options, const std::vector<StreamTask>& tasks,
                           const TaskTraining& training, Consolidation kind, double strength,
                           Judge judge) {
  constexpr int64_t kFisherSamples = 200;
  TaskNet net(options);
  // c (θ - θ*)² has twice the gradient of λ/2 (θ - θ*)².
  QuadraticPenalty penalty(kind == Consolidation::intelligence ? 2 * strength : strength);
  StreamRecord out;
  for (size_t t = 0; t < tasks.size(); ++t) {
    net->add_head();
    PathIntegral path(net->shared());
    TaskRules rules;
    if (kind != Consolidation::none) rules.penalty = &penalty;
    if (kind == Consolidation::intelligence) rules.path = &path;
    train_task(net, t, tasks[t].train, training, rules);
    if (kind == Consolidation::elastic)
      penalty.add(fisher_diagonal(net, tasks[t].train.x, t, kFisherSamples), net->shared());
    if (kind == Consolidation::intelligence) penalty.add_and_move(path.importance(), net->shared());
    out.seen.push_back(judged(net, tasks, judge));
  }
  return out;
}

StreamRecord learn_singly(const TaskNetOptions& options, const std::vector<StreamTask>& tasks,
                          const TaskTraining& training) {
  StreamRecord out;
  out.seen.emplace_back();
  for (const auto& task : tasks) {
    TaskNet net(options);
    net->add_head();
    train_task(net, 0, task.train, training);
    out.seen[0].push_back(task_accuracy(net, 0, task.test));
  }
  return out;
}

StreamRecord learn_jointly(const TaskNetOptions& options, const std::vector<StreamTask>& tasks,
                           const TaskTraining& training) {
  TaskNet net(options);
  for (size_t t = 0; t < tasks.size(); ++t) net->add_head();
  auto one = training;
  one.epochs = 1;
  for (int64_t epoch = 0; epoch < training.epochs; ++epoch)
    for (size_t t = 0; t < tasks.size(); ++t) train_task(net, t, tasks[t].train, one);
  StreamRecord out;
  out.seen.push_back(judged(net, tasks, Judge::test));
  return out;
}

StreamRecord learn_by_packing(const TaskNetOptions& options, const std::vector<StreamTask>& tasks,
                              const PackNetOptions& packing, Judge judge) {
  PackNet learner(TaskNet(options), packing);
  StreamRecord out;
  for (size_t t = 0; t < tasks.size(); ++t) {
    learner.learn(tasks[t]);
    out.seen.emplace_back();
    for (size_t s = 0; s <= t; ++s)
      out.seen.back().push_back(task_accuracy(
          learner.task_net(s), s, judge == Judge::valid ? tasks[s].valid : tasks[s].test));
  }
  return out;
}

double PruningRecord::worst_drop() const {
  double worst = 0;
  for (const auto& c : commits) worst = std::max(worst, c.accuracy - c.pruned_accuracy);
  return worst;
}

bool PruningRecord::free_units_never_grow() const {
  for (size_t t = 1; t < commits.size(); ++t)
    for (size_t l = 0; l < commits[t].layers.size(); ++l)
      if (commits[t].layers[l].free_share() > commits[t - 1].layers[l].free_share()) return false;
  return true;
}

double PruningRecord::mean_reused(size_t layer) const {
  double sum = 0;
  for (size_t t = 1; t < commits.size(); ++t) sum += commits[t].layers[layer].reused_share();
  return commits.size() < 2 ? 0 : sum / static_cast<double>(commits.size() - 1);
}

PruningRecord learn_by_pruning(const TaskNetOptions& options, const std::vector<StreamTask>& tasks,
                               const ClnpOptions& pruning) {
  NeuralPruning learner(TaskNet(options), pruning);
  PruningRecord out;
  std::vector<torch::Tensor> answers;  // of each task right after its commit
  for (const auto& task : tasks) {
    out.commits.push_back(learner.learn(task));
    const torch::NoGradGuard no_grad;
    for (size_t s = 0; s < answers.size(); ++s)
      out.bit_equal =
          out.bit_equal && torch::equal(answers[s], learner.forward(tasks[s].test.x, s));
    answers.push_back(learner.forward(task.test.x, answers.size()));
    out.seen.push_back(judged(learner.net, tasks, Judge::test));
  }
  out.whole = learner.net;
  const auto& own = learner.active_after(1);
  const bool uses_all_layers = std::all_of(
      own.begin(), own.end(), [](const torch::Tensor& units) { return units.any().item<bool>(); });
  if (uses_all_layers) out.first = learner.extract(0);
  return out;
}

}  // namespace cajal::train
