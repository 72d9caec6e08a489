#include "cajal/core/timing.h"
#include "cajal/study/images.h"
#include "cajal/study/study.h"
#include "cajal/train/forward_forward.h"
#include "cajal/train/local_blocks.h"

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
const std::vector<Method> kMethods = {
    {"bp", BlockRule::backprop, Partition::blocks},
    {"bp-deepsup", BlockRule::deep_supervision, Partition::blocks},
    {"sff-block", BlockRule::sff, Partition::blocks},
    {"sff-layer", BlockRule::sff, Partition::layers},
    {"greedy", BlockRule::greedy, Partition::blocks}};
const std::vector<Method> kTwo = {kMethods[0], kMethods[2]};

struct Setting {
  vision::Net net = vision::Net::resnet18;
  double width = 1;
  int64_t epochs = 6;
};

BlockLearner learner(const Method& m, const study::ImageTask& task, const Setting& at) {
  vision::BlockNetOptions o;
  o.net = at.net, o.channels = task.train.x.size(1), o.width = at.width, o.partition = m.partition;
  train::BlockLearning learning;
  learning.rule = m.rule, learning.epochs = at.epochs;
  return BlockLearner(vision::block_net(o), task.classes, learning);
}

struct Row {
  study::Figure averaged, last, early, blocks, seconds, predict;
  std::vector<study::Figure> after_block;
  double saved = 0, peak = 0;  // bytes of a step
  double head_share = 0;
};

/// Peak bytes that autograd saved and the allocator gave in a step of 128 pictures, and the share
/// of all weights that heads hold.
std::vector<double> costs_of(const Method& m, const study::ImageTask& task, const Setting& at) {
  auto net = learner(m, task, at);
  double all = 0;
  for (const auto& p : vision::parameters(net.blocks())) all += static_cast<double>(p.numel());
  const double heads = static_cast<double>(net.head_weights());
  const auto batch = task.train.first(128);
  const auto memory = train::step_memory(std::move(net), batch.x, batch.y);
  return {memory.saved, memory.peak, heads / all};
}

Row measure(study::Lab& lab, const Method& m, const study::ImageTask& task, const Setting& at) {
  Row row;
  const auto name = fmt::format("{}, {}, {}", to_name(at.net), task.name, m.name);
  const auto f = lab.over_seeds(name, [&](uint64_t) {
    auto net = learner(m, task, at);
    const Stopwatch training;
    net.train(task.train.x, task.train.y);
    const double seconds = training.seconds() / static_cast<double>(at.epochs);
    const auto exit = net.best_prefix(task.valid.x, task.valid.y);
    const Stopwatch predicting;
    const auto by_prefix = net.accuracy_by_prefix(task.test.x, task.test.y);
    std::vector<double> out{
        by_prefix.back(),
        study::accuracy(net.predict(task.test.x, train::BlockVote::last), task.test.y),
        by_prefix[std::min(exit, by_prefix.size()) - 1],
        static_cast<double>(exit),
        seconds,
        1000 * predicting.seconds() / static_cast<double>(task.test.size())};
    out.insert(out.end(), by_prefix.begin(), by_prefix.end());
    return out;
  });
  row.averaged = f[0], row.last = f[1], row.early = f[2], row.blocks = f[3], row.seconds = f[4];
  row.predict = f[5], row.after_block.assign(f.begin() + 6, f.end());
  const auto costs = lab.part(name + ", bytes", [&] { return costs_of(m, task, at); });
  row.saved = costs[0], row.peak = costs[1], row.head_share = costs[2];
  return row;
}

/// Forward-forward with the label written into the picture, on dense layers: what SFF improves on.
study::Figure overlaid(study::Lab& lab, const study::ImageTask& task) {
  return lab.over_seeds("ff, dense layers, " + task.name, [&](uint64_t) {
    train::ForwardForwardNetOptions o;
    o.inputs = task.train.rows().size(1), o.classes = task.classes;
    o.overlay_value = task.train.x.max().item<double>();
    train::ForwardForwardNet net(o);
    train::train_forward_forward(net, task.train.rows(), task.train.y,
                                 {.epochs = lab.by_scale(1, 25, 200), .optimizer = {}});
    return study::accuracy(train::predict_labels(net, task.test.rows()), task.test.y);
  });
}

study::ImageTask standardised(const study::ImageTask& task) {
  return task.standardised(task.train.x.mean().item<double>(), task.train.x.std().item<double>());
}

std::map<std::string, Row> on(study::Lab& lab, const study::ImageTask& task,
                              const std::vector<Method>& methods, const Setting& at,
                              bool with_dense = false) {
  auto table = lab.table(
      fmt::format("{} x {}, {}, {} epochs", to_name(at.net), at.width, task.name, at.epochs),
      {"method", "accuracy, heads averaged", "last head", "early exit", "blocks of the exit",
       "s an epoch", "ms a picture", "peak saved MB", "allocator's peak MB", "head weights, %"});
  auto blocks =
      lab.table(fmt::format("accuracy after each block, {}, {}", to_name(at.net), task.name),
                {"method", "after 1, 2, ... heads"});
  std::map<std::string, Row> out;
  for (const auto& m : methods) {
    const auto& row = out[m.name] = measure(lab, m, task, at);
    table.row(m.name, row.averaged, row.last, row.early, row.blocks, row.seconds, row.predict,
              row.saved / 1e6, row.peak / 1e6, 100 * row.head_share);
    std::string steps;
    for (const auto& a : row.after_block) steps += fmt::format("{:.3f} ", a.mean());
    blocks.row(m.name, steps);
  }
  if (with_dense)
    table.row("ff, label overlay, 3 dense layers", overlaid(lab, task), "", "", "", "", "", "", "",
              "");
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
  for (size_t i = 1; i < after.size(); ++i)
    fall = std::max(fall, after[i - 1].mean() - after[i].mean());
  claim("largest fall of the averaged vote from block to block")
      .paper("none given")
      .measured(fall)
      .in_percent()
      .at_most(0.005);
}

void costs(study::Lab& lab, const std::map<std::string, Row>& rows, const Setting& at) {
  const auto &sff = rows.at("sff-block"), &bp = rows.at("bp");
  lab.claim("peak saved bytes, sff-block over bp")
      .paper("often lighter")
      .measured(sff.saved / bp.saved)
      .at_most(0.5);
  lab.claim("allocator's peak, sff-block over bp")
      .paper("often lighter")
      .measured(sff.peak / bp.peak)
      .at_most(1);
  // Time of a step by the number of classes, interleaved in one process.
  auto table =
      lab.table("time and memory of a step by classes, ResNet18",
                {"classes", "sff-block / bp, time", "sff-block, saved MB", "bp, saved MB"});
  for (const int64_t classes : {10, 100, 1000}) {
    const auto cost = lab.part(fmt::format("a step of {} classes", classes), [&] {
      const int64_t count = lab.by_scale(8, 128, 128);
      study::ImageTask task;
      task.classes = classes;
      task.train = {torch::randn({count, 1, 28, 28}),
                    torch::randint(classes, {count}, torch::kLong)};
      const auto& [x, y] = task.train;
      auto ours = learner(kMethods[2], task, at), theirs = learner(kMethods[0], task, at);
      const auto times = time_interleaved({[&] { ours.step(x, y); }, [&] { theirs.step(x, y); }},
                                          lab.by_scale(2, 7, 15), 1);
      const auto a = train::step_memory(learner(kMethods[2], task, at), x, y),
                 b = train::step_memory(learner(kMethods[0], task, at), x, y);
      return std::vector<double>{times.ratio(0, 1), a.saved / 1e6, b.saved / 1e6};
    });
    table.row(classes, cost[0], cost[1], cost[2]);
    if (classes == 10)
      lab.claim("time of a step, sff-block over bp, 10 classes")
          .paper("similar")
          .measured(cost[0])
          .at_most(1.5);
    if (classes == 1000)
      lab.claim("time of a step, sff-block over bp, 1000 classes")
          .paper("1.5 to 3")
          .measured(cost[0])
          .at_most(3);
  }
}

/// Backpropagation's weights go on learning block by block on few pictures: all blocks, the last
/// three, or all from random weights.
void transfer(study::Lab& lab, Setting at) {
  auto source = standardised(study::find_images(lab, "mnist", 3)),
       target = standardised(study::find_images(lab, "fashion-mnist", 3));
  source.train = source.train.first(lab.by_scale(64, 2000, 8000));
  target.train = target.train.first(lab.by_scale(64, 500, 500));
  enum class Start { all, last_three, random };
  const auto from = [&](const char* name, Start start) {
    return lab.over_seeds(fmt::format("transfer, {}", name), [&](uint64_t) {
      train::BlockLearning o;
      o.epochs = 2 * at.epochs, o.batch = 32, o.trained_blocks = start == Start::last_three ? 3 : 0;
      auto first = learner(kMethods[0], source, at);
      if (start != Start::random) first.train(source.train.x, source.train.y);
      BlockLearner moved(first.blocks(), 10, o);
      moved.train(target.train.x, target.train.y);
      return study::accuracy(moved.predict(target.test.x), target.test.y);
    });
  };
  auto table =
      lab.table(fmt::format("transfer to {} pictures of {}", target.train.size(), target.name),
                {"start", "accuracy of SFF"});
  table.row("weights of backpropagation on " + source.name, from("all blocks", Start::all));
  table.row("the same, the last three blocks learn", from("last three", Start::last_three));
  table.row("random weights", from("random", Start::random));
}

void run(study::Lab& lab) {
  Setting at{.width = lab.by_scale(0.125, 0.125, 1.0), .epochs = lab.by_scale(1, 6, 30)};
  auto digits_task = standardised(study::find_images(lab, "mnist", 3));
  digits_task.train = digits_task.train.first(lab.by_scale(64, 3600, 60'000));
  const auto digits = on(lab, digits_task, kMethods, at);
  judge(lab, digits, "MNIST", -0.010);
  if (!lab.smoke()) {
    const auto task = standardised(study::find_images(lab, "fashion-mnist", 3));
    const auto clothes = on(lab, task, kMethods, at, true);
    judge(lab, clothes, "Fashion", -0.015);
    lab.claim("Fashion: sff-block over bp, stretch")
        .paper("stronger when data are scarce")
        .measured(clothes.at("sff-block").averaged.mean() - clothes.at("bp").averaged.mean())
        .in_percent()
        .at_least(0);
    auto mobile = at;
    mobile.net = vision::Net::mobilenet_v3_small, mobile.width = lab.by_scale(0.125, 0.125, 1.0);
    on(lab, task, kTwo, mobile);
    transfer(lab, {.width = at.width, .epochs = lab.by_scale(1, 4, 20)});
  }
  if (const auto textures = study::texture_task(lab, lab.by_scale(60, 600, 6000), 5))
    on(lab, standardised(*textures), kTwo, at);
  if (lab.scale() == study::Scale::full)
    on(lab, standardised(study::shapes_task(20'000, 9)), kMethods, at);
  costs(lab, digits, at);
  lab.note(
      "Loss: margin form of log-sum-exp, m = 1; heads before the norm; Adam 1e-3, cosine, weight "
      "decay 5e-4; no augmentation.");
  lab.not_shown(
      "losses that reach no other block, one block as ordinary training, equal first blocks, "
      "gradients of goodness",
      "no matter of scale: tests/train/local_blocks_test.cpp holds them at every build");
  lab.not_shown("CIFAR-10, CIFAR-100, Imagenette", "the sets are not here");
}

const auto registered = study::add({.slug = "scalable-ff"}, run);
}  // namespace
