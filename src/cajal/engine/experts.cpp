#include "cajal/engine/experts.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cajal/core/error.h"
#include "cajal/kernels/gemm_feed_forward.h"

namespace cajal::engine {
namespace {

// Up to so many tokens a bank reads what any of them uses; beyond, experts gather their tokens.
constexpr int64_t kFewTokens = 4;

/// Neurons of an expert.
int64_t checked_size(const StoredFeedForward& network, int64_t experts) {
  require(network.groups.size() == 1, "experts: the network is split, expected one group");
  const int64_t neurons = network.groups.front().neurons();
  require(experts >= 1 && neurons % experts == 0, "experts: {} do not divide {} neurons", experts,
          neurons);
  return neurons / experts;
}

bool falls_silent(Law law) {
  float y = -100;
  apply_law(law, &y, 1, &y);
  return y == 0;
}

NeuronBank bank_of(const StoredFeedForward& network, int64_t experts) {
  const auto& group = network.groups.front();
  NeuronRows rows;
  rows.key = group.key.weight, rows.gate = group.gate.weight;
  rows.key_bias = group.key.bias, rows.gate_bias = group.gate.bias;
  if (group.value.defined()) {
    rows.value_by_output = group.value.weight;
  } else {
    rows.value = group.values;
  }
  BankPlan plan;
  const auto format = group.value.defined() ? group.value.weight.format : group.values.format;
  const int64_t size = group.neurons() / experts;
  // Experts that do not fill groups begin a group of their own each.
  const bool whole_groups = size % kTileRows == 0;
  plan.sections.assign(whole_groups ? 1 : static_cast<size_t>(experts),
                       {whole_groups ? group.neurons() : size, group.key.weight.format, format});
  // With a row a neuron, values are not encoded anew and silent neurons are not read either.
  const bool by_neuron = !group.value.defined() || (!network.gated && falls_silent(network.law));
  plan.value =
      by_neuron && !(is_quantised(format) && group.value.defined()) ? Form::neurons : Form::groups;
  return NeuronBank(rows, network.law, plan, "experts", network.bias);
}

/// The network for many tokens at once: one product an expert.
class ManyTokens {
 public:
  ManyTokens(std::shared_ptr<const StoredFeedForward> network, int64_t experts, int64_t active)
      : network_(std::move(network)), experts_(experts), active_(active) {
    const auto& group = network_->groups.front();
    rows_.key = group.key.weight, rows_.law = network_->law;
    if (network_->gated) rows_.gate = group.gate.weight;
    rows_.layout = group.value.defined() ? ValueLayout::by_output : ValueLayout::by_neuron;
    rows_.value = group.value.defined() ? group.value.weight : group.values;
    const auto& bias = network_->gated ? group.gate.bias : group.key.bias;
    rows_.key_bias = bias.empty() ? nullptr : bias.data();
    for (int64_t e = 0; e <= experts; ++e) borders_.push_back(e * (group.neurons() / experts));
  }

  /// Whether the kernel can do it: no key biases beside gates, no block of values in two experts.
  bool fits() const {
    const auto& group = network_->groups.front();
    return !(network_->gated && !group.key.bias.empty()) &&
           (rows_.layout == ValueLayout::by_neuron ||
            borders_[1] % block_values(rows_.value.format) == 0);
  }

  void run(Input& x, const int32_t* chosen, float* y) const {
    std::vector<int64_t> begin(static_cast<size_t>(experts_) + 1);
    const int64_t count = x.batch * active_;
    for (int64_t i = 0; i < count; ++i) ++begin[static_cast<size_t>(chosen[i]) + 1];
    std::partial_sum(begin.begin(), begin.end(), begin.begin());
    std::vector<int32_t> token(static_cast<size_t>(count));
    auto next = begin;
    for (int64_t i = 0; i < count; ++i)
      token[static_cast<size_t>(next[static_cast<size_t>(chosen[i])]++)] =
          static_cast<int32_t>(i / active_);
    for (int64_t b = 0; b < x.batch; ++b) {
      if (network_->bias.empty()) {
        std::fill_n(y + b * x.width, x.width, 0.0f);
      } else {
        std::copy_n(network_->bias.data(), x.width, y + b * x.width);
      }
    }
    const bool rounds = x.arithmetic == Arithmetic::rounded && rows_.key.format != Format::f32;
    grouped_feed_forward(rows_, {.rows = borders_, .begin = begin, .token = token}, x.values,
                         x.batch, y, x.threads, rounds ? Precision::bf16 : Precision::f32);
  }

 private:
  std::shared_ptr<const StoredFeedForward> network_;
  FeedForwardRows rows_;
  int64_t experts_, active_;
  std::vector<int64_t> borders_;
};

}  // namespace

ExpertChoice oracle_experts(const std::shared_ptr<const StoredFeedForward>& network,
                            int64_t experts, int64_t count) {
  const int64_t size = checked_size(*network, experts);
  const auto gains = [network, experts, size](const float* x, int64_t batch, ThreadPool& threads,
                                              float* scores) {
    const auto& group = network->groups.front();
    const int64_t neurons = group.neurons();
    Input input(x, batch, group.key.inputs(), Arithmetic::rounded, threads);
    std::vector<float> act(static_cast<size_t>(batch * neurons)), gate;
    group.key.apply(input, act.data());
    if (network->gated) {
      gate.resize(act.size());
      group.gate.apply(input, gate.data());
      apply_gate(network->law, gate.data(), act.data(), batch * neurons, act.data());
    } else {
      apply_law(network->law, act.data(), batch * neurons, act.data());
    }
    for (int64_t e = 0; e < batch * experts; ++e) {
      const auto* of = act.data() + e * size;
      scores[e] = std::accumulate(of, of + size, 0.0f, [&](float sum, float a) {
        return sum + (network->gated ? std::fabs(a) : std::max(0.0f, a));
      });
    }
  };
  return choose_best(gains, experts, count);
}

FeedForward run_experts(const std::shared_ptr<const StoredFeedForward>& network,
                        const ExpertChoice& choice, int64_t experts, int64_t count) {
  checked_size(*network, experts);
  auto bank = bank_of(*network, experts);
  std::vector<int32_t> first_group;
  for (int64_t e = 0; e <= experts; ++e)
    first_group.push_back(static_cast<int32_t>(bank.groups() / experts * e));
  auto selector = route(choice, 0, std::move(first_group), count, bank);
  if (bank.value_form() == Form::neurons && falls_silent(network->law)) selector.silent = 0.0f;
  const auto single =
      std::make_shared<const SparseFeedForward>(std::move(bank), std::move(selector));
  const auto many = std::make_shared<const ManyTokens>(network, experts, count);
  return [=](Input& x, float* y) {
    if (x.batch <= kFewTokens || !many->fits()) {
      single->forward(x.values, x.batch, y, x.threads);
      return;
    }
    std::vector<int32_t> chosen(static_cast<size_t>(x.batch * count));
    choice(x.values, x.batch, x.threads, chosen.data());
    many->run(x, chosen.data(), y);
  };
}

}  // namespace cajal::engine
