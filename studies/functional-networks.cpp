#include <map>

#include "cajal/study/choice.h"
#include "cajal/study/curves.h"
#include "cajal/train/curve_fit.h"

namespace {
using namespace cajal;
using study::Figure;
using torch::Tensor;
using Make = train::MakeCurveModel;

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

/// `options` with the rate, and for the functional linear model the ridge, that do best on a
/// validation part of the training curves; the same grid for every method.
train::DescentOptions tuned(study::Choices& choices, const std::string& name,
                            const std::string& where, const Make& make, const CurveSet& set,
                            train::DescentOptions options, int folds = 1) {
  if (name == "knn") return options;
  const auto choose = [&](const char* what, const std::vector<double>& grid, double& field) {
    field = choices.best(fmt::format("{} of {}, {}", what, name, where), grid, [&](double value) {
      field = value;
      return train::held_out_quality(make, set, options, folds);
    });
  };
  choose("rate", {1e-3, 3e-3, 1e-2, 3e-2, 1e-1}, options.rate);
  if (name == "flm") choose("ridge", {0, 1e-4, 1e-2}, options.weight);
  return options;
}

struct BumpFigures {
  Figure correct, twice, roughness, weights;  // trained on many curves, bumps anywhere
  Figure shifted, drop;                       // trained on centred bumps
  Figure few, few_roughness;                  // trained on 100 curves
};

BumpFigures on_bumps(study::Lab& lab, study::Choices& choices, const std::string& name) {
  const int64_t many = lab.by_scale(60, 2000, 2000), tested = lab.by_scale(50, 1000, 1000);
  const data::BumpOptions placed{.signal = 1}, centred{.signal = 1, .centred = true},
      moved{.signal = 1, .centred = true, .shift = 0.25}, fine{.points = 255, .signal = 1};
  const auto draw = [](int64_t count, const data::BumpOptions& options, uint64_t seed) {
    return study::curves(data::shifted_bumps(count, options, seed));
  };
  const auto make = method(name, 4, 25);
  const train::DescentOptions epochs{.epochs = lab.by_scale(1, 15, 30), .batch = 32, .decay = 0.2},
      steps{.batch = 32, .steps = lab.by_scale(5, 400, 1000), .decay = 0.2};
  const auto learnt = [&](const CurveSet& curves, const train::DescentOptions& options) {
    auto model = make(curves);
    train::fit_curves(model, curves, options);
    return model;
  };
  const auto roughness = [](const CurveModel& m) { return m.roughness ? m.roughness() : 0; };
  const uint64_t first = lab.seeds()[0];
  const auto on_many = tuned(choices, name, "bumps", make, draw(many, placed, first), epochs),
             on_centred =
                 tuned(choices, name, "centred", make, draw(many / 2, centred, first), epochs),
             on_few = tuned(choices, name, "100 curves", make, draw(100, placed, first + 900),
                            steps, lab.by_scale(1, 3, 5));
  const auto anywhere =
      lab.over_seeds(name + ", bumps anywhere", [&](uint64_t seed) -> std::vector<double> {
        const auto model = learnt(draw(many, placed, seed), on_many);
        const auto dense = draw(tested, fine, seed + 500);
        return {train::curve_accuracy(model, draw(tested, placed, seed + 500)),
                model.at_twice
                    ? train::share_correct(train::outputs(model.at_twice, dense.x), dense.y)
                    : 0,
                roughness(model), static_cast<double>(model.weights())};
      });
  const auto middle =
      lab.over_seeds(name + ", centred bumps", [&](uint64_t seed) -> std::vector<double> {
        const auto model = learnt(draw(many / 2, centred, seed), on_centred);
        const double here = train::curve_accuracy(model, draw(tested, centred, seed + 500)),
                     there = train::curve_accuracy(model, draw(tested, moved, seed + 500));
        return {there, here - there};
      });
  const auto few = lab.over_seeds(name + ", 100 curves", [&](uint64_t seed) -> std::vector<double> {
    const auto model = learnt(draw(100, placed, seed + 900), on_few);
    return {train::curve_accuracy(model, draw(tested, placed, seed + 500)), roughness(model)};
  });
  return {anywhere[0], anywhere[1], anywhere[2], anywhere[3], middle[0], middle[1], few[0], few[1]};
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
    table.row(name, f.correct, f.weights, f.roughness.mean() > 0 ? study::Cell(f.roughness) : "",
              f.shifted, f.drop, resamples ? study::Cell(f.twice) : "", f.few);
  }
  const auto &conv = found["fnn-conv"], &cnn = found["cnn"];
  const auto correct = [&](const char* name) { return found[name].correct.mean(); };
  const auto share = [&](const char* text, const char* paper, const Figure& measured) {
    return lab.claim(text).paper(paper).measured(measured).in_percent();
  };
  share("bumps at random places: fnn-conv", "outperforms functional data analysis", conv.correct)
      .at_least(0.95);
  share("bumps at random places: fnn-conv less the best of flm, fpca-logit and mlp",
        "outperforms functional data analysis",
        correct("fnn-conv") - std::max({correct("flm"), correct("fpca-logit"), correct("mlp")}))
      .at_least(0.25);
  share("trained on centred bumps, shifted by 25 %: fnn-conv loses", "shift invariant", conv.drop)
      .at_most(0.01);
  share("trained on centred bumps, shifted by 25 %: mlp loses", "none given", found["mlp"].drop)
      .at_least(0.20);
  share("100 curves: fnn-conv less plain cnn", "none given", conv.few.mean() - cnn.few.mean())
      .at_least(0.03);
  share("tested at twice the sampling rate without retraining: fnn-conv loses", "none given",
        conv.correct.mean() - conv.twice.mean())
      .at_most(0.01);
  lab.claim("weights of fnn-conv over those of the plain cnn")
      .paper("few parameters")
      .measured(conv.weights.mean() / cnn.weights.mean())
      .at_most(0.5);
  lab.claim("100 curves: kernel roughness of fnn-conv over that of the plain cnn")
      .paper("smoothness preserving")
      .measured(conv.few_roughness.mean() / cnn.few_roughness.mean())
      .at_most(0.1);
}

void brain_waves(study::Lab& lab, study::Choices& choices) {
  auto table = lab.table("EEG-like trials, three classes",
                         {"event over noise, dB", "fnn-conv", "flm", "cnn"});
  const auto draw = [&](int64_t count, double decibel, uint64_t seed) {
    return study::curves(data::brain_waves(count, {.decibel = decibel}, seed));
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
      row.emplace_back(
          lab.over_seeds(fmt::format("{}, EEG-like at {} dB", name, decibel), [&](uint64_t seed) {
            const auto learned = draw(many, decibel, seed);
            const auto model = method(name, 3, 33)(learned);
            train::fit_curves(model, learned, options[name]);
            return train::curve_accuracy(model, draw(tested, decibel, seed + 500));
          }));
    table.add(std::move(row));
  }
}

/// Figures over 80/20 splits; what is chosen is chosen on the training part of the first.
std::vector<Figure> over_splits(
    study::Lab& lab, study::Choices& choices, const std::string& name, const std::string& where,
    const CurveSet& set, const Make& make, train::DescentOptions options,
    const std::function<std::vector<double>(const CurveModel&, const CurveSet&)>& judge) {
  const auto halves = [&](uint64_t seed) {  // 80 and 20 %
    seed_everything(seed);
    const auto order = torch::randperm(set.x.size(0), torch::kLong);
    const int64_t cut = set.x.size(0) * 4 / 5;
    return std::pair{set.rows(order.slice(0, 0, cut)), set.rows(order.slice(0, cut))};
  };
  constexpr uint64_t kFirst = 100;
  options = tuned(choices, name, where, make, halves(kFirst).first, options, lab.by_scale(1, 5, 5));
  std::vector<Figure> out;
  for (uint64_t i = kFirst; i < kFirst + lab.by_scale<uint64_t>(1, 10, 20); ++i) {
    const auto values = lab.part(fmt::format("{}, {}", name, where), i, [&] {
      const auto [learned, test] = halves(i);
      const auto model = make(learned);
      train::fit_curves(model, learned, options);
      return judge(model, test);
    });
    out.resize(values.size());
    for (size_t f = 0; f < values.size(); ++f) out[f].values.push_back(values[f]);
  }
  return out;
}

void measured_curves(study::Lab& lab, study::Choices& choices) {
  auto tecator = study::measured_curves("tecator_fat.csv", 1);
  const auto nox = study::measured_curves("nox_one_hot.csv", 2);
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
                      return {train::curve_accuracy(model, test)};
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
  lab.not_shown(
      "logits under whole shifts, weights and layers against loops, Fourier's Gram matrix",
      "no matter of scale: tests/layers/functional_test.cpp holds them at every build");
  lab.not_shown("the paper's EEG table and Phoneme", "neither data set ships");
}

const auto registered = study::add({.slug = "functional-networks"}, run);
}  // namespace
