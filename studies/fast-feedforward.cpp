#include <bit>

#include "cajal/core/timing.h"
#include "cajal/models/lm/generate.h"
#include "cajal/study/beside_dense.h"
#include "cajal/study/subject.h"
#include "cajal/study/tree_table.h"
#include "cajal/surgery/distill_fff.h"
#include "cajal/train/small_vision.h"

namespace {
using namespace cajal;
using study::Figure;

int64_t log2_of(int64_t n) { return std::countr_zero(static_cast<uint64_t>(n)); }

double points(const Figure& a, const Figure& b) { return 100 * (a.mean() - b.mean()); }

void on_digits(study::Lab& lab) {
  const int64_t width = lab.by_scale(16, 128, 128), epochs = lab.by_scale(2, 60, 150);
  study::TreeTable rows(
      lab, lab.smoke() ? train::tree_classes({.count = 256}) : train::image_classes("mnist"));
  const auto tree = [&](const char* variant, int64_t leaf, const train::TreePhase& phase) {
    return rows.tree(variant, {.leaf_width = leaf, .depth = log2_of(width / leaf)}, {phase});
  };
  const train::TreePhase straight{.epochs = epochs, .entropy_to = 1, .form = TreeForm::straight};
  const auto ceiling = rows.dense("of the training width", width, epochs);
  double worst = 0, narrow = 0, gap = 0, entropy = 0;
  int narrow_rows = 0;
  for (const int64_t leaf :
       lab.smoke() ? std::vector<int64_t>{2} : std::vector<int64_t>{1, 4, 8, 32}) {
    const auto fff = tree("hardened, straight-through", leaf, straight);
    const auto floor = rows.dense("of the inference width", leaf + log2_of(width / leaf), epochs);
    gap = std::max(gap, fff.gap().mean());
    entropy = std::max(entropy, fff.entropy.mean());
    if (leaf >= 8) worst = std::max(worst, points(ceiling.test, fff.test));
    if (leaf <= 4) narrow += points(fff.test, floor.test), ++narrow_rows;
  }
  tree("hardened, soft", 4, {.epochs = epochs});
  tree("hardened, soft, balanced", 4, {.epochs = epochs, .balance = 1});
  const auto soft = tree("not hardened", 4, {.epochs = epochs, .entropy_from = 0, .entropy_to = 0});
  SparseMemoryOptions experts{.neurons = width, .block = 8, .active_blocks = 2};
  experts.selector = Selector::noisy_top_k;
  rows.experts("noisy gate", experts, epochs);
  experts.selector = Selector::switched, experts.active_blocks = 1;
  rows.experts("Switch", experts, epochs);
  lab.claim("hardened trees: soft and hard accuracy differ by points at most")
      .measured(gap)
      .at_most(0.5);
  lab.claim("hardened trees: mean entropy of a node, nats, at most").measured(entropy).at_most(0.1);
  lab.claim("without hardening the gap is larger, points")
      .measured(soft.gap().mean() - gap)
      .at_least(0);
  lab.claim("points below dense of the training width, l >= 8, at most")
      .paper("0 to 5")
      .measured(worst)
      .at_most(5);
  lab.claim("points above dense of the inference width, mean of l <= 4")
      .measured(narrow / narrow_rows)
      .at_least(2);
}

void on_regions(study::Lab& lab) {
  const int64_t epochs = lab.by_scale(2, 20, 40);
  study::TreeTable rows(lab, train::tree_classes({.count = lab.by_scale(256, 40'000, 160'000)}));
  rows.steps.learning_rate = 5e-3;
  const auto dense = rows.dense("of the inference width", 12, epochs);
  for (const int64_t neurons : {32, 128}) rows.dense("wide", neurons, epochs);
  const auto tree = [&](int64_t leaf, int64_t depth) {
    return rows.tree("straight-through", {.leaf_width = leaf, .depth = depth},
                     {{.epochs = epochs, .entropy_to = 0.3, .form = TreeForm::straight}});
  };
  const auto fff = tree(8, 4);
  tree(8, 5), tree(16, 4);
  lab.claim("oblique tree task: points above dense of the inference width")
      .measured(points(fff.test, dense.test))
      .at_least(10);
}

void on_vision(study::Lab& lab) {
  const auto data = lab.smoke() ? train::tree_classes({.count = 16, .features = 784})
                                : train::image_classes("fashion-mnist");
  const train::SmallVisionOptions options{.epochs = lab.by_scale(1, 12, 100), .hardness = 1};
  const auto dense = lab.over_seeds(
      "vision, dense", [&](uint64_t) { return train::fit_small_vision(options, data); });
  const auto fff = lab.over_seeds("vision, trees", [&](uint64_t) {
    return train::fit_small_vision(options, data, train::TreesOf{.leaf_width = 1, .depth = 7});
  });
  auto table = lab.table("vision transformer, 4 layers of width 64, " + data.name,
                         {"feed-forward", "neurons read", "test"});
  table.row("dense 128", 128, dense);
  table.row("FFF l 1 D 7", 8, fff);
  lab.claim("share of the dense accuracy kept by FFF l 1, D 7 in a vision transformer")
      .paper("94.2 %")
      .measured(fff.mean() / dense.mean())
      .in_percent()
      .at_least(0.94);
}

/// Times of kernels whose weights come from memory each time.
class Speed {
 public:
  explicit Speed(study::Lab& lab)
      : lab_(lab),
        bytes_(lab.by_scale<int64_t>(1 << 16, 1 << 29, 1 << 29)),
        rounds_(lab.by_scale(3, 60, 200)),
        table_(lab.table(fmt::format("speed, width {}, cold, {} threads, times in microseconds",
                                     kWidth, threads_.size()),
                         {"layer", "neurons", "read", "batch", "time", "dense", "times faster"})) {}

  void nodes() {
    const int64_t depth = lab_.by_scale(4, 11, 11), neurons = (int64_t{2} << depth) - 1;
    MatrixCopies key(Format::f32, neurons, kWidth, bytes_),
        value(Format::f32, neurons, kWidth, bytes_);
    const auto faster = [&](int64_t batch) {
      return beside_dense(fmt::format("FFFNodes D {}", depth), depth + 1, batch, key, value,
                          [&, batch](const float* x, float* y) {
                            const NodeForest forest{depth, 1, key.next(), value.next()};
                            forest_feed_forward(forest, x, batch, y, threads_);
                          });
    };
    lab_.claim("FFFNodes of 4095 neurons, one token, times dense")
        .paper("78")
        .measured(faster(1))
        .at_least(78);
    lab_.claim("the same, 256 tokens")
        .paper("40 (GPU)")
        .measured(faster(lab_.by_scale(4, 256, 256)))
        .at_least(10);
  }

  void tree() {
    const int64_t depth = lab_.by_scale(4, 12, 12);
    MatrixCopies node(Format::f32, (int64_t{1} << depth) - 1, kWidth, bytes_),
        key(Format::f32, 8 << depth, kWidth, bytes_),
        value(Format::f32, 8 << depth, kWidth, bytes_);
    lab_.claim("FFF of 32768 neurons in leaves of 8, one token, times dense")
        .paper("220")
        .measured(beside_dense(
            fmt::format("FFF l 8 D {}", depth), 8 + depth, 1, key, value,
            [&](const float* x, float* y) {
              tree_feed_forward({depth, node.next(), key.next(), value.next()}, x, 1, y, threads_);
            }))
        .at_least(220);
  }

  void levels() {
    const int64_t first = lab_.by_scale(3, 7, 7), last = lab_.by_scale(4, 12, 12);
    const auto seconds = lab_.part("speed, levels and experts", [&] {
      std::vector<TreeCopies> trees;
      for (int64_t depth = first; depth <= last; ++depth)
        trees.emplace_back(Format::f32, depth, 8, kWidth, bytes_ / 4);
      return study::beside_experts(trees, 4 * rounds_, threads_);
    });
    double growth = 0;
    for (int64_t depth = first; depth <= last; ++depth) {
      const auto* const of = &seconds[static_cast<size_t>(depth - first)];
      table_.row(fmt::format("FFF l 8 D {}", depth), 8 << depth, 8 + depth, 1, *of * 1e6, "", "");
      if (depth > first) growth = std::max(growth, of[0] / of[-1]);
    }
    table_.row(fmt::format("MoE top-2 of {} experts of 8", 1 << last), 8 << last, 16, 1,
               seconds.back() * 1e6, "", "");
    lab_.claim("time grows by this factor for each level, largest of D 8 to 12")
        .measured(growth)
        .at_most(1.25);
    lab_.claim("one token, times faster than top-2 experts of the same width")
        .paper("6")
        .measured(seconds.back() / seconds[seconds.size() - 2])
        .at_least(2);
  }

 private:
  static constexpr int64_t kWidth = 768;

  double beside_dense(const std::string& name, int64_t read, int64_t batch, MatrixCopies& key,
                      MatrixCopies& value,
                      const std::function<void(const float* x, float* y)>& layer) {
    const auto found = lab_.part(fmt::format("speed, {}, batch {}", name, batch), [&] {
      return study::beside_dense(key, value, batch, batch == 1 ? rounds_ : rounds_ / 6 + 1,
                                 threads_, layer);
    });
    table_.row(name, key.next().rows, read, batch, found.layer * 1e6, found.dense * 1e6,
               found.faster);
    return found.faster;
  }

  study::Lab& lab_;
  ThreadPool threads_;
  int64_t bytes_;
  int rounds_;
  study::TableWriter table_;
};

/// A trained language model whose FFNs are taught to trees, layer by layer.
void on_language(study::Lab& lab) {
  auto table = lab.table(
      "language models, FFNs distilled into trees",
      {"model", "feed-forward", "neurons read", "bits/byte", "tokens/s, batch 1", "times dense"});
  for (const char* name : {"opt-classics", "llama-classics"}) {
    auto subject = study::find_subject(lab, name);
    if (!subject) continue;
    const auto neurons = subject->config().neurons;
    const int64_t leaf = lab.by_scale<int64_t>(4, 32, 64), depth = lab.by_scale<int64_t>(2, 5, 5);
    const auto prompt = std::vector<int32_t>(subject->valid.begin(), subject->valid.begin() + 16);
    const auto tokens = lab.by_scale<int64_t>(4, 64, 128);
    surgery::DistillOptions options{.leaf_width = leaf,
                                    .depth = depth,
                                    .tokens = lab.by_scale<int64_t>(512, 8192, 131072),
                                    .steps = lab.by_scale<int64_t>(2, 60, 2000)};
    // Bits a byte, tokens a second and times faster, of the model as trained, with trees and with
    // dense networks of the inference width.
    const auto found = lab.part("distilled " + subject->name, [&, options]() mutable {
      auto trees = subject->copy(), dense = subject->copy();
      surgery::replace_by_trees(trees,
                                surgery::distill(subject->model, subject->calibration, options));
      options.leaf_width += depth, options.depth = 0;
      surgery::replace_by_trees(dense,
                                surgery::distill(subject->model, subject->calibration, options));
      const auto generate = [&](lm::Transformer& model) {
        return [&] { lm::generate(model, prompt, tokens, {.temperature = 0}); };
      };
      const auto times = time_interleaved(
          {generate(subject->model), generate(trees), generate(dense)}, lab.by_scale(1, 5, 20));
      std::vector<std::vector<double>> out;
      for (auto* model : {&subject->model, &trees, &dense})
        out.push_back({subject->bits_per_byte(*model),
                       static_cast<double>(tokens) / times.median_seconds(out.size()),
                       times.ratio(0, out.size())});
      return out;
    });
    const auto row = [&](const std::string& what, int64_t read, size_t i) {
      table.row(subject->name, what, read, found[i][0], found[i][1], found[i][2]);
      return found[i][0];
    };
    row(fmt::format("as trained, {}", neurons), neurons, 0);
    const double tree = row(fmt::format("FFF l {} D {}", leaf, depth), leaf + depth, 1);
    const double small = row("dense of the inference width", leaf + depth, 2);
    lab.claim(subject->name + ": bits a byte of the trees over dense of the inference width")
        .measured(tree / small)
        .at_most(1);
  }
}

void run(study::Lab& lab) {
  on_digits(lab);
  on_regions(lab);
  on_vision(lab);
  Speed speed(lab);
  speed.nodes(), speed.tree(), speed.levels();
  on_language(lab);
  lab.not_shown(
      "hard, inference and packed forms agree to 1e-5 for D 0 to 6; leaf weights sum to 1",
      "facts of the code, with the gradients: tests/layers/fast_feed_forward_test.cpp");
  lab.not_shown("GLUE accuracy of FFF-BERT, or a language model trained with FFFNodes",
                "needs hours to a day of training on a GPU");
  lab.not_shown("USPS, SVHN, CIFAR figures of the paper", "the data does not ship");
  lab.not_shown("hash routing beside the trees",
                "images have no token ids; see sparse-neural-memory");
}

const auto registered = study::add({.slug = "fast-feedforward"}, run);
}  // namespace
