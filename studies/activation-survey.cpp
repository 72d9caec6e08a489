#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "cajal/core/timing.h"
#include "cajal/data/image_set.h"
#include "cajal/data/text.h"
#include "cajal/models/small/nets.h"
#include "cajal/neurons/probe.h"
#include "cajal/study/study.h"
#include "cajal/train/descent.h"

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

std::string short_name(const std::string& text) { return text.substr(0, text.find(':')); }

Properties measured(const std::string& law) {
  if (law == "abrelu") return measured("relu");  // normal numbers average to 0
  const Elementwise module(parse_elementwise(short_name(law)));
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
      .holds(found["lisht"].even && found["lisht"].minimum >= 0);
  lab.claim("SELU keeps the variance of N(0, 1)")
      .paper("1")
      .measured(found["selu"].variance)
      .between(0.99, 1.01);

  const auto x = torch::linspace(-3, 3, 601);
  const auto gap = (Elementwise(parse_elementwise("pau"))->forward(x) - torch::leaky_relu(x, 0.01));
  lab.claim("PAU's start lies within 0.04 of leaky ReLU on [-3, 3]")
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
  double mish = 0, swish = 0;
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
      fmt::format("one pass takes {:.2f} times a copy in the middle of all laws, {:.2f} at most; "
                  "backward keeps only x (1 times the input) and computes the rest again",
                  ours[ours.size() / 2], ours.back()));
  lab.claim("Swish and Mish cost at most 2.5 times exp alone")
      .measured(std::max(mish, swish))
      .at_most(2.5);
}

struct Pictures {
  Tensor x, y, test_x, test_y;
};

Pictures pictures(const char* name, int64_t train, int64_t test) {
  const auto set = data::read_image_set(name);
  const auto cut = [](const data::LabelledImages& part, int64_t count) {
    const auto& shape = part.images.shape;
    count = std::min(count, shape[0]);
    const auto x = torch::from_blob(const_cast<std::byte*>(part.images.bytes.data()),
                                    {shape[0], 1, shape[1], shape[2]}, torch::kUInt8);
    const auto y =
        torch::from_blob(const_cast<uint8_t*>(part.labels.data()), {shape[0]}, torch::kUInt8);
    return std::pair(x.slice(0, 0, count).to(torch::kFloat) / 255 - 0.3,
                     y.slice(0, 0, count).to(torch::kLong));
  };
  const auto [x, y] = cut(set.train, train);
  const auto [test_x, test_y] = cut(set.test, test);
  return {x, y, test_x, test_y};
}

double classify(const std::function<Tensor(const Tensor&)>& net, torch::nn::Module& module,
                const Pictures& data, int64_t steps) {
  train::descend(module.parameters(), data.x.size(0),
                 [&](const Tensor& rows) {
                   return torch::cross_entropy_loss(net(data.x.index_select(0, rows)),
                                                    data.y.index_select(0, rows));
                 },
                 {.batch = 64, .steps = steps, .decay = 0.1, .clip = 5});
  module.eval();
  return train::share_correct(train::outputs(net, data.test_x), data.test_y);
}

double bits_per_character(const std::string& law, const Tensor& text, const Tensor& held,
                          int64_t steps) {
  constexpr int64_t kTokens = 48;
  CharacterModel model(law, text.max().item<int64_t>() + 1, 32, 64);
  const auto loss = [&](const Tensor& from, const Tensor& starts) {
    const auto at = starts.unsqueeze(1) + torch::arange(kTokens + 1);
    const auto part = from.index_select(0, at.flatten()).reshape(at.sizes());
    const auto logits = model->forward(part.slice(1, 0, kTokens));
    return torch::cross_entropy_loss(logits.flatten(0, 1), part.slice(1, 1).flatten());
  };
  train::descend(model->parameters(), text.size(0) - kTokens - 1,
                 [&](const Tensor& rows) { return loss(text, rows); },
                 {.batch = 16, .steps = steps, .rate = 5e-3, .clip = 1});
  const torch::NoGradGuard no_grad;
  return loss(held, torch::arange(0, held.size(0) - kTokens - 1, kTokens)).item<double>() /
         std::log(2);
}

void benchmark(study::Lab& lab) {
  const int64_t cnn_steps = lab.by_scale(4, 130, 4500), mlp_steps = lab.by_scale(4, 450, 6000),
                text_steps = lab.by_scale(3, 130, 3000);
  const auto fashion =
      pictures("fashion-mnist", lab.by_scale(200, 2880, 60'000), lab.by_scale(100, 720, 10'000));
  const auto digits =
      pictures("mnist", lab.by_scale(200, 8000, 60'000), lab.by_scale(100, 2000, 10'000));
  const auto characters = [](const std::string& name, size_t most) {
    const auto text = data::read_text(name).substr(0, most);
    std::vector<int64_t> codes;
    for (const char c : text)
      codes.push_back(std::min<int64_t>(static_cast<unsigned char>(c), 127));
    return torch::tensor(codes, torch::kLong);
  };
  const auto text = characters("classics/train", 400'000),
             held = characters("classics/valid", 20'000);

  std::map<std::string, std::vector<Figure>> results;
  for (const auto& law : kCompared) {
    const double gain = measured(law).gain;
    results[law] = lab.over_seeds([&](uint64_t) -> std::vector<double> {
      SmallCnn cnn(law, 1, lab.by_scale<int64_t>(4, 16, 64), 10);
      const double fashion_share =
          classify([&](const Tensor& x) { return cnn->forward(x); }, *cnn, fashion, cnn_steps);
      PlainMlp mlp(law, 784, 64, 20, 10, gain);
      const double digit_share = classify(
          [&](const Tensor& x) { return mlp->forward(x.flatten(1)); }, *mlp, digits, mlp_steps);
      return {fashion_share, digit_share, bits_per_character(law, text, held, text_steps)};
    });
  }
  // Ranks over tasks and seeds: 1 is best.
  std::map<std::string, double> rank;
  const size_t blocks = 3 * lab.seeds().size();
  for (size_t task = 0; task < 3; ++task)
    for (size_t seed = 0; seed < lab.seeds().size(); ++seed)
      for (const auto& a : kCompared)
        for (const auto& b : kCompared) {
          if (a == "identity" || b == "identity") continue;
          const double x = results[a][task].values[seed], y = results[b][task].values[seed];
          const double better = task == 2 ? x - y : y - x;  // of b over a
          rank[a] += (a == b        ? 1
                      : better > 0  ? 1
                      : better == 0 ? 0.5
                                    : 0) /
                     static_cast<double>(blocks);
        }
  auto table = lab.table("18 activations, three tasks",
                         {"law", "CNN with batch norm, Fashion-MNIST-3600",
                          "20 layers without norm, MNIST-10k", "characters, bits", "mean rank"});
  for (const auto& law : kCompared)
    table.row(law, results[law][0], results[law][1], results[law][2],
              law == "identity" ? study::Cell("floor") : study::Cell(rank[law]));
  lab.note(fmt::format(
      "mean ranks differ at the 5 % level when more than {:.1f} apart (Nemenyi, {} blocks)",
      3.489 * std::sqrt(18.0 * 19 / (6.0 * static_cast<double>(blocks))), blocks));

  const auto cnn = [&](const std::string& law) { return results[law][0].mean(); };
  const auto deep = [&](const std::string& law) { return results[law][1].mean(); };
  lab.claim("20 layers without norm: the better of Sigmoid and Elliott")
      .paper("saturating laws slow deep nets")
      .measured(std::max(deep("sigmoid"), deep("elliott")))
      .in_percent()
      .at_most(0.30);
  lab.claim("20 layers without norm: the worst of SELU, ELU, leaky ReLU and GELU")
      .measured(std::min({deep("selu"), deep("elu"), deep("leaky_relu"), deep("gelu")}))
      .in_percent()
      .at_least(0.85);
  double best = 0;
  for (const auto& law : kCompared) best = std::max(best, cnn(law));
  lab.claim("CNN with batch norm: best less ReLU")
      .measured(best - cnn("relu"))
      .in_percent()
      .at_most(0.02);
  const double family =
      (cnn("relu") + cnn("leaky_relu") + cnn("prelu:per_channel") + cnn("abrelu")) / 4;
  lab.claim("CNN with batch norm: mean of the ReLU family less Sigmoid")
      .measured(family - cnn("sigmoid"))
      .in_percent()
      .at_least(0.01);
  lab.claim("CNN with batch norm: the better of trained PAU and PReLU less ReLU")
      .measured(std::max(cnn("pau"), cnn("prelu:per_channel")) - cnn("relu"))
      .in_percent()
      .at_least(-0.005);
}

void run(study::Lab& lab) {
  properties(lab);
  speed(lab);
  if (lab.has("fashion-mnist", "the benchmark of small networks")) benchmark(lab);
  lab.not_shown("CIFAR-10/100, Multi30k and LibriSpeech tables", "none of these data ships");
  lab.note(
      "the official PDELU computes ReLU (an in-place bug), its VGG files give channel counts as "
      "slopes, its GoogLeNet leaky ReLU is the identity: those columns of the paper compare other "
      "laws");
}

const auto registered = study::add({.slug = "activation-survey"}, run);
}  // namespace
