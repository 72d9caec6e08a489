#include <cmath>
#include <map>

#include "cajal/core/timing.h"
#include "cajal/layers/ffn/balancing.h"
#include "cajal/layers/ffn/sparse_memory.h"
#include "cajal/study/subject.h"
#include "cajal/surgery/split.h"
#include "cajal/train/classifier.h"
#include "cajal/train/small_language.h"

namespace {
using namespace cajal;
using study::Figure;

struct Row {
  std::string name;
  SparseMemoryOptions options;
};

/// The selectors of the dossier over a memory of `times` the dense FFN's cells.
std::vector<Row> rows_of(int64_t width, int64_t dense, int64_t times, int64_t layers,
                         const std::vector<int64_t>& blocks) {
  SparseMemoryOptions base{.width = width, .neurons = times * dense, .layers = layers};
  const auto with = [&](Selector selector, int64_t block,
                        const std::function<void(SparseMemoryOptions&)>& more = {}) {
    auto o = base;
    o.selector = selector, o.block = block, o.active_blocks = dense / block;
    if (more) more(o);
    return o;
  };
  std::vector<Row> rows = {
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

class OnLanguage {
 public:
  explicit OnLanguage(study::Lab& lab) : lab_(lab) {
    if (lab.smoke()) {
      preset_ = {.width = 16,
                 .layers = 2,
                 .heads = 2,
                 .neurons = 64,
                 .context = 16,
                 .batch = 2,
                 .steps = 2};
      train_ = valid_ = (torch::rand({4096}) * 255).to(torch::kByte);
    } else {
      if (lab.scale() == study::Scale::standard)
        preset_ = {.width = 64,
                   .layers = 4,
                   .heads = 4,
                   .neurons = 256,
                   .context = 64,
                   .batch = 16,
                   .steps = 200,
                   .learning_rate = 3e-3};
      else
        preset_ = {.width = 512,
                   .layers = 8,
                   .heads = 8,
                   .neurons = 2048,
                   .context = 256,
                   .batch = 64,
                   .steps = 3000,
                   .learning_rate = 4e-4};
      train_ = train::text_bytes("classics/train", 100'000'000);
      valid_ = train::text_bytes("classics/valid", 65'536);
    }
    preset_.beta2 = 0.98;
    times_ = lab.by_scale(4, 4, 16);
  }

  void run() {
    auto table =
        lab_.table(fmt::format("bytes of classics, width {}, {} layers, every second FFN a memory "
                               "of {} times its cells, {} steps",
                               preset_.width, preset_.layers, times_, preset_.steps),
                   {"selector", "g", "stored", "active", "multiply-adds a token", "selector share",
                    "share of its FFN", "bits/byte", "use entropy", "dead blocks", "tokens/s"});
    const auto blocks =
        lab_.by_scale<std::vector<int64_t>>({64, 16}, {256, 64, 16}, {2048, 512, 128, 64, 32});
    Row dense{"dense",
              {.width = preset_.width,
               .neurons = preset_.neurons,
               .block = preset_.neurons,
               .layers = preset_.layers}};
    add(table, dense);
    for (const auto& row : rows_of(preset_.width, preset_.neurons, times_, preset_.layers, blocks))
      add(table, row);
    claims(blocks);
  }

 private:
  static std::string key(const Row& row) {
    return fmt::format("{}/{}", row.name, row.options.block);
  }

  void add(study::TableWriter& table, const Row& row) {
    const auto cost = cost_of(row.options);
    const auto f = lab_.over_seeds(
        row.name + fmt::format(", g {}", row.options.block),
        [&](uint64_t seed) -> std::vector<double> {
          train::SmallLanguageModel model(preset_, seed, lab_.device());
          auto counts = std::make_shared<torch::Tensor>();
          SparseMemory first{nullptr};
          for (int64_t layer = 1; layer < preset_.layers; layer += 2) {
            SparseMemory memory(row.options);
            if (!first) first = memory;
            model.replace(layer, memory.ptr(),
                          [memory, counts, &model, watched = first.ptr() == memory.ptr()](
                              const torch::Tensor& x, const torch::Tensor& ids) mutable {
                            const auto [y, loss] = memory->forward(x, ids);
                            model.add_loss(loss);
                            if (watched && !memory->is_training()) {
                              const auto chosen =
                                  memory->select(x.reshape({-1, x.size(-1)}), ids).blocks.cpu();
                              const auto more = balancing::count(chosen, memory->blocks());
                              *counts = counts->defined() ? *counts + more : more;
                            }
                            return y;
                          });
          }
          model.fit(train_);
          const Stopwatch clock;
          const double bits = model.bits_per_byte(valid_);
          const double rate = static_cast<double>(valid_.numel()) / clock.seconds();
          const auto use = balancing::use_of(*counts);
          return {bits,
                  use.entropy,
                  use.dead(),
                  rate,
                  static_cast<double>(model.parameter_count()),
                  static_cast<double>(model.base_multiply_adds())};
        });
    const auto stored = std::llround(f[4].mean()), base = std::llround(f[5].mean());
    const int64_t memories = preset_.layers / 2,
                  all = base + memories * (cost.memory + cost.selector);
    const double share = static_cast<double>(memories * cost.selector) / static_cast<double>(all);
    table.row(row.name, row.options.block, stored, stored - memories * (cost.stored - cost.active),
              all, share, static_cast<double>(cost.selector) / static_cast<double>(cost.memory),
              f[0], f[1], f[2], f[3]);
    found_[key(row)] = f;
  }

  void claims(const std::vector<int64_t>& blocks) {
    const auto bits = [&](const std::string& name, int64_t g) {
      return found_.at(fmt::format("{}/{}", name, g))[0];
    };
    const int64_t dense = preset_.neurons, fine = blocks.size() > 1 ? blocks[1] : blocks[0];
    const auto base = bits("dense", dense);
    double worst = -10;
    for (const auto& [name, f] : found_)
      if (!name.starts_with("dense") && !name.starts_with("wide"))
        worst = std::max(worst, f[0].mean() - base.mean());
    lab_.claim("every sparse memory is below dense: the largest difference in bits a byte")
        .paper("yes")
        .measured(worst)
        .at_most(0);
    const auto sd = [](const Figure& a, const Figure& b) {
      return std::sqrt((a.spread() * a.spread() + b.spread() * b.spread()) / 2);
    };
    for (const char* rival : {"Switch", "hash of 2 bytes"}) {
      const auto other = bits(rival, dense), ours = bits("Avg-K", fine);
      lab_.claim(fmt::format("Avg-K (g {}) below {} by this many seed deviations", fine, rival))
          .paper("lower")
          .measured((other.mean() - ours.mean()) / std::max(1e-9, sd(other, ours)))
          .at_least(2);
    }
    double rise = -10;
    for (size_t i = 1; i < blocks.size() && blocks[i] >= fine; ++i)
      rise = std::max(
          rise, (bits("Avg-K", blocks[i]).mean() - bits("Avg-K", blocks[i - 1]).mean()) /
                    std::max(1e-9, sd(bits("Avg-K", blocks[i]), bits("Avg-K", blocks[i - 1]))));
    lab_.claim("Avg-K gets better from g = 4d to smaller blocks: largest rise, seed deviations")
        .measured(rise)
        .at_most(1);
    const auto& avg = found_.at(fmt::format("Avg-K/{}", fine));
    lab_.claim(fmt::format("Avg-K, g {}: dead blocks", fine))
        .measured(avg[2])
        .in_percent()
        .at_most(0.05);
    lab_.claim(fmt::format("Avg-K, g {}: entropy of use", fine)).measured(avg[1]).at_least(0.9);
    const auto& plain = found_.at(fmt::format("dense/{}", dense));
    lab_.claim(fmt::format("Avg-K, g {}: tokens/s over dense", fine))
        .measured(avg[3].mean() / plain[3].mean())
        .at_least(0.7);
  }

  study::Lab& lab_;
  train::SmallLanguageOptions preset_;
  torch::Tensor train_, valid_;
  int64_t times_ = 4;
  std::map<std::string, std::vector<Figure>> found_;
};

/// How many random facts (a, b) -> c a memory holds at equal multiply-adds.
void on_facts(study::Lab& lab) {
  const int64_t facts = lab.by_scale(128, 4096, 16'384), width = 32, dense = 4 * width;
  auto table =
      lab.table(fmt::format("facts held of {}", facts), {"memory", "cells", "read", "facts"});
  const auto held = [&](const std::string& name, SparseMemoryOptions o) {
    o.width = width, o.outputs = 64, o.deviation = 0, o.bias = true;
    const auto count = lab.over_seeds("facts, " + name, [&](uint64_t) {
      const auto x = torch::randn({facts, width}), y = torch::randint(64, {facts}, torch::kLong);
      const train::ClassifierData data{"facts", {x, y}, {x, y}, {x, y}};
      SparseMemory memory(o);
      train::Classifier c{memory->parameters(), {}, [&](const torch::Tensor& in) {
                            return std::get<0>(memory->forward(in));
                          }};
      c.loss = [&](const torch::Tensor& in, const torch::Tensor& target, int64_t) {
        return -torch::log_softmax(std::get<0>(memory->forward(in)), -1)
                    .gather(1, target.unsqueeze(1))
                    .mean();
      };
      const auto run = train::fit(c, data,
                                  {.epochs = lab.by_scale(2, 120, 300),
                                   .batch = 512,
                                   .learning_rate = 5e-3,
                                   .weight_decay = 0});
      return run.valid * static_cast<double>(facts);
    });
    table.row(name, o.neurons, o.block * o.active_blocks, count);
    return count.mean();
  };
  const double plain = held("dense", {.neurons = dense, .block = dense});
  held("wide", {.neurons = 4 * dense, .block = 4 * dense});
  const double four =
      held("Avg-K g 16, E 4", {.neurons = 4 * dense, .block = 16, .active_blocks = dense / 16});
  held("Avg-K g 16, E 16", {.neurons = 16 * dense, .block = 16, .active_blocks = dense / 16});
  lab.claim("facts held at E = 4 over dense of equal multiply-adds")
      .measured(four / plain)
      .at_least(1.5);
}

/// A trained FFN read in blocks as it is, without training.
void on_trained(study::Lab& lab) {
  auto subject = study::find_subject(lab, "opt-classics");
  if (!subject) return;
  auto table = lab.table(subject->name + ", FFNs read in blocks without training",
                         {"selector", "g", "cells read", "bits/byte", "change"});
  const double dense =
      lab.part("opt-classics, dense", [&] { return subject->bits_per_byte(subject->model); });
  const int64_t neurons = subject->config().neurons, unit = lab.smoke() ? 16 : 19;
  for (const double share : {0.25, 0.5})
    for (const auto& [name, selector, g] : {std::tuple{"Avg-K", Selector::avg_k, unit},
                                            {"Avg-K", Selector::avg_k, int64_t{1}},
                                            {"VanillaM", Selector::vanilla, int64_t{1}},
                                            {"random", Selector::random_hash, unit}}) {
      SparseMemoryOptions o{.width = subject->config().width,
                            .neurons = neurons,
                            .block = g,
                            .active_blocks = std::llround(share * static_cast<double>(neurons) /
                                                          static_cast<double>(g)),
                            .selector = selector,
                            .bias = true};
      o.ids = 1;
      const auto part =
          fmt::format("opt-classics, {}, g {}, {} cells", name, g, o.active_blocks * g);
      const double bits = lab.part(part, [&, o] {
        auto form = subject->copy();
        for (auto& block : form->blocks) {
          const auto rows = surgery::neuron_rows(block.ffn);
          SparseMemory memory(o);
          memory->eval();
          const torch::NoGradGuard no_grad;
          memory->key.copy_(rows.key), memory->value.copy_(rows.value);
          if (rows.key_bias.defined()) memory->bias_key.copy_(rows.key_bias);
          memory->bias_value.zero_();
          const auto end = block.ffn.value_bias;
          block.ffn.instead = [memory, end](const torch::Tensor& x) mutable {
            const auto ids = torch::zeros({x.numel() / x.size(-1)}, torch::kLong);
            const auto y = std::get<0>(
                memory->forward(x, ids.view(x.sizes().slice(0, static_cast<size_t>(x.dim() - 1)))));
            return end.defined() ? y + end : y;
          };
        }
        return subject->bits_per_byte(form);
      });
      table.row(name, g, o.active_blocks * g, bits, bits / dense - 1);
    }
}

void run(study::Lab& lab) {
  OnLanguage(lab).run();
  on_facts(lab);
  on_trained(lab);
  const SparseMemoryOptions o{
      .width = 1024, .neurons = 16 * 4096, .block = 64, .active_blocks = 64};
  const auto cost = cost_of(o);
  lab.claim("E 16, g 64: multiply-adds of Avg-K's choice over those of its memory")
      .paper("about 1 % of a model")
      .measured(static_cast<double>(cost.selector) / static_cast<double>(cost.memory))
      .in_percent()
      .between(0.1249, 0.1251);
  lab.not_shown("perplexities after 60 B tokens",
                "the text has 0.1 B bytes; only orders can be compared");
  lab.not_shown("llama-classics read in blocks",
                "its neurons are gated: two keys each, which a key-value memory does not have");
  lab.note(
      "Paths, gradients, capacity, and the limits of every selector are tested in tests/layers.");
}

const auto registered = study::add({.slug = "sparse-neural-memory"}, run);
}  // namespace
