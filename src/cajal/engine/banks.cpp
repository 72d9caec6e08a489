#include "cajal/engine/banks.h"

#include "cajal/core/error.h"

namespace cajal::engine {
namespace {

NeuronRows rows_of(const NeuronGroup& group) {
  NeuronRows rows;
  rows.key = group.key.weight, rows.gate = group.gate.weight;
  if (group.value.defined()) {
    rows.value_by_output = group.value.weight;
  } else {
    rows.value = group.values;
  }
  rows.key_bias = group.key.bias, rows.gate_bias = group.gate.bias;
  return rows;
}

NeuronBank bank_of(const StoredFeedForward& ffn, const BanksOptions& options,
                   std::span<const int32_t> order, Form key, const std::string& where) {
  require(order.empty() || ffn.groups.size() == 1, "{}: is split, and has its order already",
          where);
  std::vector<NeuronBank> banks;
  for (const auto& group : ffn.groups) {
    require(!group.key.is_packed(), "{}: banks are made of a network in Layout::stored", where);
    const auto rows = rows_of(group);
    BankPlan plan{.order = {order.begin(), order.end()},
                  .sections = {},
                  .key = key,
                  .gate = options.gate,
                  .value = options.value};
    if (options.format) plan.sections = {{rows.neurons(), *options.format, *options.format}};
    banks.emplace_back(rows, ffn.law, plan, where,
                       banks.empty() ? std::span<const float>(ffn.bias) : std::span<const float>());
  }
  return banks.size() == 1 ? std::move(banks.front()) : NeuronBank::join(std::move(banks), where);
}

}  // namespace

void use_banks(Network& network, const BanksOptions& options, const LayerSelector& selector,
               PassCount* count) {
  require(options.order.empty() || options.order.size() == network.layers.size(),
          "banks: orders for {} layers, expected {}", options.order.size(), network.layers.size());
  require(options.layer_key.empty() || options.layer_key.size() == network.layers.size(),
          "banks: forms of keys for {} layers, expected {}", options.layer_key.size(),
          network.layers.size());
  for (size_t l = 0; l < network.layers.size(); ++l) {
    auto& layer = network.layers[l];
    const auto where = fmt::format("layer {}", l);
    auto bank = bank_of(*layer.stored, options,
                        options.order.empty() ? std::span<const int32_t>()
                                              : std::span<const int32_t>(options.order[l]),
                        options.layer_key.empty() ? options.key : options.layer_key[l], where);
    auto chosen = selector(static_cast<int64_t>(l), bank);
    layer.feed_forward = [count, ffn = SparseFeedForward(std::move(bank), std::move(chosen),
                                                         options.bits)](Input& x, float* y) {
      const auto pass = ffn.forward(x.values, x.batch, y, x.threads);
      if (count == nullptr) return;
      count->bytes += pass.bytes, count->neurons += pass.neurons, count->of += pass.of;
    };
  }
}

}  // namespace cajal::engine
