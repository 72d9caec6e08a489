#include "cajal/core/timing.h"
#include "cajal/study/images.h"
#include "cajal/study/study.h"
#include "cajal/train/local_blocks.h"
#include "cajal/train/saved_bytes.h"

namespace {
using namespace cajal;
using train::BlockLearner;
using train::BlockRule;
using vision::Partition;

struct Method {
  const char* name;
  BlockRule rule;
  Partition partition;
};
constexpr Method kMethods[] = {{"bp", BlockRule::backprop, Partition::blocks},
                               {"bp-deepsup", BlockRule::deep_supervision, Partition::blocks},
                               {"sff-block", BlockRule::sff, Partition::blocks},
                               {"sff-layer", BlockRule::sff, Partition::layers},
                               {"greedy", BlockRule::greedy, Partition::blocks}};

BlockLearner learner(const Method& m, const study::ImageTask& task, double width, int64_t epochs,
                     vision::Net net = vision::Net::resnet18) {
  vision::BlockNetOptions o;
  o.net = net, o.channels = task.train.x.size(1), o.width = width, o.partition = m.partition;
  train::BlockLearning learning;
  learning.rule = m.rule, learning.epochs = epochs;
  return BlockLearner(vision::block_net(o), task.classes, learning);
}

struct Memory {
  double saved = 0, peak = 0;  // MB: what autograd held, what the allocator handed out
};

/// One step on a batch: saved tensors with the weights left out, and the allocator's peak over what
/// was there before.
Memory memory_of(BlockLearner learner, const torch::Tensor& x, const torch::Tensor& y) {
  std::vector<torch::Tensor> weights;
  for (size_t i = 0; i < learner.blocks().size(); ++i)
    for (const auto& p : learner.block_parameters(i)) weights.push_back(p);
  const train::SavedBytes saved(weights);
  const train::AllocatedBytes allocated;
  learner.step(x, y);
  return {static_cast<double>(saved.peak()) / 1e6, static_cast<double>(allocated.peak()) / 1e6};
}

/// Accuracy of the averaged vote of the first 1, 2, ... heads.
std::vector<double> prefixes(BlockLearner& learner, const study::Pictures& at) {
  std::vector<double> out;
  torch::Tensor sum;
  for (const auto& scores : learner.scores(at.x)) {
    const auto own = scores.softmax(1);
    sum = sum.defined() ? sum + own : own;
    out.push_back(study::accuracy(sum.argmax(1), at.y));
  }
  return out;
}

struct Row {
  study::Figure averaged, last, seconds, predict;
  std::vector<double> after_block;  // mean over the seeds
  Memory memory;
};

std::map<std::string, Row> on(study::Lab& lab, const std::string& name, int64_t limit, double width,
                              int64_t epochs) {
  auto task = study::find_images(lab, name, 3);
  task = task.standardised(task.train.x.mean().item<double>(), task.train.x.std().item<double>());
  task.train = task.train.first(limit);
  auto table =
      lab.table(fmt::format("ResNet18 x {}, {}", width, task.name),
                {"method", "accuracy, heads averaged", "last head", "s an epoch", "ms a picture",
                 "peak saved MB", "allocator's peak MB", "head weights, %"});
  auto blocks =
      lab.table("accuracy after each block, " + task.name, {"method", "after 1, 2, ... heads"});
  std::map<std::string, Row> out;
  for (const auto& m : kMethods) {
    auto& row = out[m.name];
    std::vector<double> averaged, last, seconds, predict;
    double share = 0;
    lab.over_seeds([&](uint64_t) {
      auto net = learner(m, task, width, epochs);
      const Stopwatch training;
      net.train(task.train.x, task.train.y);
      seconds.push_back(training.seconds() / static_cast<double>(epochs));
      const Stopwatch predicting;
      const auto by_prefix = prefixes(net, task.test);
      predict.push_back(1000 * predicting.seconds() / static_cast<double>(task.test.size()));
      averaged.push_back(by_prefix.back());
      last.push_back(
          study::accuracy(net.predict(task.test.x, train::BlockVote::last), task.test.y));
      row.after_block.resize(by_prefix.size());
      for (size_t i = 0; i < by_prefix.size(); ++i)
        row.after_block[i] += by_prefix[i] / static_cast<double>(lab.seeds().size());
      double all = 0;
      for (const auto& p : vision::parameters(net.blocks())) all += static_cast<double>(p.numel());
      share = static_cast<double>(net.head_weights()) / all;
      return 0.0;
    });
    const auto batch = task.train.first(128);
    row.memory = memory_of(learner(m, task, width, epochs), batch.x, batch.y);
    row.averaged = study::Figure(averaged), row.last = study::Figure(last);
    row.seconds = study::Figure(seconds), row.predict = study::Figure(predict);
    table.row(m.name, row.averaged, row.last, row.seconds, row.predict, row.memory.saved,
              row.memory.peak, 100 * share);
    std::string steps;
    for (const double a : row.after_block) steps += fmt::format("{:.3f} ", a);
    blocks.row(m.name, steps);
  }
  return out;
}

void judge(study::Lab& lab, const std::map<std::string, Row>& rows, const char* set, double bar) {
  const auto mean = [&](const char* m) { return rows.at(m).averaged.mean(); };
  const auto claim = [&](const std::string& text) {
    return lab.claim(fmt::format("{}: {}", set, text));
  };
  claim("sff-block over bp")
      .paper("comparable, tends to outperform")
      .measured(mean("sff-block") - mean("bp"))
      .in_percent()
      .at_least(bar);
  claim("sff-block over sff-layer")
      .paper("hybrid is better")
      .measured(mean("sff-block") - mean("sff-layer"))
      .in_percent()
      .at_least(1e-9);
  double fall = 0;
  const auto& after = rows.at("sff-block").after_block;
  for (size_t i = 1; i < after.size(); ++i) fall = std::max(fall, after[i - 1] - after[i]);
  claim("largest fall of the averaged vote from block to block")
      .paper("")
      .measured(fall)
      .in_percent()
      .at_most(0.005);
}

void costs(study::Lab& lab, const std::map<std::string, Row>& rows, double width) {
  const auto &sff = rows.at("sff-block"), &bp = rows.at("bp");
  lab.claim("peak saved bytes, sff-block over bp")
      .paper("often lighter")
      .measured(sff.memory.saved / bp.memory.saved)
      .at_most(0.5);
  lab.claim("allocator's peak, sff-block over bp")
      .paper("")
      .measured(sff.memory.peak / bp.memory.peak)
      .at_most(1);
  // Time of a step by the number of classes, interleaved in one process.
  auto table =
      lab.table("time and memory of a step by classes, ResNet18",
                {"classes", "sff-block / bp, time", "sff-block, saved MB", "bp, saved MB"});
  for (const int64_t classes : {10, 100, 1000}) {
    const int64_t count = lab.by_scale(8, 128, 128);
    const auto x = torch::randn({count, 1, 28, 28});
    const auto y = torch::randint(classes, {count}, torch::kLong);
    study::ImageTask task;
    task.classes = classes, task.train = {x, y};
    auto ours = learner(kMethods[2], task, width, 1), theirs = learner(kMethods[0], task, width, 1);
    const auto times = time_interleaved({[&] { ours.step(x, y); }, [&] { theirs.step(x, y); }},
                                        lab.by_scale(2, 7, 15), 1);
    const auto a = memory_of(learner(kMethods[2], task, width, 1), x, y),
               b = memory_of(learner(kMethods[0], task, width, 1), x, y);
    table.row(classes, times.ratio(0, 1), a.saved, b.saved);
    if (classes == 10)
      lab.claim("time of a step, sff-block over bp, 10 classes")
          .paper("similar")
          .measured(times.ratio(0, 1))
          .at_most(1.5);
    if (classes == 1000)
      lab.claim("time of a step, sff-block over bp, 1000 classes")
          .paper("1.5 to 3")
          .measured(times.ratio(0, 1))
          .at_most(3);
  }
}

/// Backpropagation's weights go on learning block by block on few pictures.
void transfer(study::Lab& lab, double width, int64_t epochs) {
  auto source = study::find_images(lab, "mnist", 3),
       target = study::find_images(lab, "fashion-mnist", 3);
  const auto ready = [](const study::ImageTask& t) {
    return t.standardised(t.train.x.mean().item<double>(), t.train.x.std().item<double>());
  };
  source = ready(source), target = ready(target);
  source.train = source.train.first(lab.by_scale(64, 4000, 8000)),
  target.train = target.train.first(lab.by_scale(64, 500, 500));
  std::vector<double> tuned, fresh;
  lab.over_seeds([&](uint64_t) {
    auto first = learner(kMethods[0], source, width, epochs);
    first.train(source.train.x, source.train.y);
    train::BlockLearning o;
    o.epochs = 2 * epochs, o.batch = 32;
    BlockLearner moved(first.blocks(), 10, o);
    moved.train(target.train.x, target.train.y);
    tuned.push_back(study::accuracy(moved.predict(target.test.x), target.test.y));
    vision::BlockNetOptions net;
    net.channels = 1, net.width = width;
    BlockLearner scratch(vision::block_net(net), 10, o);
    scratch.train(target.train.x, target.train.y);
    fresh.push_back(study::accuracy(scratch.predict(target.test.x), target.test.y));
    return 0.0;
  });
  auto table =
      lab.table(fmt::format("transfer to {} pictures of {}", target.train.size(), target.name),
                {"start", "accuracy of SFF"});
  table.row("weights of backpropagation on " + source.name, study::Figure(tuned));
  table.row("random weights", study::Figure(fresh));
}

void run(study::Lab& lab) {
  const double width = lab.by_scale(0.125, 0.125, 1.0);
  const auto digits =
      on(lab, "mnist", lab.by_scale<int64_t>(64, 1 << 20, 1 << 20), width, lab.by_scale(1, 6, 30));
  judge(lab, digits, "MNIST", -0.010);
  if (!lab.smoke()) {
    const auto clothes = on(lab, "fashion-mnist", 1 << 20, width, lab.by_scale(1, 12, 30));
    judge(lab, clothes, "Fashion", -0.015);
    lab.claim("Fashion: sff-block over bp, stretch")
        .paper("stronger when data are scarce")
        .measured(clothes.at("sff-block").averaged.mean() - clothes.at("bp").averaged.mean())
        .in_percent()
        .at_least(0);
    transfer(lab, width, lab.by_scale(1, 4, 20));
  }
  costs(lab, digits, width);
  lab.note(
      "Loss: margin form of log-sum-exp, m = 1; heads before the norm; Adam 1e-3, cosine, weight "
      "decay 5e-4; no augmentation.");
  lab.not_shown("CIFAR-10, CIFAR-100, Imagenette", "the sets are not here");
}

const auto registered = study::add({.slug = "scalable-ff"}, run);
}  // namespace
