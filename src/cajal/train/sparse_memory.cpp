#include "cajal/train/sparse_memory.h"

#include <cmath>
#include <functional>
#include <memory>

#include "cajal/core/timing.h"
#include "cajal/layers/ffn/balancing.h"
#include "cajal/train/tree_classifier.h"

namespace cajal::train {

std::vector<MemoryPlan> memory_plans(int64_t width, int64_t dense, int64_t times, int64_t layers,
                                     const std::vector<int64_t>& blocks) {
  SparseMemoryOptions base{.width = width, .neurons = times * dense, .layers = layers};
  const auto with = [&](Selector selector, int64_t block,
                        const std::function<void(SparseMemoryOptions&)>& more = {}) {
    auto o = base;
    o.selector = selector, o.block = block, o.active_blocks = dense / block;
    if (more) more(o);
    return o;
  };
  std::vector<MemoryPlan> rows = {
      {"wide (all cells)",
       with(Selector::avg_k, times * dense, [](auto& o) { o.active_blocks = 1; })},
      {"Switch", with(Selector::switched, dense, [](auto& o) { o.losses = true; })},
      {"Switch without its loss",
       with(Selector::switched, dense, [](auto& o) { o.losses = true, o.auxiliary = 0; })},
      {"hash of 1 byte", with(Selector::random_hash, dense)},
      {"hash of 2 bytes",
       with(Selector::random_hash, dense, [](auto& o) { o.ngram = 2, o.ids = 4096; })}};
  for (const auto block : blocks) {
    rows.push_back({"Avg-K", with(Selector::avg_k, block)});
    if (block < dense)
      rows.push_back({"hash of 2 bytes", with(Selector::random_hash, block,
                                              [](auto& o) { o.ngram = 2, o.ids = 4096; })});
  }
  const auto middle = blocks.size() > 1 ? blocks[1] : blocks[0];
  rows.push_back({"Avg-K, gate softmax",
                  with(Selector::avg_k, middle, [](auto& o) { o.gate = BlockGate::softmax; })});
  rows.push_back({"Avg-K, gate sigmoid",
                  with(Selector::avg_k, middle, [](auto& o) { o.gate = BlockGate::sigmoid; })});
  rows.push_back({"noisy top-2 experts",
                  with(Selector::noisy_top_k, dense / 2, [](auto& o) { o.losses = true; })});
  rows.push_back({"Avg-K, shared experts", with(Selector::avg_k, middle, [&](auto& o) {
                    o.active_blocks -= 1, o.shared = middle;
                  })});
  rows.push_back({"VanillaM", with(Selector::vanilla, 1)});
  rows.push_back({"LoRKM", with(Selector::low_rank, 1, [&](auto& o) { o.rank = width / 4; })});
  const auto side = static_cast<int64_t>(std::sqrt(static_cast<double>(times * dense)));
  rows.push_back(
      {"PKM-FFN", with(Selector::product_key, 1, [&](auto& o) { o.neurons = side * side; })});
  return rows;
}

MemoryLanguage fit_memory_language(const SmallLanguageOptions& preset,
                                   const SparseMemoryOptions& options, const torch::Tensor& train,
                                   const torch::Tensor& valid, uint64_t seed,
                                   torch::Device device) {
  SmallLanguageModel model(preset, seed, device);
  const auto counts = std::make_shared<torch::Tensor>();
  for (int64_t layer = 1; layer < preset.layers; layer += 2) {
    SparseMemory memory(options);
    model.replace(layer, memory.ptr(),
                  [memory, counts, &model, watched = layer == 1](const torch::Tensor& x,
                                                                 const torch::Tensor& ids) mutable {
                    const auto [y, loss] = memory->forward(x, ids);
                    model.add_loss(loss);
                    if (watched && !memory->is_training()) {
                      const auto rows = x.reshape({-1, x.size(-1)});
                      const auto more = balancing::count(memory->select(rows, ids).blocks.cpu(),
                                                         memory->blocks());
                      *counts = counts->defined() ? *counts + more : more;
                    }
                    return y;
                  });
  }
  model.fit(train);
  MemoryLanguage out;
  const Stopwatch clock;
  out.bits_per_byte = model.bits_per_byte(valid);
  out.bytes_per_second = static_cast<double>(valid.numel()) / clock.seconds();
  const auto use = balancing::use_of(*counts);
  out.use_entropy = use.entropy, out.dead_blocks = use.dead();
  out.parameters = model.parameter_count(), out.base_multiply_adds = model.base_multiply_adds();
  return out;
}

double facts_held(const SparseMemoryOptions& options, int64_t facts, int64_t epochs) {
  auto o = options;
  o.outputs = 64, o.deviation = 0, o.bias = true;
  const Labelled all{torch::randn({facts, o.width}),
                     torch::randint(o.outputs, {facts}, torch::kLong)};
  SparseMemory memory(o);
  const auto score =
      fit_experts(memory, {"facts", all, all, all},
                  {.epochs = epochs, .batch = 512, .learning_rate = 5e-3, .weight_decay = 0});
  return score.valid * static_cast<double>(facts);
}

}  // namespace cajal::train
