#include "cajal/surgery/brick_operations.h"

#include <algorithm>
#include <limits>

#include "cajal/core/random.h"
#include "cajal/surgery/brick_configuration.h"
#include "cajal/surgery/brick_merge.h"
#include "cajal/surgery/brick_parts.h"
#include "cajal/surgery/brick_training.h"

namespace cajal::surgery {
namespace {

constexpr int64_t kBatch = 16;

lm::Transformer merged(const FunctionWorld& world, const NamedTensors& delta) {
  return with_bricks(world.model, {Brick{.card = {.id = "merged", .kind = BrickKind::task_vector},
                                         .tensors = delta}});
}

/// Losses on the tasks from a share of their texts on, and their mean.
std::vector<double> losses_on(const FunctionWorld& world, const NewTasks& o,
                              const lm::Transformer& model, double from) {
  std::vector<double> out;
  for (const auto& task : o.tasks)
    out.push_back(world.loss(model, part(task.ids, from, from + 0.1)));
  out.push_back((out[0] + out[1]) / 2);
  return out;
}

/// The merge of that rule whose scale is best on the part for choices.
lm::Transformer best_merge(const FunctionWorld& world, const NewTasks& o,
                           const std::vector<NamedTensors>& deltas, MergeRule rule) {
  const double density = rule == MergeRule::ties ? 0.2 : rule == MergeRule::dare ? 0.1 : 1;
  double best = std::numeric_limits<double>::infinity();
  lm::Transformer out{nullptr};
  for (const double scale : {0.3, 0.5, 0.7, 1.0, 1.5, 2.0}) {
    if (rule == MergeRule::average && scale != 1) continue;  // it does not depend on the scale
    const auto made = merged(
        world,
        merge_deltas(
            deltas, {.rule = rule, .weights = {scale, scale}, .density = density, .seed = o.seed}));
    const double loss = losses_on(world, o, made, 0.8).back();
    if (loss < best) best = loss, out = made;
  }
  return out;
}

double difference_of_foldings(const FunctionWorld& world, const std::vector<Brick>& bricks,
                              const NamedTensors& delta) {
  const torch::NoGradGuard no_grad;
  const auto ids = torch::arange(world.context(), torch::kLong).unsqueeze(0);
  const auto folded = with_bricks(world.model, bricks)->forward(ids);
  const auto summed = merged(world, delta)->forward(ids);
  return ((folded - summed).abs().max() / summed.abs().max()).item<double>();
}

void append(std::vector<int32_t>& to, const std::vector<int32_t>& ids) {
  to.insert(to.end(), ids.begin(), ids.end());
}

std::vector<int32_t> new_name(Random& random) {
  std::string letters;
  for (int i = 0; i < 8; ++i) letters += static_cast<char>('a' + random.below(26));
  return byte_ids("code of " + letters + " is ");
}

}  // namespace

std::vector<Line> merging_lines(const FunctionWorld& world, const NewTasks& o) {
  std::vector<Line> out;
  const auto add = [&](const std::string& name, const lm::Transformer& model) {
    out.emplace_back(name, losses_on(world, o, model, 0.9));
  };
  const auto batches = [&](const std::vector<int32_t>& ids) {
    return train::windows(ids, world.context(), kBatch, o.seed);
  };
  add("base", world.model);
  std::vector<NamedTensors> deltas;
  std::vector<Brick> first;
  std::vector<int32_t> both;
  for (const auto& task : o.tasks) {
    const auto tuning = part(task.ids, 0, 0.8);
    const auto bricks =
        train_low_rank("task", world.model, batches(tuning),
                       {.tuning = {.steps = o.steps, .rate = 3e-3}, .seed = o.seed});
    add("the brick of " + task.name + " alone", with_bricks(world.model, bricks));
    add("full tuning on " + task.name,
        train_all(world.model, batches(tuning), {.steps = o.steps, .rate = 1e-3}));
    deltas.push_back(dense_delta(world.model, bricks));
    if (first.empty()) first = bricks;
    append(both, tuning);
  }
  for (const auto rule :
       {MergeRule::average, MergeRule::arithmetic, MergeRule::ties, MergeRule::dare})
    add(to_name(rule), best_merge(world, o, deltas, rule));
  add("multi-task tuning of all weights",
      train_all(world.model, batches(both), {.steps = 2 * o.steps, .rate = 1e-3}));
  out.emplace_back("exact", std::vector<double>{difference_of_foldings(world, first, deltas[0])});
  return out;
}

std::vector<Line> editing_lines(const FunctionWorld& world, const EditTrial& o) {
  auto model = world.model;
  Random random(o.seed, 9);
  std::vector<Fact> facts, others;
  std::vector<int32_t> all, calibration;
  for (int64_t i = 0; i < o.facts; ++i) {
    facts.push_back({new_name(random), static_cast<int32_t>('A' + random.below(26))});
    others.push_back({new_name(random), 0});
    others.back().answer = likeliest(model, others.back().prompt);
    append(all, facts.back().prompt);
    append(all, {facts.back().answer, '\n'});
  }
  for (const auto& text : world.train) append(calibration, part(text.ids, 0, o.calibration));
  const auto moment =
      second_moment(model, o.edit.layer, calibration, std::ssize(calibration), world.context());
  const auto edited = edit_in_turn(model, facts, moment, o.edit);
  const double before = world.mean_test_loss(model);
  const auto line = [&](const std::string& name, const lm::Transformer& of) {
    return Line{name,
                {share_said(of, facts), share_said(of, facts, byte_ids("as everyone knows, the ")),
                 1 - share_said(of, others), world.mean_test_loss(of) / before - 1}};
  };
  const auto tuned = train_all(
      model,
      train::windows(all, std::min<int64_t>(world.context(), std::ssize(all) / 2), kBatch, o.seed),
      {.steps = o.tuning_steps, .rate = 1e-3});
  const auto without = materialise(model, edited.registry, {});
  const bool same = content_hash(without) == content_hash(own_copy(model));
  return {line("rank-one edits", materialise(model, edited.registry, edited.configuration)),
          line("tuning all weights on the facts", tuned),
          {"exact", {edited.largest_error, same ? 1.0 : 0.0}}};
}

std::vector<Line> growing_lines(const FunctionWorld& world, const std::vector<int32_t>& task,
                                int64_t neurons, int64_t steps, uint64_t seed) {
  const auto batch = train::windows(part(task, 0, 0.8), world.context(), kBatch, seed);
  std::vector<Brick> born;
  for (int64_t layer = 0; layer < world.model->config.layers; ++layer)
    born.push_back(grown_neurons(fmt::format("new/{}", layer), world.model, layer, neurons));
  const auto logits = [&](lm::Transformer of) {
    const torch::NoGradGuard no_grad;
    return of->forward(torch::arange(world.context(), torch::kLong).unsqueeze(0));
  };
  const auto change = logits(with_bricks(world.model, born)) - logits(world.model);
  const auto grown = train_neurons(born, world.model, batch, {.steps = steps, .rate = 2e-3});
  const auto tuned = train_all(world.model, batch, {.steps = steps, .rate = 1e-3});
  const auto test = part(task, 0.9, 1);
  const double fresh = world.loss(world.model, test), old = world.mean_test_loss(world.model);
  const auto line = [&](const std::string& name, const lm::Transformer& of) {
    const double loss = world.loss(of, test);
    return Line{name, {loss, 1 - loss / fresh, world.mean_test_loss(of) / old - 1}};
  };
  return {line("before", world.model),
          line("new neurons, all else frozen", with_bricks(world.model, grown)),
          line("full tuning", tuned),
          {"birth", {change.abs().max().item<double>()}}};
}

}  // namespace cajal::surgery
