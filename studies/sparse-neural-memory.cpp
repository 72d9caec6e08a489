#include <cmath>
#include <map>

#include "cajal/study/subject.h"
#include "cajal/surgery/as_memory.h"
#include "cajal/train/sparse_memory.h"

namespace {
using namespace cajal;
using study::Figure;

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
    const train::MemoryPlan dense{"dense",
                                  {.width = preset_.width,
                                   .neurons = preset_.neurons,
                                   .block = preset_.neurons,
                                   .layers = preset_.layers}};
    add(table, dense);
    for (const auto& row :
         train::memory_plans(preset_.width, preset_.neurons, times_, preset_.layers, blocks))
      add(table, row);
    claims(blocks);
  }

 private:
  static std::string key(const train::MemoryPlan& row) {
    return fmt::format("{}/{}", row.name, row.options.block);
  }

  void add(study::TableWriter& table, const train::MemoryPlan& row) {
    const auto cost = cost_of(row.options);
    const auto f = lab_.over_seeds(fmt::format("{}, g {}", row.name, row.options.block),
                                   [&](uint64_t seed) -> std::vector<double> {
                                     const auto found = train::fit_memory_language(
                                         preset_, row.options, train_, valid_, seed, lab_.device());
                                     return {found.bits_per_byte,
                                             found.use_entropy,
                                             found.dead_blocks,
                                             found.bytes_per_second,
                                             static_cast<double>(found.parameters),
                                             static_cast<double>(found.base_multiply_adds)};
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
    o.width = width;
    const auto count = lab.over_seeds("facts, " + name, [&](uint64_t) {
      return train::facts_held(o, facts, lab.by_scale(2, 120, 300));
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
      SparseMemoryOptions o{.block = g, .selector = selector};
      o.active_blocks = std::llround(share * static_cast<double>(neurons) / static_cast<double>(g));
      const auto part =
          fmt::format("opt-classics, {}, g {}, {} cells", name, g, o.active_blocks * g);
      const double bits = lab.part(part, [&, o] {
        auto form = subject->copy();
        surgery::read_in_blocks(form, o);
        return subject->bits_per_byte(form);
      });
      table.row(name, g, o.active_blocks * g, bits, bits / dense - 1);
    }
}

void run(study::Lab& lab) {
  OnLanguage(lab).run();
  on_facts(lab);
  on_trained(lab);
  for (const auto& [g, share] : {std::pair{64, 0.125}, {256, 0.03125}}) {
    const auto cost =
        cost_of({.width = 1024, .neurons = 16 * 4096, .block = g, .active_blocks = 4096 / g});
    lab.claim(fmt::format("E 16, g {}: multiply-adds of Avg-K's choice over its memory's", g))
        .paper("about 1 % of a model")
        .measured(static_cast<double>(cost.selector) / static_cast<double>(cost.memory))
        .in_percent()
        .between(share - 1e-4, share + 1e-4);
  }
  lab.not_shown("perplexities after 60 B tokens",
                "the text has 0.1 B bytes; only orders can be compared");
  lab.not_shown("llama-classics read in blocks",
                "its neurons are gated: two keys each, which a key-value memory does not have");
  lab.not_shown("the paths agree to 1e-5 with gradients; Avg-K of g 1 chooses VanillaM's cells",
                "facts of the code: tests/layers/sparse_memory_test.cpp");
  if (lab.scale() != study::Scale::full)
    lab.not_shown("orders at E = 16 and 0.7 of the dense speed on a GPU",
                  "the standard form has E = 4, a small network and a processor; --full has both");
}

const auto registered = study::add({.slug = "sparse-neural-memory"}, run);
}  // namespace
