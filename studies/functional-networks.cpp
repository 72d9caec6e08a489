#include <cmath>
#include <map>
#include <numeric>

#include "cajal/data/catalogue.h"
#include "cajal/data/csv.h"
#include "cajal/data/curves.h"
#include "cajal/layers/functional/functional.h"
#include "cajal/study/study.h"
#include "cajal/train/descent.h"

namespace {
using namespace cajal;
using study::Figure;
using torch::Tensor;

struct Set {
  Tensor x, y;  // [count, points, channels]; classes i64 [count], or numbers [count, 1]
  Set rows(const Tensor& which) const {
    return {x.index_select(0, which), y.index_select(0, which)};
  }
};

Set tensors(const data::Curves& c) {
  return {torch::tensor(c.values).reshape({c.count(), c.points, c.channels}),
          torch::tensor(c.labels)};
}

/// A trained model: scores for curves, and what is said of it.
struct Model {
  std::function<Tensor(const Tensor&)> scores;
  std::vector<Tensor> parameters;
  std::function<Tensor(const Tensor&)> at_twice;  // for curves sampled twice as densely
  std::function<double()> roughness;              // of the first layer's weight functions
  double pace = 1;                                // of its rate: larger coefficients, larger steps

  int64_t weights() const {
    int64_t count = 0;
    for (const auto& parameter : parameters) count += parameter.numel();
    return count;
  }
};

Tensor loss_of(const Tensor& scores, const Tensor& y) {
  return y.is_floating_point() ? (scores - y).square().mean()
                               : torch::cross_entropy_loss(scores, y);
}

void fit(Model& model, const Set& set, train::DescentOptions options) {
  options.rate *= model.pace;
  train::descend(
      model.parameters, set.x.size(0),
      [&](const Tensor& rows) {
        const auto part = set.rows(rows);
        return loss_of(model.scores(part.x), part.y);
      },
      options);
}

template <class... Layers>
std::vector<Tensor> all_of(const Layers&... layers) {
  std::vector<Tensor> out;
  for (const auto& own : {layers->parameters()...}) out.insert(out.end(), own.begin(), own.end());
  return out;
}

/// Two functional convolutions and a shift invariant head.
Model functional_conv(int64_t channels, int64_t outputs, int64_t points,
                      const std::string& last = "identity") {
  FunctionalConvolution first(FunctionalConvolutionOptions{.points = points,
                                                           .channels = channels,
                                                           .neurons = 20,
                                                           .functions = 7,
                                                           .law = "elu",
                                                           .integral = true});
  FunctionalConvolution second(FunctionalConvolutionOptions{.points = points,
                                                            .channels = 20,
                                                            .neurons = 5,
                                                            .functions = 7,
                                                            .law = "elu",
                                                            .integral = true});
  FunctionalConvolution head(FunctionalConvolutionOptions{.points = 1,
                                                          .channels = 5,
                                                          .neurons = outputs,
                                                          .basis = Basis::fourier,
                                                          .functions = 1,
                                                          .law = last,
                                                          .pooling = true,
                                                          .bias_functions = 1});
  const auto at = [=](const Tensor& x, double rate) {
    return head->at_rate(second->at_rate(first->at_rate(normalise_curves(x), rate), rate), rate);
  };
  {  // the integrals make small numbers: start so that they are as large as the sums of the code
    const torch::NoGradGuard no_grad;
    first->coefficients.mul_(static_cast<double>(points)),
        second->coefficients.mul_(static_cast<double>(points));
    head->coefficients.mul_(20);
  }
  return {[at](const Tensor& x) { return at(x, 1); }, all_of(first, second, head),
          [at](const Tensor& x) { return at(x, 2); },
          [first] { return roughness(first->weights()); }, 10};
}

/// The same network with free kernels: what smoothness buys.
Model plain_cnn(int64_t channels, int64_t outputs, int64_t points) {
  const auto weight = [](std::vector<int64_t> shape, double fan_in) {
    return (torch::randn(shape) / std::sqrt(fan_in)).requires_grad_(true);
  };
  const auto first = weight({20, channels, points}, static_cast<double>(channels * points)),
             second = weight({5, 20, points}, static_cast<double>(20 * points)),
             head = weight({outputs, 5}, 5), bias = torch::zeros({outputs}).requires_grad_(true);
  return {[=](const Tensor& x) {
            auto y = torch::elu(torch::conv1d(normalise_curves(x).transpose(1, 2), first));
            return torch::linear(torch::elu(torch::conv1d(y, second)).mean(2), head, bias);
          },
          {first, second, head, bias},
          nullptr,
          [first] {
            return roughness(first.permute({2, 1, 0}));
          }};
}

Model functional_dense(int64_t points, int64_t channels, int64_t outputs, const std::string& law) {
  FunctionalDense first(FunctionalDenseOptions{.points = points,
                                               .channels = channels,
                                               .neurons = 5,
                                               .basis = Basis::legendre,
                                               .functions = 6,
                                               .law = law});
  FunctionalDense second(FunctionalDenseOptions{
      .points = points, .channels = 5, .neurons = outputs, .functions = 3, .pooling = true});
  return {[=](const Tensor& x) { return second->forward(first->forward(normalise_curves(x))); },
          all_of(first, second), nullptr, [first] { return roughness(first->weights()); }};
}

/// Functional linear model: scores are inner products with smooth functions, ridge on their
/// coefficients.
Model functional_linear(int64_t points, int64_t channels, int64_t outputs, int64_t functions) {
  FunctionalDense layer(FunctionalDenseOptions{.points = points,
                                               .channels = channels,
                                               .neurons = outputs,
                                               .basis = Basis::bspline,
                                               .functions = functions,
                                               .pooling = true});
  const auto bias = torch::zeros({outputs}).requires_grad_(true);
  auto parameters = layer->parameters();
  parameters.push_back(bias);
  return {[=](const Tensor& x) { return layer->forward(x) + bias; }, parameters, nullptr,
          [layer] { return roughness(layer->weights()); }};
}

/// Scores on the first principal components of the training curves.
Model principal_components(const Set& train, int64_t count, int64_t outputs) {
  const auto flat = train.x.flatten(1);
  const auto mean = flat.mean(0);
  const auto axes = std::get<1>(torch::linalg_eigh(torch::matmul((flat - mean).t(), flat - mean)))
                        .slice(1, -count);
  const auto scale = torch::matmul(flat - mean, axes).std(0);
  const auto weight = torch::zeros({outputs, count}).requires_grad_(true),
             bias = torch::zeros({outputs}).requires_grad_(true);
  return {[=](const Tensor& x) {
            return torch::linear(torch::matmul(x.flatten(1) - mean, axes) / scale, weight, bias);
          },
          {weight, bias},
          nullptr,
          nullptr};
}

Model mlp(int64_t inputs, int64_t outputs) {
  const auto weight = [](int64_t to, int64_t from) {
    return (torch::randn({to, from}) * std::sqrt(2.0 / static_cast<double>(from)))
        .requires_grad_(true);
  };
  const auto a = weight(48, inputs), b = weight(outputs, 48),
             c = torch::zeros({48}).requires_grad_(true),
             d = torch::zeros({outputs}).requires_grad_(true);
  return {[=](const Tensor& x) {
            return torch::linear(torch::relu(torch::linear(x.flatten(1), a, c)), b, d);
          },
          {a, b, c, d},
          nullptr,
          nullptr};
}

Model neighbours(const Set& train, int64_t classes, int64_t k = 5) {
  return {[=](const Tensor& x) {
            const auto near = std::get<1>(
                torch::topk(torch::cdist(x.flatten(1), train.x.flatten(1)), k, 1, false));
            return torch::one_hot(train.y.index_select(0, near.flatten()).reshape(near.sizes()),
                                  classes)
                .sum(1)
                .to(torch::kFloat);
          },
          {},
          nullptr,
          nullptr};
}

double accuracy(const Model& model, const Set& set) {
  return train::share_correct(train::outputs(model.scores, set.x), set.y);
}

Model method(const std::string& name, const Set& train, int64_t outputs, int64_t kernel) {
  const int64_t points = train.x.size(1), channels = train.x.size(2);
  if (name == "fnn-conv") return functional_conv(channels, outputs, kernel);
  if (name == "fnn-dense") return functional_dense(points, channels, outputs, "elu");
  if (name == "flm") return functional_linear(points, channels, outputs, 15);
  if (name == "fpca-logit") return principal_components(train, 20, outputs);
  if (name == "cnn") return plain_cnn(channels, outputs, kernel);
  if (name == "mlp") return mlp(points * channels, outputs);
  return neighbours(train, outputs);
}

const std::vector<std::string> kMethods = {"fnn-conv", "fnn-dense", "flm", "fpca-logit",
                                           "knn",      "cnn",       "mlp"};

void bumps(study::Lab& lab) {
  const int64_t many = lab.by_scale(60, 2000, 2000), tested = lab.by_scale(50, 1000, 1000);
  const data::BumpOptions placed{.signal = 1}, centred{.signal = 1, .centred = true},
      moved{.signal = 1, .centred = true, .shift = 0.25}, fine{.points = 255, .signal = 1};
  const train::DescentOptions long_run{
      .epochs = lab.by_scale(1, 12, 30), .batch = 32, .rate = 5e-3, .decay = 0.2};
  auto table =
      lab.table("shifted bumps, four classes",
                {"method", "accuracy", "weights", "roughness", "trained centred, shifted 25 %",
                 "drop by the shift", "at twice the rate", "100 curves"});
  std::map<std::string, std::vector<Figure>> found;
  for (const auto& name : kMethods) {
    double rough = 0;
    int64_t weights = 0;
    const auto figures = found[name] = lab.over_seeds([&](uint64_t seed) -> std::vector<double> {
      const auto train_set = tensors(data::shifted_bumps(many, placed, seed)),
                 test = tensors(data::shifted_bumps(tested, placed, seed + 500));
      Model model = method(name, train_set, 4, 25);
      fit(model, train_set, long_run);
      const double correct = accuracy(model, test);
      rough = model.roughness ? model.roughness() : 0, weights = model.weights();
      const auto twice = tensors(data::shifted_bumps(tested, fine, seed + 500));
      const double at_twice =
          model.at_twice ? train::share_correct(train::outputs(model.at_twice, twice.x), twice.y)
                         : 0;
      const auto middle = tensors(data::shifted_bumps(many / 2, centred, seed));
      Model still = method(name, middle, 4, 25);
      fit(still, middle, long_run);
      const double here =
          accuracy(still, tensors(data::shifted_bumps(tested, centred, seed + 500)));
      const double there = accuracy(still, tensors(data::shifted_bumps(tested, moved, seed + 500)));
      const auto few = tensors(data::shifted_bumps(100, placed, seed + 900));
      Model small = method(name, few, 4, 25);
      auto steps = long_run;
      steps.steps = lab.by_scale(5, 400, 1000);
      fit(small, few, steps);
      return {correct,
              there,
              here - there,
              at_twice,
              accuracy(small, test),
              small.roughness ? small.roughness() : 0};
    });
    table.row(name, figures[0], weights, rough > 0 ? study::Cell(rough) : "", figures[1],
              figures[2], name == "fnn-conv" ? study::Cell(figures[3]) : "", figures[4]);
  }
  const auto mean = [&](const char* name, size_t i) { return found[name][i].mean(); };
  lab.claim("bumps at random places: fnn-conv")
      .measured(found["fnn-conv"][0])
      .in_percent()
      .at_least(0.95);
  lab.claim("bumps at random places: fnn-conv less the best of flm, fpca-logit and mlp")
      .measured(mean("fnn-conv", 0) -
                std::max({mean("flm", 0), mean("fpca-logit", 0), mean("mlp", 0)}))
      .in_percent()
      .at_least(0.25);
  lab.claim("trained on centred bumps, shifted by 25 %: fnn-conv loses")
      .measured(found["fnn-conv"][2])
      .in_percent()
      .at_most(0.01);
  lab.claim("trained on centred bumps, shifted by 25 %: mlp loses")
      .measured(found["mlp"][2])
      .in_percent()
      .at_least(0.20);
  lab.claim("100 curves: fnn-conv less plain cnn")
      .measured(mean("fnn-conv", 4) - mean("cnn", 4))
      .in_percent()
      .at_least(0.03);
  lab.claim("weights of fnn-conv over those of the plain cnn")
      .measured(static_cast<double>(functional_conv(1, 4, 25).weights()) /
                static_cast<double>(plain_cnn(1, 4, 25).weights()))
      .at_most(0.5);
  lab.claim("100 curves: kernel roughness of fnn-conv over that of the plain cnn")
      .measured(mean("fnn-conv", 5) / mean("cnn", 5))
      .at_most(0.1);
  lab.claim("tested at twice the sampling rate without retraining: fnn-conv loses")
      .measured(mean("fnn-conv", 0) - mean("fnn-conv", 3))
      .in_percent()
      .at_most(0.01);
}

void brain_waves(study::Lab& lab) {
  auto table = lab.table("EEG-like trials, three classes",
                         {"event over noise, dB", "fnn-conv", "flm", "cnn"});
  for (const double decibel : {-6.0, 0.0, 6.0}) {
    std::map<std::string, Figure> shares;
    for (const char* name : {"fnn-conv", "flm", "cnn"})
      shares[name] = lab.over_seeds([&](uint64_t seed) {
        const data::BrainWaveOptions options{.decibel = decibel};
        const auto train_set =
            tensors(data::brain_waves(lab.by_scale(40, 800, 4000), options, seed));
        Model model = method(name, train_set, 3, 33);
        fit(model, train_set,
            {.epochs = lab.by_scale(1, 6, 20), .batch = 32, .rate = 5e-3, .decay = 0.2});
        return accuracy(
            model, tensors(data::brain_waves(lab.by_scale(40, 400, 1000), options, seed + 500)));
      });
    table.row(decibel, shares["fnn-conv"], shares["flm"], shares["cnn"]);
  }
}

Set from_csv(const char* file, int64_t labels) {
  const auto table = data::read_csv(data::find_file("fda-curves", {file}));
  std::vector<float> values;
  std::vector<std::vector<double>> columns;
  for (int64_t c = 0; c < table.columns(); ++c) columns.push_back(table.numbers(c));
  for (int64_t r = 0; r < table.rows(); ++r)
    for (const auto& column : columns) values.push_back(static_cast<float>(column[r]));
  const auto all = torch::tensor(values).reshape({table.rows(), table.columns()});
  const auto y = all.slice(1, table.columns() - labels);
  return {all.slice(1, 0, table.columns() - labels).unsqueeze(2), labels == 1 ? y : y.argmax(1)};
}

void measured_curves(study::Lab& lab) {
  const auto tecator = from_csv("tecator_fat.csv", 1), nox = from_csv("nox_one_hot.csv", 2);
  const int splits = lab.by_scale(1, 10, 20);
  auto table = lab.table("measured curves, 80/20 splits", {"data", "method", "error or accuracy"});
  const auto over_splits = [&](const Set& set,
                               const std::function<double(const Set&, const Set&)>& run) {
    std::vector<double> out;
    for (int i = 0; i < splits; ++i) {
      seed_everything(static_cast<uint64_t>(100 + i));
      const auto order = torch::randperm(set.x.size(0), torch::kLong);
      const int64_t cut = set.x.size(0) * 4 / 5;
      out.push_back(run(set.rows(order.slice(0, 0, cut)), set.rows(order.slice(0, cut))));
    }
    return Figure(out);
  };
  const auto fat = [&](const std::function<Model(const Set&)>& make,
                       const train::DescentOptions& options) {
    return over_splits(tecator, [&](const Set& train_set, const Set& test) {
      const auto mean = train_set.y.mean(), deviation = train_set.y.std();
      Model model = make(train_set);
      fit(model, {train_set.x, (train_set.y - mean) / deviation}, options);
      return ((train::outputs(model.scores, test.x) * deviation + mean) - test.y)
          .abs()
          .mean()
          .item<double>();
    });
  };
  const train::DescentOptions steps{
      .batch = 32, .steps = lab.by_scale<int64_t>(10, 1000, 10'000), .rate = 3e-3, .decay = 0.2};
  const auto ours = fat([](const Set&) { return functional_conv(1, 1, 25); }, steps);
  const auto linear = fat(
      [](const Set& set) { return functional_linear(set.x.size(1), 1, 1, 30); },
      {.batch = 172, .steps = lab.by_scale<int64_t>(10, 4000, 20'000), .rate = 0.1, .decay = 0.1});
  table.row("Tecator, MAE of fat in %", "fnn-conv", ours),
      table.row("Tecator, MAE of fat in %", "flm", linear);
  const auto days = [&](const std::function<Model(const Set&)>& make) {
    return over_splits(nox, [&](const Set& train_set, const Set& test) {
      Model model = make(train_set);
      fit(model, train_set,
          {.batch = 32,
           .steps = lab.by_scale<int64_t>(10, 1000, 5000),
           .rate = 1e-2,
           .decay = 0.2});
      return accuracy(model, test);
    });
  };
  const auto dense = days([](const Set&) { return functional_dense(24, 1, 2, "softmax"); });
  const auto logistic =
      days([](const Set& set) { return functional_linear(set.x.size(1), 1, 2, 8); });
  table.row("NOx, accuracy", "fnn-dense", dense), table.row("NOx, accuracy", "flm", logistic);
  lab.claim("Tecator: MAE of fat, %").measured(ours).at_most(1.5);
  lab.claim("Tecator: MAE of fnn-conv over that of the functional linear model")
      .measured(ours.mean() / linear.mean())
      .at_most(1);
  lab.claim("NOx: fnn-dense less the functional logistic model")
      .measured(dense.mean() - logistic.mean())
      .in_percent()
      .at_least(-0.02);
}

void run(study::Lab& lab) {
  bumps(lab);
  brain_waves(lab);
  if (lab.has("fda-curves", "measured curves: Tecator, NOx")) measured_curves(lab);
  lab.not_shown("the paper's EEG table and Phoneme", "neither data set ships");
}

const auto registered = study::add({.slug = "functional-networks"}, run);
}  // namespace
