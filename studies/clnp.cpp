#include "cajal/train/clnp.h"

#include "cajal/core/timing.h"
#include "cajal/study/images.h"
#include "cajal/study/study.h"

namespace {
using namespace cajal;
using train::Task;
using train::TaskNet;

/// What a way of learning leaves behind: [after task][of task] accuracy on test data.
struct Record {
  std::vector<std::vector<double>> seen;
  std::vector<train::CommitReport> commits;
  bool bit_equal = true;
  double extract_error = 0, extract_speed = 0, work_share = 1;

  double average() const {
    double sum = 0;
    for (const double a : seen.back()) sum += a / static_cast<double>(seen.back().size());
    return sum;
  }
  double forgetting() const {  // mean over the tasks before the last of best past - final
    double sum = 0;
    for (size_t s = 0; s + 1 < seen.size(); ++s) {
      double best = 0;
      for (size_t t = s; t < seen.size(); ++t) best = std::max(best, seen[t][s]);
      sum += best - seen.back()[s];
    }
    return seen.size() < 2 ? 0 : sum / static_cast<double>(seen.size() - 1);
  }
};

class Protocol {
 public:
  Protocol(study::Lab& lab, const study::ImageTask& images, std::vector<Task> tasks,
           int64_t classes)
      : tasks(std::move(tasks)) {
    net_options.channels = images.train.x.size(1), net_options.height = images.train.x.size(2);
    net_options.width = images.train.x.size(3), net_options.classes = classes;
    const int64_t units = lab.by_scale<int64_t>(40, 400, 2000);
    net_options.hidden = {units, units};
  }

  TaskNet net() const { return TaskNet(net_options); }
  std::vector<double> judge(const TaskNet& net, bool valid = false) const {
    std::vector<double> out;
    for (size_t s = 0; s < net->heads.size(); ++s)
      out.push_back(train::task_accuracy(net, s, valid ? tasks[s].valid : tasks[s].test));
    return out;
  }

  Record clnp(const train::ClnpOptions& options, bool extract = false) const {
    train::NeuralPruning learner(net(), options);
    Record r;
    std::vector<torch::Tensor> answers;  // of each task right after its commit
    const torch::AutoGradMode grad(true);
    for (const auto& task : tasks) {
      r.commits.push_back(learner.learn(task));
      const torch::NoGradGuard no_grad;
      for (size_t s = 0; s < answers.size(); ++s)
        r.bit_equal = r.bit_equal && torch::equal(answers[s], learner.forward(tasks[s].test.x, s));
      answers.push_back(learner.forward(task.test.x, answers.size()));
      r.seen.push_back(judge(learner.net));
    }
    if (!extract) return r;
    const torch::NoGradGuard no_grad;
    const auto small = learner.extract(0);
    const auto& x = tasks[0].test.x;
    r.extract_error =
        ((small->forward(x, 0) - answers[0]).abs().max() / answers[0].abs().max()).item<double>();
    r.extract_speed =
        time_interleaved({[&] { learner.forward(x, 0); }, [&] { small->forward(x, 0); }}, 9, 2)
            .ratio(0, 1);
    double all = 0, own = 0;
    for (size_t l = 0; l < small->layers.size(); ++l)
      all += static_cast<double>(learner.net->layers[l].weight.numel()),
          own += static_cast<double>(small->layers[l].weight.numel());
    r.work_share = own / all;
    return r;
  }

  /// One net for all tasks; `strength` of elastic weights or synaptic intelligence, 0 for neither.
  Record sequential(const train::TaskTraining& training, double ewc, double si, bool valid) const {
    auto net = this->net();
    train::QuadraticPenalty penalty(ewc > 0 ? ewc : 2 * si);
    Record r;
    for (size_t t = 0; t < tasks.size(); ++t) {
      net->add_head();
      train::PathIntegral path(net->shared());
      train::TaskRules rules;
      rules.penalty = &penalty;
      if (si > 0) rules.path = &path;
      train::train_task(net, t, tasks[t].train, training, rules);
      if (ewc > 0)
        penalty.add(train::fisher_diagonal(net, tasks[t].train.x, t, 200), net->shared());
      if (si > 0) penalty.add_and_move(path.importance(), net->shared());
      r.seen.push_back(judge(net, valid));
    }
    return r;
  }

  Record single(const train::TaskTraining& training) const {
    Record r;
    for (const auto& task : tasks) {
      auto net = this->net();
      net->add_head();
      train::train_task(net, 0, task.train, training);
      if (r.seen.empty()) r.seen.emplace_back();
      r.seen[0].push_back(train::task_accuracy(net, 0, task.test));
    }
    return r;
  }

  /// All tasks at once, a batch of one after a batch of the other, one epoch each in turn.
  Record joint(train::TaskTraining training) const {
    auto net = this->net();
    for (size_t t = 0; t < tasks.size(); ++t) net->add_head();
    const auto rounds = training.epochs;
    training.epochs = 1;
    for (int64_t e = 0; e < rounds; ++e)
      for (size_t t = 0; t < tasks.size(); ++t) train::train_task(net, t, tasks[t].train, training);
    return {{judge(net)}, {}};
  }

  std::vector<Task> tasks;
  train::TaskNetOptions net_options;
};

Task whole(const study::ImageTask& images, int64_t limit) {
  const auto of = [&](const study::Pictures& p) {
    const auto some = p.first(limit);
    return train::Samples{some.x.flatten(1), some.y};
  };
  return {of(images.train), of(images.valid), of(images.test)};
}

train::ClnpOptions options_of(const train::TaskTraining& training, double l1, double margin) {
  train::ClnpOptions o;
  o.training = training, o.weight_l1 = l1, o.margin = margin;
  return o;
}

double free_after(const Record& r, size_t layer) {
  return r.commits.back().layers[layer].free_share();
}

void permuted(study::Lab& lab) {
  const auto images = study::find_images(lab, "mnist", 2).standardised(0.1307, 0.3081);
  const Protocol p(lab, images,
                   train::permuted_tasks(whole(images, 1 << 20), lab.by_scale(2, 5, 10), 11), 10);
  train::TaskTraining training;
  training.epochs = lab.by_scale(2, 10, 30);

  // Strengths are chosen on validation data of one seed.
  const auto choose = [&](std::vector<double> values,
                          const std::function<double(double)>& quality) {
    if (lab.smoke()) return values[0];
    double best = values[0], most = -1;
    for (const double v : values) {
      seed_everything(lab.seeds()[0]);
      const double q = quality(v);
      if (q > most) most = q, best = v;
    }
    return best;
  };
  const double ewc = choose({10, 100, 1000},
                            [&](double v) { return p.sequential(training, v, 0, true).average(); });
  const double si = choose({0.01, 0.1, 1},
                           [&](double v) { return p.sequential(training, 0, v, true).average(); });
  const double l1 = choose({1e-5, 3e-5, 1e-4}, [&](double v) {
    const auto r = p.clnp(options_of(training, v, 0.002));
    double sum = 0;
    for (const auto& c : r.commits) sum += c.pruned_accuracy;  // never changes afterwards
    return sum / static_cast<double>(r.commits.size()) - (free_after(r, 1) < 0.2);
  });
  lab.note(
      fmt::format("chosen on validation data: EWC λ = {}, SI c = {}, CLNP α = {}", ewc, si, l1));

  std::map<std::string, std::vector<Record>> all;
  const auto each = [&](const char* name, const std::function<Record()>& learn) {
    lab.over_seeds([&](uint64_t) {
      all[name].push_back(learn());
      return 0.0;
    });
  };
  each("clnp", [&] { return p.clnp(options_of(training, l1, 0.002), true); });
  each("fine-tuning", [&] { return p.sequential(training, 0, 0, false); });
  each("EWC", [&] { return p.sequential(training, ewc, 0, false); });
  each("SI", [&] { return p.sequential(training, 0, si, false); });
  each("single task nets", [&] { return p.single(training); });
  each("joint", [&] { return p.joint(training); });

  const auto figure = [&](const char* name, const std::function<double(const Record&)>& of) {
    std::vector<double> values;
    for (const auto& r : all.at(name)) values.push_back(of(r));
    return study::Figure(values);
  };
  std::vector<std::string> columns{"method"};
  for (size_t t = 0; t < p.tasks.size(); ++t) columns.push_back(fmt::format("task {}", t + 1));
  columns.insert(columns.end(), {"average", "forgetting"});
  auto table = lab.table("accuracy after the last task, permuted " + images.name, columns);
  for (const auto& [name, records] : all) {
    std::vector<study::Cell> row{name};
    for (size_t t = 0; t < p.tasks.size(); ++t)
      row.emplace_back(figure(name.c_str(), [t](const Record& r) { return r.seen.back()[t]; }));
    row.emplace_back(figure(name.c_str(), &Record::average)),
        row.emplace_back(figure(name.c_str(), &Record::forgetting));
    table.add(std::move(row));
  }
  auto capacity = lab.table("capacity, permuted, first seed",
                            {"task", "layer", "active before", "taken", "free", "reused", "frozen",
                             "zeroed", "free parameters"});
  bool falls = true;
  double worst_drop = 0;
  for (const auto& r : all.at("clnp")) {
    for (size_t t = 0; t < r.commits.size(); ++t) {
      worst_drop = std::max(worst_drop, r.commits[t].accuracy - r.commits[t].pruned_accuracy);
      for (size_t l = 0; l < 2; ++l) {
        const auto& c = r.commits[t].layers[l];
        if (t > 0) falls = falls && c.free_share() <= r.commits[t - 1].layers[l].free_share();
        if (&r == &all.at("clnp")[0])
          capacity.row(t + 1, l + 1, c.active_before, c.taken, c.free_share(), c.reused_share(),
                       c.frozen, c.zeroed, c.free);
      }
    }
  }
  const auto average = [&](const char* name) { return figure(name, &Record::average).mean(); };
  bool equal = true;
  for (const auto& r : all.at("clnp")) equal = equal && r.bit_equal;
  lab.claim("old logits are bit-equal after every later task")
      .paper("zero deterioration")
      .holds(equal);
  lab.claim("CLNP average")
      .paper("")
      .measured(figure("clnp", &Record::average))
      .in_percent()
      .at_least(0.92);
  lab.claim("CLNP average over single task nets")
      .paper("")
      .measured(average("clnp") - average("single task nets"))
      .in_percent()
      .at_least(-0.015);
  lab.claim("what fine-tuning loses on task 1")
      .paper("")
      .measured(
          figure("fine-tuning", [](const Record& r) { return r.seen[0][0] - r.seen.back()[0]; }))
      .in_percent()
      .at_least(0.15);
  lab.claim("CLNP average over the best EWC")
      .paper("significantly better")
      .measured(average("clnp") - average("EWC"))
      .in_percent()
      .at_least(0);
  lab.claim("CLNP average over the best SI")
      .paper("significantly better")
      .measured(average("clnp") - average("SI"))
      .in_percent()
      .at_least(0);
  lab.claim("free units of layer 2 after the last task")
      .paper("")
      .measured(figure("clnp", [](const Record& r) { return free_after(r, 1); }))
      .in_percent()
      .at_least(0.20);
  lab.claim("free units never grow").paper("").holds(falls);
  lab.claim("worst drop at a commit, validation data")
      .paper("one margin")
      .measured(worst_drop)
      .in_percent()
      .at_most(0.002 + 0.0005);
  lab.claim("extracted sub-network of task 1, largest difference over largest logit")
      .paper("")
      .measured(figure("clnp", [](const Record& r) { return r.extract_error; }))
      .at_most(1e-6);
  lab.claim("speed of the sub-network over the whole net")
      .paper("")
      .measured(figure("clnp", [](const Record& r) { return r.extract_speed; }))
      .at_least(1);
  lab.note(fmt::format("the sub-network of task 1 does {:.3f} of the work of the whole net",
                       all.at("clnp")[0].work_share));

  auto curve = lab.table("graceful forgetting, first seed",
                         {"margin, points", "average", "free of layer 1", "free of layer 2"});
  plot::Series quality{"average accuracy", {}, {}}, room{"free units of layer 2", {}, {}};
  double at_zero = 0, at_margin = 0;
  for (const double m :
       lab.smoke() ? std::vector<double>{0, 0.2} : std::vector<double>{0, 0.1, 0.2, 0.5, 1, 2}) {
    seed_everything(lab.seeds()[0]);
    const auto r = p.clnp(options_of(training, l1, m / 100));
    curve.row(m, r.average(), free_after(r, 0), free_after(r, 1));
    quality.x.push_back(m), quality.y.push_back(r.average()), room.x.push_back(m),
        room.y.push_back(free_after(r, 1));
    if (m == 0) at_zero = free_after(r, 0) + free_after(r, 1);
    if (m == 0.2) at_margin = free_after(r, 0) + free_after(r, 1);
  }
  lab.plot(plot::Lines{.title = "Graceful forgetting",
                       .x = {"margin, points"},
                       .y = {"share"},
                       .series = {quality, room}});
  lab.claim("free units with a margin of 0.2 points over those with 0")
      .paper("")
      .measured(at_margin / std::max(at_zero, 1e-9))
      .at_least(1.5);
}

void split(study::Lab& lab) {
  const auto images = study::find_images(lab, "fashion-mnist", 2).standardised(0.2860, 0.3530);
  const Protocol p(lab, images, train::split_tasks(whole(images, 1 << 20), 10, 2), 2);
  train::TaskTraining training;
  training.epochs = lab.by_scale(2, 20, 30);
  auto table = lab.table("split " + images.name,
                         {"task", "accuracy", "free 1", "free 2", "reused 1", "reused 2"});
  std::vector<Record> records;
  lab.over_seeds([&](uint64_t) {
    records.push_back(p.clnp(options_of(training, 1e-4, 0.002)));
    return 0.0;
  });
  std::vector<double> first, second;
  for (const auto& r : records) {
    double a = 0, b = 0;
    for (size_t t = 1; t < r.commits.size(); ++t)
      a += r.commits[t].layers[0].reused_share(), b += r.commits[t].layers[1].reused_share();
    first.push_back(a / static_cast<double>(r.commits.size() - 1)),
        second.push_back(b / static_cast<double>(r.commits.size() - 1));
  }
  for (size_t t = 0; t < p.tasks.size(); ++t) {
    const auto& c = records[0].commits[t].layers;
    table.row(t + 1, records[0].seen.back()[t], c[0].free_share(), c[1].free_share(),
              c[0].reused_share(), c[1].reused_share());
  }
  std::vector<double> gap;
  for (size_t i = 0; i < first.size(); ++i) gap.push_back(first[i] - second[i]);
  lab.claim("split Fashion: reused share of layer 1 over that of layer 2, tasks 2 to 5")
      .paper("early layers are reused more")
      .measured(study::Figure(gap))
      .at_least(1e-9);
}

void run(study::Lab& lab) {
  permuted(lab);
  split(lab);
  lab.not_shown("split CIFAR-10/100", "the sets are not here");
}

const auto registered = study::add({.slug = "clnp"}, run);
}  // namespace
