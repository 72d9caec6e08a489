#include "cajal/atlas/ensembles.h"
#include "cajal/study/choice.h"
#include "cajal/study/images.h"
#include "cajal/study/study.h"
#include "cajal/train/forward_forward_baseline.h"

namespace {
using namespace cajal;
using study::ImageTask;
using train::ForwardForwardNet;

constexpr double kMean = 0.1307, kDeviation = 0.3081;
constexpr int64_t kLayers = 3;
constexpr const char* kFashion[] = {"T-shirt", "trouser", "pullover", "dress", "coat",
                                    "sandal",  "shirt",   "sneaker",  "bag",   "boot"};

/// What a trained network shows on test pictures that it gets right.
struct Seen {
  double accuracy = 0;
  std::vector<torch::Tensor> h;  // [layers][right ones, width]
  torch::Tensor labels;          // [right ones]
  std::vector<torch::Tensor> weights;
};

train::ForwardForwardNetOptions net_options(const ImageTask& task) {
  train::ForwardForwardNetOptions o;
  o.inputs = task.train.rows().size(1);
  o.layers = kLayers;
  o.overlay_value = task.train.x.max().item<double>();
  return o;
}

train::ForwardForwardTraining training(int64_t epochs, double rate) {
  train::ForwardForwardTraining t;
  t.epochs = epochs;
  t.optimizer.learning_rate = rate;
  return t;
}

/// Of every net that learns by goodness.
train::ForwardForwardTraining forward_forward(int64_t epochs) { return training(epochs, 1e-3); }

Seen look(const study::Pictures& at, const torch::Tensor& predicted,
          const std::function<std::vector<torch::Tensor>(const study::Pictures&)>& answers,
          const std::vector<ForwardForwardLayer>& layers) {
  const torch::NoGradGuard no_grad;
  const auto right = at.of(predicted.eq(at.y).nonzero().flatten());
  Seen seen{study::accuracy(predicted, at.y), answers(right), right.y, {}};
  for (const auto& layer : layers) seen.weights.push_back(layer->weight.detach());
  return seen;
}

Seen look(const ForwardForwardNet& net, const study::Pictures& at) {
  const auto answers = [&](const study::Pictures& right) {
    return net->forward(net->labelled(right.rows(), right.y));
  };
  return look(at, train::predict_labels(net, at.rows()), answers, net->layers);
}

Seen look(const train::DenseClassifier& net, const study::Pictures& at) {
  const torch::NoGradGuard no_grad;
  const auto answers = [&](const study::Pictures& right) { return net->hidden(right.rows()); };
  return look(at, net->forward(at.rows()).argmax(1), answers, net->layers);
}

Seen run_method(const study::Lab& lab, const std::string& method, const ImageTask& task,
                int64_t epochs) {
  const auto options = net_options(task);
  const auto x = task.train.rows();
  const auto& y = task.train.y;
  if (method.starts_with("bp") && method != "bp-ff") {
    train::DenseClassifier net(options);
    const double penalty = method == "bp-l1" ? 0.1 : 0;
    train::train_classifier(net, x, y, training(lab.by_scale(3, 80, 80), 1e-4), penalty);
    return look(net, task.test);
  }
  ForwardForwardNet net(options);
  if (method == "ff") train::train_forward_forward(net, x, y, forward_forward(epochs));
  if (method == "bp-ff") train::train_summed_goodness(net, x, y, forward_forward(epochs));
  return look(net, task.test);
}

/// One row a layer: [layer][figure], in the order of kColumns.
constexpr const char* kColumns[] = {"accuracy",     "Hoyer sparsity", "sd over classes",
                                    "zero rows",    "dead units",     "ensemble, share of units",
                                    "mean Jaccard", "units in >= 1",  "negative weights in"};
std::vector<double> figures(const Seen& seen, int64_t classes) {
  std::vector<double> out;
  for (size_t l = 0; l < seen.h.size(); ++l) {
    const auto s = atlas::sparsity(seen.h[l], seen.labels, classes);
    const auto c =
        atlas::census_of(atlas::ensembles(seen.h[l], seen.labels, classes), seen.weights[l]);
    for (const double f :
         {seen.accuracy, s.mean, s.class_sd, static_cast<double>(s.zero_rows), s.dead_share,
          c.median_share, c.mean_jaccard, c.members_share, c.negative_in})
      out.push_back(f);
  }
  return out;
}

/// For how long nets that learn by goodness are trained: what does best on validation digits.
int64_t choose_epochs(study::Lab& lab) {
  const auto task = study::find_images(lab, "mnist", 1).standardised(kMean, kDeviation);
  study::Choices choices(lab);
  const auto candidates = lab.by_scale<std::vector<double>>({2}, {25, 60}, {60, 200});
  return std::lround(choices.best("epochs of FF", candidates, [&](double epochs) {
    ForwardForwardNet net(net_options(task));
    train::train_forward_forward(net, task.train.rows(), task.train.y,
                                 forward_forward(std::lround(epochs)));
    return study::accuracy(train::predict_labels(net, task.valid.rows()), task.valid.y);
  }));
}

void methods(study::Lab& lab, int64_t epochs) {
  const auto task = study::find_images(lab, "mnist", 1).standardised(kMean, kDeviation);
  std::vector<std::string> columns{"method", "layer"};
  columns.insert(columns.end(), std::begin(kColumns), std::end(kColumns));
  auto table = lab.table(task.name, columns);
  std::map<std::string, std::vector<study::Figure>> all;
  for (const char* method : {"ff", "bp-ff", "bp", "bp-l1", "random"}) {
    auto& f = all[method] = lab.over_seeds(method, [&](uint64_t) {
      return figures(run_method(lab, method, task, epochs), task.classes);
    });
    const size_t width = std::size(kColumns);
    for (size_t l = 0; l < kLayers; ++l) {
      std::vector<study::Cell> row{method, static_cast<int64_t>(l + 1)};
      for (size_t i = 0; i < width; ++i) row.emplace_back(f[l * width + i]);
      table.add(std::move(row));
    }
  }
  const auto extreme = [&](const char* method, bool highest) {
    const auto& v = all.at(method)[1].values;  // layer 1's sparsity, one a seed
    return highest ? *std::max_element(v.begin(), v.end()) : *std::min_element(v.begin(), v.end());
  };
  double gap = 1;
  for (size_t s = 0; s < lab.seeds().size(); ++s)
    gap = std::min(gap, all.at("ff")[1].values[s] - all.at("bp")[1].values[s]);
  const auto claim = [&](const char* text, const char* paper, const study::Figure& measured) {
    return lab.claim(text).paper(paper).measured(measured);
  };
  claim("layer 1 sparsity of FF, lowest seed", "0.72 to 0.90", extreme("ff", false)).at_least(0.65);
  claim("layer 1 sparsity of BP/FF, lowest seed", "0.91 to 0.96", extreme("bp-ff", false))
      .at_least(0.80);
  claim("layer 1 sparsity of BP, highest seed", "0.31 to 0.60", extreme("bp", true)).at_most(0.60);
  claim("layer 1 sparsity, FF over BP, lowest seed", "0.12 to 0.59", gap).at_least(0.15);
  claim("accuracy of FF", "93 to 95.8 %", all.at("ff")[0]).in_percent().at_least(0.90);
  claim("accuracy of BP/FF", "97.1 %", all.at("bp-ff")[0]).in_percent().at_least(0.93);
  claim("accuracy of BP by cross entropy", "98.1 to 98.6 %", all.at("bp")[0])
      .in_percent()
      .at_least(0.95);
  claim("median ensemble of FF layer 1, share of units", "few units", all.at("ff")[5])
      .in_percent()
      .at_most(0.10);
  claim("median ensemble of BP over that of FF, layer 1", "few units in FF alone",
        all.at("bp")[5].mean() / all.at("ff")[5].mean())
      .at_least(2);
}

/// Mean overlap between two groups of classes, pairs of a class with itself left out.
double between(const torch::Tensor& shared, std::vector<int64_t> a, std::vector<int64_t> b) {
  double sum = 0, pairs = 0;
  for (const auto i : a)
    for (const auto j : b)
      if (i != j) sum += static_cast<double>(shared[i][j].item<int64_t>()), ++pairs;
  return sum / pairs;
}

void look_alikes(study::Lab& lab, int64_t epochs) {
  const auto task = study::find_images(lab, "fashion-mnist", 1).standardised(kMean, kDeviation);
  const std::vector<int64_t> tops{0, 2, 4, 6}, shoes{5, 7, 9};
  const auto f = lab.over_seeds("ff on clothes", [&](uint64_t) {
    const auto seen = run_method(lab, "ff", task, epochs);
    const auto o = atlas::overlap(atlas::ensembles(seen.h[0], seen.labels, task.classes));
    std::vector<double> out{seen.accuracy, between(o, tops, tops), between(o, shoes, shoes),
                            between(o, tops, shoes)};
    for (int64_t i = 0; i < 100; ++i)
      out.push_back(static_cast<double>(o[i / 10][i % 10].item<int64_t>()));
    return out;
  });
  std::vector<std::vector<double>> shared(10);
  for (size_t i = 0; i < 100; ++i) shared[i / 10].push_back(f[4 + i].mean());
  auto table =
      lab.table("units shared by ensembles of layer 1, " + task.name, {"pair of classes", "units"});
  table.row("both of T-shirt, pullover, coat, shirt", f[1]);
  table.row("both of sandal, sneaker, boot", f[2]);
  table.row("one of each", f[3]);
  lab.plot(plot::HeatMap{.title = "Units shared by ensembles of layer 1",
                         .columns = {std::begin(kFashion), std::end(kFashion)},
                         .rows = {std::begin(kFashion), std::end(kFashion)},
                         .values = shared,
                         .unit = "units"});
  lab.note("accuracy of FF on clothes: " + study::text(f[0], true));
  lab.claim("units shared by look-alikes over units shared across, lower of tops and shoes")
      .paper("alike classes share units")
      .measured(std::min(f[1].mean(), f[2].mean()) / std::max(f[3].mean(), 1e-9))
      .at_least(2);
}

void left_out_class(study::Lab& lab, int64_t epochs) {
  auto task = study::find_images(lab, "mnist", 1).standardised(kMean, kDeviation);
  const int64_t unseen = 9;  // the last label, so that the others keep their pixels
  auto known = task;
  known.classes = unseen;
  known.train = task.train.of(task.train.y.ne(unseen).nonzero().flatten());
  auto table = lab.table("a class never seen, FF layer 1",
                         {"class", "ensemble, units", "sparsity", "z of its ensemble's activation",
                          "largest Jaccard with another"});
  const auto f = lab.over_seeds("a class left out", [&](uint64_t) -> std::vector<double> {
    auto options = net_options(known);
    options.classes = unseen;
    options.layers = 1;  // layers learn from below upwards: more of them would not change this one
    ForwardForwardNet net(options);
    train::train_forward_forward(net, known.train.rows(), known.train.y, forward_forward(epochs));
    const torch::NoGradGuard no_grad;
    // No label is written for the unseen class; for comparison none for the known ones either.
    const auto h =
        net->forward(net->labelled(task.test.rows(), torch::full_like(task.test.y, -1)))[0];
    const auto member = atlas::ensembles(h, task.test.y, task.classes);
    const auto jaccard = atlas::jaccard_overlap(member);
    const auto rows = atlas::hoyer_sparsity(h);
    const auto mean_of = [&](const torch::Tensor& chosen) {
      return rows.masked_select(chosen.logical_and(rows.isnan().logical_not()))
          .mean()
          .item<double>();
    };
    const auto own = task.test.y.eq(unseen);
    const auto in_ensemble = h.index_select(1, member[unseen].nonzero().flatten()).mean(1);
    const auto others = in_ensemble.masked_select(own.logical_not());
    const double z =
        ((in_ensemble.masked_select(own).mean() - others.mean()) / others.std()).item<double>();
    jaccard[unseen][unseen].fill_(0);
    return {static_cast<double>(member[unseen].sum().item<int64_t>()),
            member.narrow(0, 0, unseen).sum(1).to(torch::kDouble).quantile(0.5).item<double>(),
            mean_of(own),
            mean_of(own.logical_not()),
            z,
            jaccard[unseen].max().item<double>()};
  });
  table.row("left out", f[0], f[2], f[4], f[5]);
  table.row("known (median, mean)", f[1], f[3], "", "");
  lab.claim("units in the ensemble of a class left out")
      .paper("unseen classes also get ensembles")
      .measured(f[0])
      .at_least(1);
  lab.claim("its sparsity away from that of the known classes")
      .paper("none given")
      .measured(std::abs(f[2].mean() - f[3].mean()))
      .at_most(0.15);
}

void run(study::Lab& lab) {
  const auto epochs = choose_epochs(lab);
  methods(lab, epochs);
  look_alikes(lab, epochs);
  left_out_class(lab, epochs);
  lab.note(
      "Zero rows have no sparsity and are left out of its mean; an untrained net is the floor.");
  lab.not_shown("sparsity of one and of equal units, FF's gradient, none across layers",
                "no matter of scale: tests/atlas/ensembles_test.cpp and "
                "tests/train/forward_forward_test.cpp hold them at every build");
  lab.not_shown("SVHN and CIFAR-10 rows", "the sets are not here");
  lab.not_shown("95 % and more with FF", "needs the full MNIST and hundreds of epochs");
}

const auto registered = study::add({.slug = "ff-ensembles"}, run);
}  // namespace
