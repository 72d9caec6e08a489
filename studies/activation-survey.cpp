#include <algorithm>
#include <cmath>
#include <map>

#include "cajal/core/timing.h"
#include "cajal/data/text.h"
#include "cajal/math/ranks.h"
#include "cajal/models/small/benchmark_net.h"
#include "cajal/neurons/probe.h"
#include "cajal/study/images.h"
#include "cajal/train/character_fit.h"
#include "cajal/train/descent.h"
#include "cajal/train/saved_bytes.h"

namespace {
using namespace cajal;
using study::Figure;
using torch::Tensor;

/// The 18 of the survey's benchmark, then no activation as the floor.
const std::vector<std::string> kCompared = {
    "sigmoid", "tanh",  "elliott", "relu", "leaky_relu", "prelu:per_channel",
    "elu",     "selu",  "gelu",    "celu", "softplus",   "swish",
    "abrelu",  "lisht", "srs",     "mish", "pau",        "pdelu",
    "identity"};

Properties measured(const std::string& law) {
  if (law == "abrelu") return measured("relu");  // normal numbers average to 0
  const Elementwise module(parse_elementwise(law.substr(0, law.find(':'))));
  return probe([&](const Tensor& x) { return module->forward(x); });
}

void properties(study::Lab& lab) {
  auto table = lab.table("measured properties",
                         {"law", "minimum", "at", "maximum", "monotone", "smooth", "mean of N(0,1)",
                          "saturated", "Lipschitz", "gain", "variance after 20"});
  std::map<std::string, Properties> found;
  for (const auto& law : laws::all()) {
    const auto p = found[law.name] = measured(law.name);
    table.row(law.name, p.bounded_below ? study::Cell(p.minimum) : "none", p.minimum_at,
              p.bounded_above ? study::Cell(p.maximum) : "none",
              p.monotone == Monotone::no ? fmt::format("{} turns", p.turns) : "yes", smoothness(p),
              p.mean, p.saturation, p.lipschitz, p.gain, p.variance_by_depth.back());
  }
  const auto minimum = [&](const char* law, double value, double at) {
    return std::max(std::abs(found[law].minimum - value), std::abs(found[law].minimum_at - at));
  };
  lab.claim("minima of Mish, Swish and GELU where the papers have them (largest difference)")
      .paper("-0.3088 at -1.1924, -0.2785 at -1.2785, -0.1700 at -0.7518")
      .measured(std::max({minimum("mish", -0.3088, -1.1924), minimum("swish", -0.2785, -1.2785),
                          minimum("gelu", -0.1700, -0.7518)}))
      .at_most(1e-4);
  lab.claim("LiSHT is even and nowhere negative")
      .paper("even, from 0 on")
      .holds(found["lisht"].even && found["lisht"].minimum >= 0);
  lab.claim("SELU keeps the variance of N(0, 1)")
      .paper("1")
      .measured(found["selu"].variance)
      .between(0.99, 1.01);

  const auto x = torch::linspace(-3, 3, 601);
  const auto gap = (Elementwise(parse_elementwise("pau"))->forward(x) - torch::leaky_relu(x, 0.01));
  lab.claim("PAU's start lies within 0.04 of leaky ReLU on [-3, 3]")
      .paper("best fit of leaky ReLU")
      .measured(gap.abs().max().item<double>())
      .at_most(0.04);
}

/// Time an element over a copy of the same bytes, all candidates in turn.
void speed(study::Lab& lab) {
  const auto x = torch::randn({lab.by_scale<int64_t>(1 << 16, 1 << 22, 1 << 23)});
  auto y = torch::empty_like(x);
  const int rounds = lab.by_scale(1, 5, 15);
  const torch::NoGradGuard no_grad;
  auto table = lab.table("time over a copy of the same bytes",
                         {"law", "ours", "chain of operations", "ours with gradient"});
  double mish = 0, swish = 0, kept = 0;  // kept: bytes for backward over those of the input
  std::vector<double> ours;
  for (const auto& law : laws::all()) {
    const Elementwise module(ElementwiseOptions{.law = law.name});
    std::vector<double> starts;
    for (const auto& parameter : law.parameters) starts.push_back(parameter.start);
    const auto p = starts.empty() ? Tensor() : torch::tensor(starts, torch::kFloat);
    auto leaf = x.clone().requires_grad_(true);
    const auto both = [&] {
      const torch::AutoGradMode on(true);
      return torch::autograd::grad({apply_law(law, leaf, p)}, {leaf}, {y}, c10::nullopt, false,
                                   true);
    };
    {
      const torch::AutoGradMode on(true);
      const train::SavedBytes saved;
      const auto out = apply_law(law, leaf, p);
      kept = std::max(kept, static_cast<double>(saved.live()) / static_cast<double>(x.nbytes()));
    }
    const auto times = time_interleaved(
        {[&] { x.clone(); }, [&] { apply_law(law, x, p); }, [&] { apply_law_as_chain(law, x, p); },
         [&] { both(); }, [&] { torch::exp(x); }},
        rounds);
    table.row(law.name, times.ratio(1, 0), times.ratio(2, 0), times.ratio(3, 0));
    ours.push_back(times.ratio(1, 0));
    if (std::string_view(law.name) == "mish") mish = times.ratio(1, 4);
    if (std::string_view(law.name) == "swish") swish = times.ratio(1, 4);
  }
  std::sort(ours.begin(), ours.end());
  lab.note(
      fmt::format("one pass takes {:.2f} times a copy in the middle of all laws, {:.2f} at most",
                  ours[ours.size() / 2], ours.back()));
  lab.claim("bytes kept for backward over those of the input, most of all laws")
      .paper("none given")
      .measured(kept)
      .at_most(1.001);  // the input, and a law's few parameters
  lab.claim("Swish and Mish cost at most 2.5 times exp alone")
      .paper("none given")
      .measured(std::max(mish, swish))
      .at_most(2.5);
}

study::Pictures pictures(const data::LabelledImages& part, int64_t most) {
  const auto all = study::pictures(part).first(most);
  return {all.x - 0.3, all.y};
}

double classify(const std::function<Tensor(const Tensor&)>& net, torch::nn::Module& module,
                const study::Pictures& learned, const study::Pictures& test, int64_t steps) {
  train::descend(module.parameters(), learned.size(),
                 [&](const Tensor& rows) {
                   const auto part = learned.of(rows);
                   return torch::cross_entropy_loss(net(part.x), part.y);
                 },
                 {.batch = 64, .steps = steps, .decay = 0.1, .clip = 5});
  module.eval();
  return train::share_correct(train::outputs(net, test.x), test.y);
}

/// Deep networks of the survey on clothes, narrow ones and few laws at standard scale.
void deep_networks(study::Lab& lab) {
  using enum BenchmarkNetKind;
  const bool all = lab.scale() == study::Scale::full;
  const auto kinds =
      all ? std::vector{vgg16, mobilenet_v1, resnet18, resnet50, senet18, googlenet, densenet121}
          : std::vector{resnet18};
  const std::vector<std::string> few = {"sigmoid", "tanh", "elliott", "relu",    "leaky_relu",
                                        "elu",     "gelu", "pdelu",   "identity"};
  const auto set = data::read_image_set("fashion-mnist");
  const auto learned = pictures(set.train, lab.by_scale(64, 2880, 60'000)),
             test = pictures(set.test, lab.by_scale(64, 720, 10'000));
  std::vector<std::string> columns{"law"};
  for (const auto kind : kinds) columns.emplace_back(to_name(kind));
  auto table = lab.table("deep networks with batch norm, " + set.name, columns);
  for (const auto& law : all ? kCompared : few) {
    std::vector<study::Cell> row{law};
    for (const auto kind : kinds)
      row.emplace_back(lab.over_seeds(fmt::format("{}, {}", to_name(kind), law), [&](uint64_t) {
        BenchmarkNet net(BenchmarkNetOptions{.kind = kind,
                                             .activation = law,
                                             .colours = 1,
                                             .width = lab.by_scale(0.0625, 0.125, 1.0)});
        return classify([&](const Tensor& x) { return net->forward(x); }, *net, learned, test,
                        lab.by_scale(1, 90, 45'000));
      }));
    table.add(std::move(row));
    if (lab.smoke()) break;
  }
}

void benchmark(study::Lab& lab) {
  const int64_t cnn_steps = lab.by_scale(4, 130, 4500), mlp_steps = lab.by_scale(4, 450, 6000),
                text_steps = lab.by_scale(3, 130, 3000);
  const auto fashion = data::read_image_set("fashion-mnist"),
             digits = data::read_image_set("mnist");
  const auto clothes = pictures(fashion.train, lab.by_scale(200, 2880, 60'000)),
             clothes_test = pictures(fashion.test, lab.by_scale(100, 720, 10'000)),
             numbers = pictures(digits.train, lab.by_scale(200, 8000, 60'000)),
             numbers_test = pictures(digits.test, lab.by_scale(100, 2000, 10'000));
  const auto characters = [](const std::string& name, size_t most) {
    const auto text = data::read_text(name).substr(0, most);
    std::vector<int64_t> codes;
    for (const char c : text)
      codes.push_back(std::min<int64_t>(static_cast<unsigned char>(c), 127));
    return torch::tensor(codes, torch::kLong);
  };
  const auto text = characters("classics/train", 400'000),
             held = characters("classics/valid", 20'000);

  const int64_t characters_in_use = text.max().item<int64_t>() + 1;
  std::map<std::string, std::vector<Figure>> results;
  for (const auto& law : kCompared) {
    const double gain = measured(law).gain;
    const auto with = [&](const char* task, const std::function<double()>& learn) {
      results[law].push_back(
          lab.over_seeds(fmt::format("{}, {}", task, law), [&](uint64_t) { return learn(); }));
    };
    with("CNN", [&] {
      SmallCnn net(law, 1, lab.by_scale<int64_t>(4, 16, 64), 10);
      return classify([&](const Tensor& x) { return net->forward(x); }, *net, clothes, clothes_test,
                      cnn_steps);
    });
    with("20 layers", [&] {
      PlainMlp net(law, 784, 64, 20, 10, gain);
      return classify([&](const Tensor& x) { return net->forward(x.flatten(1)); }, *net, numbers,
                      numbers_test, mlp_steps);
    });
    with("characters", [&] {
      CharacterModel net(law, characters_in_use, 32, 64);
      return train::fit_characters(net, text, held, text_steps);
    });
  }
  // Ranks over tasks and seeds, without the floor.
  std::vector<std::vector<double>> values;
  std::vector<bool> higher;
  for (size_t task = 0; task < 3; ++task)
    higher.insert(higher.end(), lab.seeds().size(), task != 2);
  for (size_t i = 0; i + 1 < kCompared.size(); ++i) {
    values.emplace_back();
    for (const auto& figure : results[kCompared[i]])
      values.back().insert(values.back().end(), figure.values.begin(), figure.values.end());
  }
  const auto rank = math::mean_ranks(values, higher);
  auto table = lab.table("18 activations, three tasks",
                         {"law", "CNN with batch norm, Fashion-MNIST-3600",
                          "20 layers without norm, MNIST-10k", "characters, bits", "mean rank"});
  for (size_t i = 0; i < kCompared.size(); ++i) {
    const auto& r = results[kCompared[i]];
    table.row(kCompared[i], r[0], r[1], r[2], i < rank.size() ? study::Cell(rank[i]) : "floor");
  }
  lab.note(fmt::format(
      "mean ranks differ at the 5 % level when more than {:.1f} apart (Nemenyi, {} blocks)",
      math::critical_rank_difference(18, static_cast<int>(higher.size())), higher.size()));

  const auto cnn = [&](const std::string& law) { return results[law][0].mean(); };
  const auto deep = [&](const std::string& law) { return results[law][1].mean(); };
  const auto claim = [&](const char* text, const char* paper, double measured) {
    return lab.claim(text).paper(paper).measured(measured).in_percent();
  };
  claim("20 layers without norm: the better of Sigmoid and Elliott",
        "saturating laws slow deep nets", std::max(deep("sigmoid"), deep("elliott")))
      .at_most(0.30);
  claim("20 layers without norm: the worst of SELU, ELU, leaky ReLU and GELU", "good in deep nets",
        std::min({deep("selu"), deep("elu"), deep("leaky_relu"), deep("gelu")}))
      .at_least(0.85);
  double best = 0;
  for (const auto& law : kCompared) best = std::max(best, cnn(law));
  claim("CNN with batch norm: best less ReLU", "ReLU is among the good ones", best - cnn("relu"))
      .at_most(0.02);
  const double family =
      (cnn("relu") + cnn("leaky_relu") + cnn("prelu:per_channel") + cnn("abrelu")) / 4;
  claim("CNN with batch norm: mean of the ReLU family less Sigmoid", "Sigmoid is among the lowest",
        family - cnn("sigmoid"))
      .at_least(0.01);
  claim("CNN with batch norm: the better of trained PAU and PReLU less ReLU",
        "PAU is among the good ones", std::max(cnn("pau"), cnn("prelu:per_channel")) - cnn("relu"))
      .at_least(-0.005);
}

void run(study::Lab& lab) {
  properties(lab);
  speed(lab);
  if (lab.has("fashion-mnist", "the benchmark of networks")) benchmark(lab), deep_networks(lab);
  lab.not_shown("each law against its formula to 2e-6, its gradients, finite at 1e4",
                "no matter of scale: tests/kernels/laws_test.cpp and "
                "tests/neurons/elementwise_test.cpp hold them at every build");
  lab.not_shown("CIFAR-10/100, Multi30k and LibriSpeech tables", "none of these data ships");
  lab.note(
      "the official PDELU computes ReLU (an in-place bug), its VGG files give channel counts as "
      "slopes, its GoogLeNet leaky ReLU is the identity: those columns of the paper compare other "
      "laws");
}

const auto registered = study::add({.slug = "activation-survey"}, run);
}  // namespace
