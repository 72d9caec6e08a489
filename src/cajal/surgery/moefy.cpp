#include "cajal/surgery/moefy.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/layers/ffn/balancing.h"
#include "cajal/layers/ffn/experts.h"
#include "cajal/math/clusters.h"
#include "cajal/math/partition.h"
#include "cajal/models/lm/weights.h"
#include "cajal/surgery/inputs.h"
#include "cajal/surgery/share.h"
#include "cajal/surgery/split.h"

namespace cajal::surgery {
namespace {

std::span<const float> numbers(const torch::Tensor& t) {
  return {t.data_ptr<float>(), static_cast<size_t>(t.numel())};
}

/// Neurons sorted by the expert that each goes to.
std::vector<int32_t> by_expert(const std::vector<int64_t>& expert) {
  std::vector<int32_t> order(expert.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return expert[static_cast<size_t>(a)] < expert[static_cast<size_t>(b)];
  });
  return order;
}

/// Tokens on which two neurons fire together, in units of the first tenth of the counts that is not
/// 0; what is below 1 is no edge.
torch::Tensor coactivations(const torch::Tensor& fires) {
  const int64_t neurons = fires.size(1);
  auto both = torch::zeros({neurons, neurons});
  constexpr int64_t kTokens = 4096;  // at a time
  for (int64_t at = 0; at < fires.size(0); at += kTokens) {
    const auto some = fires.slice(0, at, std::min(fires.size(0), at + kTokens)).to(torch::kFloat);
    both.addmm_(some.t(), some);
  }
  both.fill_diagonal_(0);
  const auto sorted = std::get<0>(both.flatten().sort());
  double unit = 0;
  for (int tenth = 1; tenth <= 10 && unit == 0; ++tenth)
    unit = 0.99 * sorted[(sorted.numel() - 1) * tenth / 10].item<double>();
  return unit > 0 ? (both / unit).floor() : both;
}

/// What each neuron writes on the tokens, in so few numbers that k-means is quick: a random
/// projection keeps distances. Lengths stay: neurons that do nearly nothing come together.
torch::Tensor profiles(const torch::Tensor& writes, uint64_t seed) {
  constexpr int64_t kNumbers = 128;
  auto generator = at::detail::createCPUGenerator(seed);
  const auto project = torch::randn({writes.size(0), kNumbers}, generator);
  const auto seen = writes.t().mm(project);
  return (seen / seen.norm(2, -1).mean().clamp_min(1e-12)).contiguous();
}

/// The same network with its neurons in another order; weights keep their type.
lm::FeedForward in_order(const lm::FeedForward& ffn, const std::vector<int32_t>& order) {
  const auto index = torch::tensor(std::vector<int64_t>(order.begin(), order.end()), torch::kLong);
  const auto moved = [&](const Matrix& matrix, bool neurons_are_outputs) {
    if (!matrix.defined()) return matrix;
    const int axis = neurons_are_outputs == (matrix.major() == Major::output) ? 0 : 1;
    return Matrix::dense(matrix.stored().detach().index_select(axis, index), matrix.major());
  };
  const auto vector = [&](const torch::Tensor& t) {
    return t.defined() ? t.detach().index_select(0, index) : t;
  };
  lm::FeedForward out = ffn;
  auto& group = out.groups.front();
  group.key = moved(group.key, true), group.gate = moved(group.gate, true);
  group.value = moved(group.value, false);
  group.key_bias = vector(group.key_bias), group.gate_bias = vector(group.gate_bias);
  return out;
}

void check(const lm::Transformer& model) {
  const auto& layout = model->layout;
  require(!layout.experts, "moefy: this model is cut into experts already");
  require(layout.split.empty() && layout.shared_ffn.empty(),
          "moefy: the FFNs are split or shared, expected a plain model; cut first, then quantise");
  for (size_t l = 0; l < model->blocks.size(); ++l) {
    const auto& ffn = model->blocks[l].ffn;
    require(ffn.groups.size() == 1 && !is_quantised(ffn.groups[0].key.format()) &&
                !is_quantised(ffn.groups[0].value.format()) && !ffn.instead,
            "moefy: the FFN of layer {} is quantised or replaced, expected plain floats", l);
  }
}

/// Cuts one layer; x is what it reads.
class Layer {
 public:
  Layer(lm::Transformer& model, size_t layer, const ExpertCounts& counts, const MoefyOptions& o)
      : config_(model->config),
        ffn_(model->blocks[layer].ffn),
        rows_(neuron_rows(ffn_)),
        layer_(layer),
        counts_(counts),
        o_(o) {}

  /// What the experts do on x, [tokens, experts].
  torch::Tensor gains(const torch::Tensor& x) const {
    const auto act = activations(config_, rows_, x);
    const auto size = act.abs();
    return experts::gains(act.index_select(1, index_of(order(size, size > 0.01 * size.max()))),
                          counts_.experts, config_.gated);
  }

  lm::FeedForward run(const torch::Tensor& x, MoefyReport& report) {
    auto act = activations(config_, rows_, x);
    require(torch::isfinite(act).all().item<bool>() && torch::isfinite(x).all().item<bool>(),
            "moefy: the activations of layer {} are not finite", layer_);
    const auto size = act.abs();
    const auto fires = size > 0.01 * size.max();
    report.fired = fires.to(torch::kFloat).mean().item<double>();
    const auto order = this->order(size, fires);
    report.inertia = order.inertia;
    const auto index = index_of(order);
    act = act.index_select(1, index);
    const auto gains = experts::gains(act, counts_.experts, config_.gated);
    auto training = o_.training;
    training.seed += o_.seed + layer_;
    const auto router =
        train_router(o_.router, experts::centres(listens().index_select(0, index), counts_.experts),
                     x, gains, counts_.active, training);
    judge(router, x, gains, training, report);
    auto out = in_order(ffn_, order.order);
    auto experts = std::make_shared<lm::Experts>();
    experts->count = counts_.experts, experts->active = counts_.active;
    experts->router = o_.router;
    for (const auto& [to, from] :
         {std::pair(&experts->first, router.first), {&experts->second, router.second}})
      if (from.defined()) *to = from.to(torch::kHalf);
    out.experts = experts;
    if (o_.compensate) {
      const auto mask = experts::best(router.scores(x, gains), counts_.active);
      const auto lost = (act - experts::keep(act, mask)).mean(0);
      const auto mean = torch::matmul(lost, rows_.value.index_select(0, index));
      out.value_bias =
          out.value_bias.defined() ? out.value_bias.detach().to(torch::kFloat) + mean : mean;
    }
    return out;
  }

 private:
  const torch::Tensor& listens() const { return config_.gated ? rows_.gate : rows_.key; }

  ExpertOrder order(const torch::Tensor& size, const torch::Tensor& fires) const {
    const auto writes =
        torch::where(fires, size * rows_.value.norm(2, -1), torch::zeros_like(size));
    return expert_order(o_.split, listens(), writes, counts_.experts, o_.seed + layer_);
  }
  static torch::Tensor index_of(const ExpertOrder& order) {
    return torch::tensor(std::vector<int64_t>(order.order.begin(), order.order.end()),
                         torch::kLong);
  }

  void judge(const TrainedRouter& router, const torch::Tensor& x, const torch::Tensor& gains,
             const RouterOptions& training, MoefyReport& report) const {
    const int64_t learning = learning_tokens(x.size(0), training);
    const auto held = gains.slice(0, learning);
    const auto chosen = experts::best(router.scores(x.slice(0, learning), held), counts_.active);
    report.captured = router.captured;
    const double all = held.sum().item<double>();
    report.mass = all > 0 ? (held * chosen).sum().item<double>() / all : 1;
    const auto used = chosen.sum(0);
    report.dead_experts = (used == 0).sum().item<int64_t>();
    const auto p = used / used.sum();
    const double entropy = -(p * p.clamp_min(1e-30).log()).sum().item<double>();
    report.use_entropy =
        counts_.experts > 1 ? entropy / std::log(static_cast<double>(counts_.experts)) : 1;
  }

  const lm::Config& config_;
  const lm::FeedForward& ffn_;
  const NeuronRows rows_;
  size_t layer_;
  const ExpertCounts counts_;
  const MoefyOptions& o_;
};

}  // namespace

ExpertCounts expert_counts(const MoefyOptions& o, int64_t neurons) {
  ExpertCounts out;
  require(o.experts >= 0, "moefy: {} experts, expected 1 to {}", o.experts, neurons);
  if (o.experts == 0) {
    const int64_t size = neurons >= 1024 ? 32 : 16;
    require(
        neurons % size == 0,
        "moefy: experts of {} do not fit {} neurons; give a number of experts that divides them",
        size, neurons);
    out.experts = neurons / size;
  } else {
    require(o.experts <= neurons && neurons % o.experts == 0,
            "moefy: {} experts do not divide {} neurons", o.experts, neurons);
    out.experts = o.experts;
  }
  if (o.active != 0) {
    require(o.active >= 1 && o.active <= out.experts,
            "moefy: {} active of {} experts, expected 1 to {}", o.active, out.experts, out.experts);
    out.active = o.active;
  } else {
    require(o.ratio > 0 && o.ratio <= 1, "moefy: ratio is {}, expected above 0 and at most 1",
            o.ratio);
    // A hair less, so that 0.25 of 40 is 10 whatever the rounding of 0.25 x 40 does.
    out.active = std::clamp<int64_t>(
        static_cast<int64_t>(std::ceil(o.ratio * static_cast<double>(out.experts) - 1e-9)), 1,
        out.experts);
  }
  return out;
}

ExpertOrder expert_order(ExpertSplit split, const torch::Tensor& listens,
                         const torch::Tensor& writes, int64_t experts, uint64_t seed) {
  const int64_t neurons = listens.size(0);
  require(experts >= 1 && neurons % experts == 0, "moefy: {} experts do not divide {} neurons",
          experts, neurons);
  require(torch::isfinite(listens).all().item<bool>(), "moefy: a key is not finite");
  ExpertOrder out;
  if (split == ExpertSplit::random) {
    out.order.resize(static_cast<size_t>(neurons));
    std::iota(out.order.begin(), out.order.end(), 0);
    Random random(seed);
    shuffle(out.order, random);
  } else if (split == ExpertSplit::kmeans) {
    const auto unit =
        (listens / listens.norm(2, -1, /*keepdim=*/true).clamp_min(1e-12)).contiguous();
    const auto clusters =
        math::cluster_balanced(numbers(unit), unit.size(1), {.clusters = experts, .seed = seed});
    out.order = by_expert(clusters.label);
    out.inertia = clusters.inertia / static_cast<double>(neurons);
  } else {
    require(writes.dim() == 2 && writes.size(1) == neurons && writes.size(0) > 0,
            "moefy: {} of {} neurons needs what they do on some tokens", to_name(split), neurons);
    if (split == ExpertSplit::activity) {
      const auto seen = profiles(writes, seed);
      out.order = by_expert(
          math::cluster_balanced(numbers(seen), seen.size(1), {.clusters = experts, .seed = seed})
              .label);
      return out;
    }
    const auto links = coactivations(writes != 0).contiguous();
    out.order = by_expert(math::partition(math::Graph::of_matrix(numbers(links), neurons),
                                          {.parts = experts, .seed = seed}));
  }
  return out;
}

std::vector<int64_t> spread(const std::vector<torch::Tensor>& gains, int64_t total) {
  const auto layers = std::ssize(gains);
  require(layers > 0 && total >= layers, "moefy: {} experts in {} layers, expected one in each",
          total, layers);
  // What the k-th best expert of a token adds falls with k, so the greedy way is the best.
  std::vector<torch::Tensor> adds;
  for (const auto& gain : gains) {
    const auto sorted = std::get<0>(gain.sort(-1, /*descending=*/true)).mean(0);
    adds.push_back((sorted / sorted.sum().clamp_min(1e-30)).to(torch::kDouble).contiguous());
  }
  std::vector<int64_t> out(gains.size(), 1);
  for (int64_t left = total - layers; left > 0; --left) {
    size_t best = 0;
    double most = -1;
    for (size_t l = 0; l < out.size(); ++l)
      if (out[l] < adds[l].numel() && adds[l].data_ptr<double>()[out[l]] > most)
        best = l, most = adds[l].data_ptr<double>()[out[l]];
    require(most >= 0, "moefy: {} experts in all, there are fewer", total);
    ++out[best];
  }
  return out;
}

std::vector<MoefyReport> moefy(lm::Transformer& model, std::span<const int32_t> ids,
                               const MoefyOptions& o, Progress* progress) {
  const torch::NoGradGuard no_grad;
  check(model);
  auto& config = model->config;
  require(!o.compensate || config.ffn_bias,
          "moefy: compensation goes into the output bias, and the FFNs of this model have none");
  const auto counts = expert_counts(o, config.neurons);
  std::vector<MoefyReport> reports(model->blocks.size());
  std::vector<lm::FeedForward> built(model->blocks.size());
  std::vector<int64_t> active(built.size(), counts.active);
  if (o.shares == LayerShares::by_gains) {
    std::vector<torch::Tensor> gains(built.size());
    visit_inputs(
        model, ids, std::min<int64_t>(o.tokens, 4096),
        [&](size_t l, const torch::Tensor& x) { gains[l] = Layer(model, l, counts, o).gains(x); });
    active = spread(gains, counts.active * std::ssize(built));
  }
  visit_inputs(model, ids, o.tokens, [&](size_t l, const torch::Tensor& x) {
    built[l] = Layer(model, l, {counts.experts, active[l]}, o).run(x, reports[l]);
    if (progress) progress->add(1);
  });
  for (size_t l = 0; l < built.size(); ++l) model->blocks[l].ffn = std::move(built[l]);
  model->layout.experts = lm::ExpertLayout{counts.experts, active, o.router};
  return reports;
}

lm::Transformer clustered(const lm::Transformer& model, int64_t experts, uint64_t seed) {
  const torch::NoGradGuard no_grad;
  check(model);
  expert_counts({.experts = experts}, model->config.neurons);
  lm::Transformer out(model->config);
  out->embedding = model->embedding, out->blocks = model->blocks, out->output = model->output;
  out->layout = model->layout;
  for (size_t l = 0; l < out->blocks.size(); ++l) {
    auto& ffn = out->blocks[l].ffn;
    const auto rows = neuron_rows(ffn);
    ffn =
        in_order(ffn, expert_order(ExpertSplit::kmeans, rows.gate.defined() ? rows.gate : rows.key,
                                   {}, experts, seed + l)
                          .order);
  }
  out->eval();
  return out;
}

void relufy(lm::Transformer& model, std::span<const int32_t> ids, int64_t steps, uint64_t seed) {
  require(steps > 0, "relufy: {} steps, expected 1 or more", steps);
  model->config.law = Activation::relu;
  const auto type = model->blocks.at(0).ffn.groups.at(0).key.stored().scalar_type();
  tune(model, SharePlan::own(model->config.layers), ids, {.steps = steps, .seed = seed});
  settle(model, type);
}

void settle(lm::Transformer& model, torch::Dtype type) {
  const torch::NoGradGuard no_grad;
  const auto& map = lm::name_maps(model->config.family)[0];
  for (auto& slot : lm::weight_slots(*model, map, lm::written_prefix(map, model->config))) {
    for (auto& [name, vector] : slot.vectors) *vector = vector->detach();
    for (auto& [name, matrix] : slot.matrices)
      if (matrix->defined())
        *matrix = Matrix::dense(matrix->stored().detach().to(type), matrix->major());
  }
  if (model->config.tied) model->output.vocabulary.weight = model->embedding.tokens;
}

}  // namespace cajal::surgery
