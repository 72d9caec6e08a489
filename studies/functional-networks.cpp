#include <map>

#include "cajal/data/catalogue.h"
#include "cajal/data/csv.h"
#include "cajal/data/curves.h"
#include "cajal/models/small/curve_models.h"
#include "cajal/study/choice.h"
#include "cajal/train/descent.h"

namespace {
using namespace cajal;
using study::Figure;
using torch::Tensor;
using Make = std::function<CurveModel(const CurveSet&)>;

CurveSet tensors(const data::Curves& c) {
  return {torch::tensor(c.values).reshape({c.count(), c.points, c.channels}),
          torch::tensor(c.labels)};
}

void fit(const CurveModel& model, const CurveSet& set, const train::DescentOptions& options) {
  train::descend(
      model.parameters, set.x.size(0),
      [&](const Tensor& rows) {
        const auto part = set.rows(rows);
        const auto scores = model.scores(part.x);
        return part.y.is_floating_point() ? (scores - part.y).square().mean()
                                          : torch::cross_entropy_loss(scores, part.y);
      },
      options);
}

double accuracy(const CurveModel& model, const CurveSet& set) {
  return train::share_correct(train::outputs(model.scores, set.x), set.y);
}

Make method(const std::string& name, int64_t outputs, int64_t kernel) {
  return [=](const CurveSet& train) {
    const int64_t points = train.x.size(1), channels = train.x.size(2);
    if (name == "fnn-conv") return functional_conv_net(channels, outputs, kernel);
    if (name == "fnn-mixed") return functional_mixed_net(channels, outputs, kernel);
    if (name == "fnn-dense") return functional_dense_net(points, channels, outputs, "elu");
    if (name == "flm") return functional_linear_model(points, channels, outputs, 15);
    if (name == "fpca-logit") return principal_component_model(train, 20, outputs);
    if (name == "cnn") return plain_conv_net(channels, outputs, kernel);
    if (name == "mlp") return sample_mlp(points * channels, outputs);
    return nearest_curves(train, outputs);
  };
}

const std::vector<std::string> kMethods = {"fnn-conv",   "fnn-mixed", "fnn-dense", "flm",
                                           "fpca-logit", "knn",       "cnn",       "mlp"};

/// Quality on the last fifth of `set` after learning the rest, accuracy or minus the squared error;
/// with `folds`, the mean over so many fifths.
double held_out(const Make& make, const CurveSet& set, const train::DescentOptions& options,
                int folds) {
  const int64_t count = set.x.size(0), part = count / 5;
  double sum = 0;
  for (int fold = 0; fold < folds; ++fold) {
    const int64_t from = count - (fold + 1) * part;
    const auto rest = torch::cat({torch::arange(from), torch::arange(from + part, count)});
    const auto learned = set.rows(rest), held = set.rows(torch::arange(from, from + part));
    const auto model = make(learned);
    fit(model, learned, options);
    const auto scores = train::outputs(model.scores, held.x);
    sum += held.y.is_floating_point() ? -(scores - held.y).square().mean().item<double>()
                                      : train::share_correct(scores, held.y);
  }
  return sum / folds;
}

/// `options` with the rate, and for the functional linear model the ridge, that do best on a
/// validation part of the training curves; the same grid for every method.
train::DescentOptions tuned(study::Choices& choices, const std::string& name,
                            const std::string& where, const Make& make, const CurveSet& set,
                            train::DescentOptions options, int folds = 1) {
  if (name == "knn") return options;
  const auto choose = [&](const char* what, const std::vector<double>& grid, double& field) {
    field = choices.best(fmt::format("{} of {}, {}", what, name, where), grid, [&](double value) {
      field = value;
      return held_out(make, set, options, folds);
    });
  };
  choose("rate", {1e-3, 3e-3, 1e-2, 3e-2, 1e-1}, options.rate);
  if (name == "flm") choose("ridge", {0, 1e-4, 1e-2}, options.weight);
  return options;
}

struct BumpFigures {
  Figure correct, shifted, drop, twice, few, few_roughness;
  double roughness = 0;
  int64_t weights = 0;
};

BumpFigures on_bumps(study::Lab& lab, study::Choices& choices, const std::string& name) {
  const int64_t many = lab.by_scale(60, 2000, 2000), tested = lab.by_scale(50, 1000, 1000);
  const data::BumpOptions placed{.signal = 1}, centred{.signal = 1, .centred = true},
      moved{.signal = 1, .centred = true, .shift = 0.25}, fine{.points = 255, .signal = 1};
  const auto draw = [](int64_t count, const data::BumpOptions& options, uint64_t seed) {
    return tensors(data::shifted_bumps(count, options, seed));
  };
  const auto make = method(name, 4, 25);
  const train::DescentOptions epochs{.epochs = lab.by_scale(1, 15, 30), .batch = 32, .decay = 0.2},
      steps{.batch = 32, .steps = lab.by_scale(5, 400, 1000), .decay = 0.2};
  const uint64_t first = lab.seeds()[0];
  const auto on_many = tuned(choices, name, "bumps", make, draw(many, placed, first), epochs),
             on_centred =
                 tuned(choices, name, "centred", make, draw(many / 2, centred, first), epochs),
             on_few = tuned(choices, name, "100 curves", make, draw(100, placed, first + 900),
                            steps, lab.by_scale(1, 3, 5));
  BumpFigures out;
  const auto figures = lab.over_seeds([&](uint64_t seed) -> std::vector<double> {
    const auto learned = draw(many, placed, seed), test = draw(tested, placed, seed + 500);
    const auto model = make(learned);
    fit(model, learned, on_many);
    const double correct = accuracy(model, test);
    out.roughness = model.roughness ? model.roughness() : 0, out.weights = model.weights();
    const auto dense = draw(tested, fine, seed + 500);
    const double twice =
        model.at_twice ? train::share_correct(train::outputs(model.at_twice, dense.x), dense.y) : 0;
    const auto middle = draw(many / 2, centred, seed);
    const auto still = make(middle);
    fit(still, middle, on_centred);
    const double here = accuracy(still, draw(tested, centred, seed + 500)),
                 there = accuracy(still, draw(tested, moved, seed + 500));
    const auto few = draw(100, placed, seed + 900);
    const auto small = make(few);
    fit(small, few, on_few);
    return {correct,
            there,
            here - there,
            twice,
            accuracy(small, test),
            small.roughness ? small.roughness() : 0};
  });
  out.correct = figures[0], out.shifted = figures[1], out.drop = figures[2], out.twice = figures[3];
  out.few = figures[4], out.few_roughness = figures[5];
  return out;
}

void bumps(study::Lab& lab, study::Choices& choices) {
  auto table =
      lab.table("shifted bumps, four classes",
                {"method", "accuracy", "weights", "roughness", "trained centred, shifted 25 %",
                 "drop by the shift", "at twice the rate", "100 curves"});
  std::map<std::string, BumpFigures> found;
  for (const auto& name : kMethods) {
    const auto& f = found[name] = on_bumps(lab, choices, name);
    const bool resamples = name == "fnn-conv" || name == "fnn-mixed";
    table.row(name, f.correct, f.weights, f.roughness > 0 ? study::Cell(f.roughness) : "",
              f.shifted, f.drop, resamples ? study::Cell(f.twice) : "", f.few);
  }
  const auto &conv = found["fnn-conv"], &cnn = found["cnn"];
  const auto correct = [&](const char* name) { return found[name].correct.mean(); };
  lab.claim("bumps at random places: fnn-conv")
      .paper("outperforms a benchmark of functional data analysis")
      .measured(conv.correct)
      .in_percent()
      .at_least(0.95);
  lab.claim("bumps at random places: fnn-conv less the best of flm, fpca-logit and mlp")
      .paper("outperforms a benchmark of functional data analysis")
      .measured(correct("fnn-conv") -
                std::max({correct("flm"), correct("fpca-logit"), correct("mlp")}))
      .in_percent()
      .at_least(0.25);
  lab.claim("trained on centred bumps, shifted by 25 %: fnn-conv loses")
      .paper("shift invariant")
      .measured(conv.drop)
      .in_percent()
      .at_most(0.01);
  lab.claim("trained on centred bumps, shifted by 25 %: mlp loses")
      .paper("none given")
      .measured(found["mlp"].drop)
      .in_percent()
      .at_least(0.20);
  lab.claim("100 curves: fnn-conv less plain cnn")
      .paper("none given")
      .measured(conv.few.mean() - cnn.few.mean())
      .in_percent()
      .at_least(0.03);
  lab.claim("weights of fnn-conv over those of the plain cnn")
      .paper("few parameters")
      .measured(static_cast<double>(conv.weights) / static_cast<double>(cnn.weights))
      .at_most(0.5);
  lab.claim("100 curves: kernel roughness of fnn-conv over that of the plain cnn")
      .paper("smoothness preserving")
      .measured(conv.few_roughness.mean() / cnn.few_roughness.mean())
      .at_most(0.1);
  lab.claim("tested at twice the sampling rate without retraining: fnn-conv loses")
      .paper("none given")
      .measured(conv.correct.mean() - conv.twice.mean())
      .in_percent()
      .at_most(0.01);
}

void brain_waves(study::Lab& lab, study::Choices& choices) {
  auto table = lab.table("EEG-like trials, three classes",
                         {"event over noise, dB", "fnn-conv", "flm", "cnn"});
  const auto draw = [&](int64_t count, double decibel, uint64_t seed) {
    return tensors(data::brain_waves(count, {.decibel = decibel}, seed));
  };
  const int64_t many = lab.by_scale(40, 800, 4000), tested = lab.by_scale(40, 400, 1000);
  std::map<std::string, train::DescentOptions> options;
  const std::vector<std::string> methods{"fnn-conv", "flm", "cnn"};
  for (const auto& name : methods)
    options[name] =
        tuned(choices, name, "EEG-like at 0 dB", method(name, 3, 33), draw(many, 0, lab.seeds()[0]),
              {.epochs = lab.by_scale(1, 6, 20), .batch = 32, .decay = 0.2});
  for (const double decibel : {-6.0, 0.0, 6.0}) {
    std::vector<study::Cell> row{decibel};
    for (const auto& name : methods)
      row.emplace_back(lab.over_seeds([&](uint64_t seed) {
        const auto learned = draw(many, decibel, seed);
        const auto model = method(name, 3, 33)(learned);
        fit(model, learned, options[name]);
        return accuracy(model, draw(tested, decibel, seed + 500));
      }));
    table.add(std::move(row));
  }
}

CurveSet from_csv(const char* file, int64_t labels) {
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

/// Figures over 80/20 splits; what is chosen is chosen on the training part of the first.
std::vector<Figure> over_splits(
    study::Lab& lab, study::Choices& choices, const std::string& name, const std::string& where,
    const CurveSet& set, const Make& make, train::DescentOptions options,
    const std::function<std::vector<double>(const CurveModel&, const CurveSet&)>& judge) {
  std::vector<Figure> out;
  for (int i = 0; i < lab.by_scale(1, 10, 20); ++i) {
    seed_everything(static_cast<uint64_t>(100 + i));
    const auto order = torch::randperm(set.x.size(0), torch::kLong);
    const int64_t cut = set.x.size(0) * 4 / 5;
    const auto learned = set.rows(order.slice(0, 0, cut));
    if (i == 0)
      options = tuned(choices, name, where, make, learned, options, lab.by_scale(1, 1, 5));
    const auto model = make(learned);
    fit(model, learned, options);
    const auto values = judge(model, set.rows(order.slice(0, cut)));
    out.resize(values.size());
    for (size_t f = 0; f < values.size(); ++f) out[f].values.push_back(values[f]);
  }
  return out;
}

void measured_curves(study::Lab& lab, study::Choices& choices) {
  auto tecator = from_csv("tecator_fat.csv", 1);
  const auto nox = from_csv("nox_one_hot.csv", 2);
  auto table = lab.table("measured curves, 80/20 splits",
                         {"data", "method", "MAE of fat, % (NOx: accuracy)", "R²"});
  constexpr double kUnit = 10;
  tecator.y = tecator.y / kUnit - 2;  // numbers of order 1: tens of percent, about 20 %
  const auto fat = [&](const std::string& name, const Make& make, int64_t batch) {
    const auto figures = over_splits(
        lab, choices, name, "Tecator", tecator, make,
        {.batch = batch, .steps = lab.by_scale<int64_t>(10, 2000, 10'000), .decay = 0.1},
        [&](const CurveModel& model, const CurveSet& test) -> std::vector<double> {
          const auto error = train::outputs(model.scores, test.x) - test.y;
          return {error.abs().mean().item<double>() * kUnit,
                  1 - (error.square().mean() / test.y.var(false)).item<double>()};
        });
    table.row("Tecator", name, figures[0], figures[1]);
    return figures[0];
  };
  const auto ours = fat(
      "fnn-conv", [](const CurveSet&) { return functional_conv_net(1, 1, 25); }, 32);
  const auto linear = fat(
      "flm", [](const CurveSet&) { return functional_linear_model(100, 1, 1, 30); }, 172);
  const auto days = [&](const std::string& name, const Make& make) {
    const auto figures =
        over_splits(lab, choices, name, "NOx", nox, make,
                    {.batch = 32, .steps = lab.by_scale<int64_t>(10, 1000, 5000), .decay = 0.2},
                    [](const CurveModel& model, const CurveSet& test) -> std::vector<double> {
                      return {accuracy(model, test)};
                    });
    table.row("NOx", name, figures[0], "");
    return figures[0];
  };
  const auto dense =
      days("fnn-dense", [](const CurveSet&) { return functional_dense_net(24, 1, 2, "softmax"); });
  const auto logistic =
      days("flm", [](const CurveSet&) { return functional_linear_model(24, 1, 2, 8); });
  lab.claim("Tecator: MAE of fat, %").paper("none given").measured(ours).at_most(1.5);
  lab.claim("Tecator: MAE of fnn-conv over that of the functional linear model")
      .paper("none given")
      .measured(ours.mean() / linear.mean())
      .at_most(1);
  lab.claim("NOx: fnn-dense less the functional logistic model")
      .paper("none given")
      .measured(dense.mean() - logistic.mean())
      .in_percent()
      .at_least(-0.02);
}

void run(study::Lab& lab) {
  study::Choices choices(lab);
  bumps(lab, choices);
  brain_waves(lab, choices);
  if (lab.has("fda-curves", "measured curves: Tecator, NOx")) measured_curves(lab, choices);
  lab.note("test curves are read once, after every rate was chosen on validation curves");
  lab.not_shown("the paper's EEG table and Phoneme", "neither data set ships");
}

const auto registered = study::add({.slug = "functional-networks"}, run);
}  // namespace
