#include <torch/nn/functional/loss.h>

#include <cmath>

#include "cajal/core/timing.h"
#include "cajal/kernels/rows.h"
#include "cajal/layers/ffn/fff_packed.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/models/lm/generate.h"
#include "cajal/study/subject.h"
#include "cajal/surgery/distill_fff.h"
#include "cajal/train/tree_classifier.h"

namespace {
using namespace cajal;
using study::Figure;
using train::TreeScore;

int64_t log2_of(int64_t n) { return static_cast<int64_t>(std::llround(std::log2(n))); }

/// Rows of one data set: dense, experts and trees, with what the claims ask of them.
class OnClasses {
 public:
  OnClasses(study::Lab& lab, train::ClassifierData data, int64_t epochs)
      : lab_(lab),
        data_(std::move(data)),
        phase_{.epochs = epochs},
        features_(data_.train.x.size(1)),
        table_(lab.table(data_.name + ", accuracy",
                         {"layer", "training width", "inference width", "train", "test",
                          "test, soft", "node entropy", "leaves used", "use entropy"})) {}

  std::vector<Figure> tree(int64_t leaf, int64_t depth, double harden = 3) {
    auto phase = phase_;
    if (harden == 0) phase.entropy_from = phase.entropy_to = 0;
    const FastFeedForwardOptions options{
        .width = features_, .outputs = 10, .leaf_width = leaf, .depth = depth};
    const auto name = depth == 0 ? fmt::format("dense {}", leaf)
                                 : fmt::format("FFF l {} D {}{}", leaf, depth,
                                               harden == 0 ? ", not hardened" : "");
    return row(name, (leaf << depth) + (1 << depth) - 1, leaf + depth, [&] {
      FastFeedForward layer(options);
      return train::fit_tree(layer, data_, {phase});
    });
  }

  std::vector<Figure> experts(Selector selector, int64_t leaf, int64_t count, int64_t k) {
    SparseMemoryOptions options{.width = features_,
                                .outputs = 10,
                                .neurons = leaf * count,
                                .block = leaf,
                                .active_blocks = k,
                                .selector = selector,
                                .bias = true};
    options.deviation = 0, options.losses = true;
    const auto name =
        fmt::format("{} top-{}, {} experts of {}",
                    selector == Selector::switched ? "Switch" : "noisy MoE", k, count, leaf);
    return row(name, leaf * count + count, k * leaf + count, [&] {
      SparseMemory layer(options);
      return train::fit_experts(layer, data_, {.epochs = phase_.epochs});
    });
  }

 private:
  std::vector<Figure> row(const std::string& name, int64_t stored, int64_t read,
                          const std::function<TreeScore()>& run) {
    const auto f = lab_.over_seeds(data_.name + ", " + name, [&](uint64_t) -> std::vector<double> {
      const auto s = run();
      return {s.train, s.test, s.test_soft, s.entropy, s.use.used, s.use.entropy};
    });
    table_.row(name, stored, read, f[0], f[1], f[2], f[3], f[4], f[5]);
    return f;
  }

  study::Lab& lab_;
  train::ClassifierData data_;
  train::TreePhase phase_;
  int64_t features_;
  study::TableWriter table_;
};

double points(const std::vector<Figure>& a, const std::vector<Figure>& b) {
  return 100 * (a[1].mean() - b[1].mean());
}

void on_digits(study::Lab& lab) {
  const int64_t width = lab.by_scale(16, 128, 128);
  OnClasses rows(lab,
                 lab.smoke() ? train::tree_classes({.count = 256}) : train::image_classes("mnist"),
                 lab.by_scale(2, 25, 100));
  const auto ceiling = rows.tree(width, 0);
  double worst = 0, narrow = 0, gap = 0, entropy = 0;
  int narrow_rows = 0;
  for (const int64_t leaf :
       lab.smoke() ? std::vector<int64_t>{2} : std::vector<int64_t>{1, 4, 8, 32}) {
    const int64_t depth = log2_of(width / leaf);
    const auto fff = rows.tree(leaf, depth), floor = rows.tree(leaf + depth, 0);
    gap = std::max(gap, 100 * std::abs(fff[1].mean() - fff[2].mean()));
    entropy = std::max(entropy, fff[3].mean());
    if (leaf >= 8) worst = std::max(worst, points(ceiling, fff));
    if (leaf <= 4) narrow += points(fff, floor), ++narrow_rows;
  }
  const auto soft = rows.tree(4, log2_of(width / 4), 0);
  rows.experts(Selector::noisy_top_k, 8, width / 8, 2);
  rows.experts(Selector::switched, 8, width / 8, 1);
  lab.claim("hardened trees: soft and hard accuracy differ by points at most")
      .measured(gap)
      .at_most(0.5);
  lab.claim("hardened trees: mean entropy of a node, nats, at most").measured(entropy).at_most(0.1);
  lab.claim("without hardening the gap is larger, points")
      .measured(100 * std::abs(soft[1].mean() - soft[2].mean()) - gap)
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
  OnClasses rows(lab, train::tree_classes({.count = lab.by_scale(256, 8000, 40'000)}),
                 lab.by_scale(2, 40, 150));
  const auto dense = rows.tree(12, 0);
  rows.tree(32, 0), rows.tree(128, 0);
  const auto fff = rows.tree(8, 4);
  rows.tree(8, 5), rows.tree(16, 4);
  lab.claim("oblique tree task: points above dense of the inference width")
      .measured(points(fff, dense))
      .at_least(10);
}

/// A small vision transformer whose feed-forward networks are dense or trees.
double vision(study::Lab& lab, const train::ClassifierData& data, bool trees) {
  const Json json = {{"model_type", "vit"},    {"architectures", {"ViTForImageClassification"}},
                     {"hidden_size", 64},      {"intermediate_size", 128},
                     {"num_hidden_layers", 4}, {"num_attention_heads", 4},
                     {"image_size", 28},       {"patch_size", 7},
                     {"num_channels", 1},      {"num_labels", 10}};
  auto model = lm::initialise(lm::config_from_json(json, "vit"),
                              torch::randint(1 << 30, {1}).item<int64_t>(), 0.05);
  auto parameters = model->parameters();
  auto entropy = std::make_shared<torch::Tensor>(torch::zeros({}));
  auto hard = std::make_shared<bool>(false);
  for (auto& block : model->blocks) {
    if (!trees) break;
    FastFeedForward layer(FastFeedForwardOptions{.width = 64, .leaf_width = 1, .depth = 7});
    for (const auto& p : layer->parameters()) parameters.push_back(p);
    block.ffn.instead = [layer, entropy, hard](const torch::Tensor& x) mutable {
      if (*hard) return layer->infer(x);
      const auto traced = layer->trace(x);
      *entropy = *entropy + traced.entropy() / 4;
      return traced.y;
    };
  }
  const auto pixels = [](const torch::Tensor& x) { return x.view({-1, 1, 28, 28}); };
  train::Classifier classifier{parameters, {}, {}};
  const int64_t epochs = lab.by_scale(1, 12, 100);
  classifier.loss = [&](const torch::Tensor& x, const torch::Tensor& y, int64_t epoch) {
    *entropy = torch::zeros({});
    const auto loss = torch::nn::functional::cross_entropy(model->forward(pixels(x)), y);
    const double h =
        3 * std::min(1.0, 2.0 * static_cast<double>(epoch) / static_cast<double>(epochs));
    return trees ? loss + h * *entropy : loss;
  };
  classifier.logits = [&](const torch::Tensor& x) {
    *hard = true;
    auto y = model->forward(pixels(x));
    *hard = false;
    return y;
  };
  train::fit(classifier, data, {.epochs = epochs, .batch = 64, .keep_from = trees ? 0.5 : 0});
  return train::accuracy(classifier.logits, data.test);
}

void on_vision(study::Lab& lab) {
  train::ClassifierData data;
  if (lab.smoke()) {
    const train::Labelled noise{torch::randn({16, 784}), torch::randint(10, {16}, torch::kLong)};
    data = {"noise", noise, noise, noise};
  } else {
    data = train::image_classes("fashion-mnist");
  }
  const auto trained = [&](const char* name, bool trees) {
    return lab.over_seeds(name, [&](uint64_t) { return vision(lab, data, trees); });
  };
  const auto dense = trained("vision, dense", false), fff = trained("vision, trees", true);
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

/// Two forms of a dense network of `neurons`, of which the faster is the baseline.
struct DenseForms {
  torch::Tensor key, value;
  ThreadPool& threads;

  void rows(const torch::Tensor& x, torch::Tensor& y) const {
    const auto n = key.size(0), batch = x.size(0);
    const auto matrix = [&](const torch::Tensor& m) {
      return row_matrix(Format::f32, m.data_ptr<float>(), n, m.size(1), "dense");
    };
    auto fired = torch::empty({batch, n});
    dot_rows(matrix(key), RowSet::range(0, n), x.data_ptr<float>(), batch, fired.data_ptr<float>(),
             threads);
    fired.relu_();
    y.zero_();
    gather_axpy(matrix(value), RowSet::range(0, n), fired.data_ptr<float>(), batch,
                y.data_ptr<float>(), threads);
  }
  torch::Tensor products(const torch::Tensor& x) const {
    return torch::relu(torch::mm(x, key.t())).mm(value);
  }
};

void speed(study::Lab& lab) {
  const int64_t d = lab.by_scale(64, 768, 768), depth = lab.by_scale(4, 11, 11),
                large = lab.by_scale(4, 12, 12);
  const int rounds = lab.by_scale(3, 100, 100);
  ThreadPool threads;
  torch::manual_seed(1);
  auto table = lab.table("speed, times in microseconds",
                         {"layer", "neurons", "read", "batch", "time", "dense", "times faster"});
  const auto faster = [&](const std::string& name, int64_t neurons, int64_t read, int64_t batch,
                          const auto& packed) {
    const DenseForms dense{torch::randn({neurons, d}), torch::randn({neurons, d}), threads};
    // Each call gets other inputs, so that paths and leaves come from memory.
    std::vector<torch::Tensor> inputs;
    for (int i = 0; i < 64; ++i) inputs.push_back(torch::randn({batch, d}));
    auto y = torch::empty({batch, d});
    size_t call = 0;
    // Seconds of the layer and of the dense form, and their ratio.
    const auto found =
        lab.part(fmt::format("speed, {}, batch {}", name, batch), [&]() -> std::vector<double> {
          const auto next = [&]() -> const torch::Tensor& {
            return inputs[call++ % inputs.size()];
          };
          const auto times = time_interleaved(
              {[&] {
                 packed.run(next().template data_ptr<float>(), batch, y.data_ptr<float>(), threads);
               },
               [&] { dense.rows(next(), y); }, [&] { y = dense.products(next()); }},
              batch == 1 ? rounds : rounds / 4 + 1, lab.by_scale(1, 20, 20));
          const size_t best = times.median_seconds(1) < times.median_seconds(2) ? 1 : 2;
          return {times.median_seconds(0), times.median_seconds(best), times.ratio(best, 0)};
        });
    table.row(name, neurons, read, batch, found[0] * 1e6, found[1] * 1e6, found[2]);
    return found[2];
  };
  const FffNodes nodes(FffNodesOptions{.width = d, .depth = depth});
  const fff::PackedNodes packed_nodes(*nodes);
  const auto name = fmt::format("FFFNodes D {}", depth);
  lab.claim("FFFNodes of 4095 neurons, one token, times dense")
      .paper("78")
      .measured(faster(name, nodes->nodes(), depth + 1, 1, packed_nodes))
      .at_least(78);
  lab.claim("the same, 256 tokens")
      .paper("40 (GPU)")
      .measured(faster(name, nodes->nodes(), depth + 1, lab.by_scale(4, 256, 256), packed_nodes))
      .at_least(10);
  std::vector<double> growth;
  double before = 0, fff_time = 0;
  for (int64_t D = lab.by_scale(3, 7, 7); D <= large; ++D) {
    const FastFeedForward layer(FastFeedForwardOptions{.width = d, .leaf_width = 8, .depth = D});
    const fff::PackedTree packed(*layer);
    if (D == large)
      lab.claim("FFF of 32768 neurons in leaves of 8, one token, times dense")
          .paper("220")
          .measured(faster(fmt::format("FFF l 8 D {}", D), 8 << D, 8 + D, 1, packed))
          .at_least(220);
    std::vector<torch::Tensor> inputs;
    for (int i = 0; i < 64; ++i) inputs.push_back(torch::randn({1, d}));
    auto y = torch::empty({1, d});
    size_t call = 0;
    fff_time = lab.part(fmt::format("speed, FFF l 8 D {}", D), [&] {
      return time_interleaved({[&] {
                                packed.run(inputs[call++ % 64].data_ptr<float>(), 1,
                                           y.data_ptr<float>(), threads);
                              }},
                              4 * rounds, rounds)
          .median_seconds(0);
    });
    if (before > 0) growth.push_back(fff_time / before);
    before = fff_time;
  }
  lab.claim("time grows by this factor for each level, largest of D 8 to 12")
      .measured(*std::max_element(growth.begin(), growth.end()))
      .at_most(1.25);
  SparseMemoryOptions moe{.width = d,
                          .neurons = int64_t{8} << large,
                          .block = 8,
                          .active_blocks = 2,
                          .selector = Selector::noisy_top_k};
  SparseMemory experts(moe);
  experts->eval();
  const torch::NoGradGuard no_grad;
  const auto x = torch::randn({1, d});
  const double moe_time = lab.part("speed, experts", [&] {
    return time_interleaved({[&] { experts->forward(x); }}, rounds, lab.by_scale(1, 20, 20))
        .median_seconds(0);
  });
  table.row(fmt::format("MoE top-2 of {} experts of 8", 1 << large), 8 << large, 16, 1,
            moe_time * 1e6, "", "");
  lab.claim("one token, times faster than top-2 experts of the same width")
      .paper("6")
      .measured(moe_time / fff_time)
      .at_least(2);
}

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
  speed(lab);
  on_language(lab);
  lab.not_shown("GLUE accuracy of FFF-BERT", "needs a day of pre-training on a GPU");
  lab.not_shown("USPS, SVHN, CIFAR figures of the paper", "the data does not ship");
  lab.note("Hard, inference and packed forms are compared in tests/layers (1e-5, D 0 to 6).");
}

const auto registered = study::add({.slug = "fast-feedforward"}, run);
}  // namespace
