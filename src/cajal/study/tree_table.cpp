#include "cajal/study/tree_table.h"

#include <cmath>

namespace cajal::study {

Figure TreeFigures::gap() const {
  Figure out;
  for (size_t i = 0; i < test.values.size(); ++i)
    out.values.push_back(100 * std::abs(soft.values.at(i) - test.values[i]));
  return out;
}

TreeTable::TreeTable(Lab& lab, train::ClassifierData data)
    : lab_(lab),
      data_(std::move(data)),
      features_(data_.train.x.size(1)),
      classes_(data_.train.y.max().item<int64_t>() + 1),
      table_(lab.table(data_.name + ", accuracy",
                       {"layer", "variant", "training width", "inference width", "train", "test",
                        "test, soft", "node entropy", "leaves used", "use entropy", "s"})) {}

TreeFigures TreeTable::tree(const std::string& variant, FastFeedForwardOptions options,
                            const std::vector<train::TreePhase>& phases) {
  options.width = features_, options.outputs = classes_;
  const auto name = fmt::format("l{} D{}", options.leaf_width, options.depth);
  const FastFeedForward shape(options);
  return row(name, variant, shape->training_width(), shape->inference_width(),
             name + ", " + variant, [&] {
               FastFeedForward layer(options);
               return train::fit_tree(layer, data_, phases, steps);
             });
}

TreeFigures TreeTable::dense(const std::string& variant, int64_t neurons, int64_t epochs) {
  const auto name = fmt::format("dense {}", neurons);
  return row(name, variant, neurons, neurons, name, [&] {
    FastFeedForward layer(
        FastFeedForwardOptions{.width = features_, .outputs = classes_, .leaf_width = neurons});
    return train::fit_tree(layer, data_,
                           {{.epochs = epochs, .entropy_from = 0, .entropy_to = 0, .keep_from = 0}},
                           steps);
  });
}

TreeFigures TreeTable::experts(const std::string& variant, SparseMemoryOptions options,
                               int64_t epochs) {
  options.width = features_, options.outputs = classes_;
  options.bias = options.losses = true, options.deviation = 0;
  const int64_t count = options.neurons / options.block;
  const auto name =
      fmt::format("{} experts of {}, top {}", count, options.block, options.active_blocks);
  return row(name, variant, options.neurons + count + options.shared,
             options.active_blocks * options.block + count + options.shared, name + ", " + variant,
             [&] {
               SparseMemory layer(options);
               auto of = steps;
               of.epochs = epochs;
               return train::fit_experts(layer, data_, of);
             });
}

TreeFigures TreeTable::row(const std::string& layer, const std::string& variant, int64_t stored,
                           int64_t read, const std::string& part,
                           const std::function<train::TreeScore()>& run) {
  auto known = known_.find(part);
  if (known == known_.end()) {
    const auto f = lab_.over_seeds(data_.name + ", " + part, [&](uint64_t) -> std::vector<double> {
      const auto s = run();
      return {s.train, s.test, s.test_soft, s.entropy, s.use.used, s.use.entropy, s.blend};
    });
    known = known_.emplace(part, TreeFigures{f[0], f[1], f[2], f[3], f[4], f[5], f[6]}).first;
  }
  const auto& f = known->second;
  table_.row(layer, variant, stored, read, f.train, f.test, f.soft, f.entropy, f.used,
             f.use_entropy, f.blend);
  return f;
}

}  // namespace cajal::study
