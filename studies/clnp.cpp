#include "cajal/core/timing.h"
#include "cajal/study/choice.h"
#include "cajal/study/images.h"
#include "cajal/train/continual_protocol.h"

namespace {
using namespace cajal;
using train::Consolidation;
using train::Judge;
using train::PruningRecord;
using train::StreamRecord;
using train::StreamTask;

constexpr double kMargin = 0.002;  // of accuracy

train::TaskNetOptions net_options(const study::Lab& lab, const study::ImageTask& images,
                                  int64_t classes) {
  const auto& x = images.train.x;
  const int64_t units = lab.by_scale<int64_t>(40, 400, 2000);
  return {x.size(1), x.size(2), x.size(3), {}, {units, units}, classes};
}

StreamTask whole(const study::ImageTask& images) {
  const auto of = [](const study::Pictures& p) { return train::Samples{p.rows(), p.y}; };
  return {of(images.train), of(images.valid), of(images.test)};
}

train::PackNetOptions packing(const train::TaskTraining& training, double prune) {
  return {training, prune, std::max<int64_t>(1, training.epochs / 2)};
}

/// What CLNP pays for: the sizes of weights and of activations.
struct Penalties {
  double weights = 3e-5, activations = 0;
};

train::ClnpOptions pruning(const train::TaskTraining& training, const Penalties& l1,
                           double margin) {
  return {.training = training,
          .weight_l1 = l1.weights,
          .activation_l1 = l1.activations,
          .margin = margin};
}

/// What CLNP did with one seed, and the first task's sub-network beside the whole net: the largest
/// difference over the largest logit, and how many times as fast it is. Nothing where there is
/// none.
struct Pruned {
  PruningRecord record;
  std::vector<double> small;
};
CAJAL_OPTIONS(Pruned, record, small)

template <class Records, class Of>
study::Figure figure(const Records& records, const Of& of) {
  std::vector<double> values;
  for (const auto& r : records) values.push_back(std::invoke(of, r));
  return study::Figure(values);
}

template <class Make>
auto each_seed(study::Lab& lab, const std::string& name, const Make& make) {
  std::vector<std::invoke_result_t<Make>> out;
  for (const auto seed : lab.seeds()) out.push_back(lab.part(name, seed, make));
  return out;
}

/// The permuted stream and everything that is learnt on it.
class Permuted {
 public:
  explicit Permuted(study::Lab& lab)
      : lab_(lab), images_(study::find_images(lab, "mnist", 2).standardised(0.1307, 0.3081)) {
    tasks_ = train::permuted_tasks(whole(images_), lab.by_scale(2, 5, 10), 11);
    net_ = net_options(lab, images_, 10);
    training_.epochs = lab.by_scale(2, 10, 10);
  }

  void run() {
    choose();
    compare();
    judge_pruning();
    sub_network();
    margins();
  }

 private:
  StreamRecord in_turn(Consolidation kind, double strength, Judge judge) const {
    return train::learn_in_turn(net_, tasks_, training_, kind, strength, judge);
  }

  void choose() {
    study::Choices choices(lab_);
    ewc_ = choices.best("λ of EWC", {10, 100, 1000}, [&](double v) {
      return in_turn(Consolidation::elastic, v, Judge::valid).average();
    });
    si_ = choices.best("c of SI", {0.01, 0.1, 1}, [&](double v) {
      return in_turn(Consolidation::intelligence, v, Judge::valid).average();
    });
    prune_ = choices.best("share that PackNet prunes", {0.5, 0.65, 0.8}, [&](double v) {
      return train::learn_by_packing(net_, tasks_, packing(training_, v), Judge::valid).average();
    });
    // Permuted digits share no first layer: without a price on activity five tasks do not fit.
    // Every seed has to fit.
    const auto try_pruning = [&](const Penalties& l1) {
      double sum = 0, commits = 0;  // validation accuracy at the commit, which never changes later
      for (const auto seed : lab_.seeds()) {
        seed_everything(seed);
        const auto r = train::learn_by_pruning(net_, tasks_, pruning(training_, l1, kMargin));
        for (const auto& c : r.commits) sum += c.pruned_accuracy, ++commits;
      }
      return sum / commits;
    };
    l1_.activations = choices.best("CLNP's price of activity", {0, 1, 2, 3, 5}, [&](double v) {
      return try_pruning({l1_.weights, v});
    });
    l1_.weights = choices.best("α of CLNP", {1e-5, 3e-5, 1e-4}, [&](double v) {
      return try_pruning({v, l1_.activations});
    });
  }

  Pruned prune(double margin) const {
    auto record = train::learn_by_pruning(net_, tasks_, pruning(training_, l1_, margin));
    if (record.first.is_empty()) return {record, {}};
    const torch::NoGradGuard no_grad;
    auto small = record.first, whole = record.whole;
    const auto& x = tasks_[0].test.x;
    const auto answer = whole->forward(x, 0);
    const auto error = (small->forward(x, 0) - answer).abs().max() / answer.abs().max();
    const auto times =
        time_interleaved({[&] { whole->forward(x, 0); }, [&] { small->forward(x, 0); }}, 9, 2);
    return {record, {error.item<double>(), times.ratio(0, 1)}};
  }

  Pruned prune_if_it_fits(double margin) const {
    try {
      return prune(margin);
    } catch (const Error&) {
      return {};
    }
  }

  void compare() {
    std::map<std::string, std::vector<StreamRecord>> all;
    pruned_ = each_seed(lab_, "CLNP", [&] { return prune(kMargin); });
    for (const auto& p : pruned_) all["CLNP"].push_back(p.record);
    const auto each = [&](const std::string& name, const std::function<StreamRecord()>& learn) {
      all[name] = each_seed(lab_, name, learn);
    };
    each("fine-tuning", [&] { return in_turn(Consolidation::none, 0, Judge::test); });
    each("EWC", [&] { return in_turn(Consolidation::elastic, ewc_, Judge::test); });
    each("SI", [&] { return in_turn(Consolidation::intelligence, si_, Judge::test); });
    each("PackNet", [&] {
      return train::learn_by_packing(net_, tasks_, packing(training_, prune_), Judge::test);
    });
    each("single task nets", [&] { return train::learn_singly(net_, tasks_, training_); });
    each("joint", [&] { return train::learn_jointly(net_, tasks_, training_); });
    std::vector<std::string> columns{"method"};
    for (size_t t = 0; t < tasks_.size(); ++t) columns.push_back(fmt::format("task {}", t + 1));
    columns.insert(columns.end(), {"average", "forgetting"});
    auto table = lab_.table("accuracy after the last task, permuted " + images_.name, columns);
    for (const auto& [name, records] : all) {
      std::vector<study::Cell> row{name};
      for (size_t t = 0; t < tasks_.size(); ++t)
        row.emplace_back(figure(records, [t](const StreamRecord& r) { return r.seen.back()[t]; }));
      row.emplace_back(figure(records, &StreamRecord::average));
      row.emplace_back(figure(records, &StreamRecord::forgetting));
      table.add(std::move(row));
    }
    const auto average = [&](const char* name) {
      return figure(all.at(name), &StreamRecord::average).mean();
    };
    const double ours = average("CLNP");
    const auto lost = [](const StreamRecord& r) { return r.seen[0][0] - r.seen.back()[0]; };
    const auto over = [&](const char* what, const char* paper, double measured, double bar) {
      lab_.claim(what).paper(paper).measured(measured).in_percent().at_least(bar);
    };
    over("CLNP average", "figures unsure", ours, 0.92);
    over("CLNP average over single task nets", "close to single task nets",
         ours - average("single task nets"), -0.015);
    over("what fine-tuning loses on task 1", "catastrophic forgetting",
         figure(all.at("fine-tuning"), lost).mean(), 0.15);
    over("CLNP average over the best EWC", "significantly better", ours - average("EWC"), 0);
    over("CLNP average over the best SI", "significantly better", ours - average("SI"), 0);
    over("CLNP average over the better of EWC and SI, stretch", "significantly better",
         ours - std::max(average("EWC"), average("SI")), 0.01);
    claim("accuracy of old tasks that CLNP loses", "exactly 0",
          figure(all.at("CLNP"), &StreamRecord::forgetting))
        .in_percent()
        .at_most(0);
  }

  void judge_pruning() {
    auto capacity = lab_.table("capacity, permuted, first seed",
                               {"task", "layer", "active before", "taken", "free", "reused",
                                "frozen", "zeroed", "free parameters"});
    for (size_t t = 0; t < tasks_.size(); ++t)
      for (size_t l = 0; l < net_.hidden.size(); ++l) {
        const auto& c = pruned_[0].record.commits[t].layers[l];
        capacity.row(t + 1, l + 1, c.active_before, c.taken, c.free_share(), c.reused_share(),
                     c.frozen, c.zeroed, c.free);
      }
    bool equal = true, falls = true;
    study::Figure room, reused[2];
    double drop = 0;
    for (const auto& [r, small] : pruned_) {
      equal = equal && r.bit_equal, falls = falls && r.free_units_never_grow();
      drop = std::max(drop, r.worst_drop()), room.values.push_back(r.free_share(1));
      for (size_t l : {0, 1}) reused[l].values.push_back(r.mean_reused(l));
    }
    lab_.note(fmt::format("permuted: later tasks reuse {} of the units of layer 1, {} of layer 2",
                          study::text(reused[0], true), study::text(reused[1], true)));
    lab_.claim("old logits are bit-equal after every later task").paper("exactly 0").holds(equal);
    claim("free units of layer 2 at the end", "capacity is left", room).in_percent().at_least(0.20);
    lab_.claim("free units never grow").paper("fixed capacity").holds(falls);
    claim("worst drop at a commit, validation data", "one margin", drop)
        .in_percent()
        .at_most(kMargin + 0.0005);
  }

  void sub_network() {
    std::vector<double> difference, speed;
    for (const auto& p : pruned_)
      if (!p.small.empty()) difference.push_back(p.small[0]), speed.push_back(p.small[1]);
    if (difference.empty()) return lab_.note("task 1 left a layer without units");
    claim("sub-network of task 1, largest difference over the largest logit", "none given",
          *std::max_element(difference.begin(), difference.end()))
        .at_most(1e-6);
    claim("speed of the sub-network over the whole net", "none given", speed).at_least(1);
  }

  void margins() {
    auto table = lab_.table("graceful forgetting, first seed",
                            {"margin, points", "average", "free of layer 1", "free of layer 2"});
    plot::Series quality{"average accuracy", {}, {}}, room{"free units of layer 2", {}, {}};
    std::map<double, double> units;
    for (const double m :
         lab_.smoke() ? std::vector<double>{0, 0.2} : std::vector<double>{0, 0.1, 0.2, 0.5, 1, 2}) {
      const auto r = m / 100 == kMargin ? pruned_[0].record
                                        : lab_.part(fmt::format("CLNP, margin {}", m),
                                                    [&] { return prune_if_it_fits(m / 100); })
                                              .record;
      if (r.commits.empty()) {
        table.row(m, "full before the last task", "", "");
        continue;
      }
      table.row(m, r.average(), r.free_share(0), r.free_share(1));
      quality.x.push_back(m), quality.y.push_back(r.average());
      room.x.push_back(m), room.y.push_back(r.free_share(1));
      units[m] = r.free_share(0) + r.free_share(1);
    }
    lab_.plot(plot::Lines{.title = "Graceful forgetting",
                          .x = {"margin, points"},
                          .y = {"share"},
                          .series = {quality, room}});
    const char* const what = "free units with a margin of 0.2 points over those with 0";
    if (units.count(0))
      claim(what, "a margin buys capacity", units[0.2] / std::max(units[0], 1e-9)).at_least(1.5);
    else
      lab_.not_shown(what, "with no margin the tasks do not fit");
  }

  study::ClaimWriter claim(const char* text, const char* paper, const study::Figure& measured) {
    return lab_.claim(text).paper(paper).measured(measured);
  }

  study::Lab& lab_;
  study::ImageTask images_;
  std::vector<StreamTask> tasks_;
  train::TaskNetOptions net_;
  train::TaskTraining training_;
  double ewc_ = 0, si_ = 0, prune_ = 0;
  Penalties l1_;
  std::vector<Pruned> pruned_;  // a seed each
};

/// Two classes a task; the mean over the seeds of what later tasks reuse of layer 1 less of
/// layer 2.
study::Figure split(study::Lab& lab, const study::ImageTask& images) {
  const auto tasks = train::split_tasks(whole(images), 10, 2);
  train::TaskTraining training;
  training.epochs = lab.by_scale(2, 20, 30);
  const auto records = each_seed(lab, "split " + images.name, [&] {
    return train::learn_by_pruning(net_options(lab, images, 2), tasks,
                                   pruning(training, {.weights = 1e-4}, kMargin));
  });
  auto table = lab.table("split " + images.name + ", first seed",
                         {"task", "accuracy", "free 1", "free 2", "reused 1", "reused 2"});
  for (size_t t = 0; t < tasks.size(); ++t) {
    const auto& c = records[0].commits[t].layers;
    table.row(t + 1, records[0].seen.back()[t], c[0].free_share(), c[1].free_share(),
              c[0].reused_share(), c[1].reused_share());
  }
  return figure(records,
                [](const PruningRecord& r) { return r.mean_reused(0) - r.mean_reused(1); });
}

void run(study::Lab& lab) {
  Permuted(lab).run();
  split(lab, study::find_images(lab, "mnist", 2).standardised(0.1307, 0.3081));
  const auto fashion = study::find_images(lab, "fashion-mnist", 2).standardised(0.2860, 0.3530);
  lab.claim("split Fashion: reused share of layer 1 over that of layer 2, tasks 2 to 5")
      .paper("early layers are reused more")
      .measured(split(lab, fashion))
      .at_least(1e-9);
  lab.not_shown("split CIFAR-10/100", "the sets are not here");
}

const auto registered = study::add({.slug = "clnp"}, run);
}  // namespace
