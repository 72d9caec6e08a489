#include "cajal/core/random.h"
#include "cajal/core/timing.h"
#include "cajal/train/goodness.h"
#include "cajal/train/local_graph_learner.h"

// Forward-forward on graphs, and links.
namespace cajal::train {
namespace graph_rules {
namespace {

/// A copy of the graph that says one thing about the labels: its input to the layer at work.
struct Stream {
  graph::Features input;  // directions
  size_t wiring = 0;
  torch::Tensor goodness = {};  // mean squares - θ, summed over the layers done
};

class Pairs {
 public:
  Pairs(const Problem& p, bool class_nodes) : p_(p), class_nodes_(class_nodes) {
    if (!class_nodes)
      wirings_.push_back(graph::wire(p.options.convolution, p.task.edges, p.task.nodes()));
    const auto classes = p.task.classes;
    positive = stream(p.split.train, p.train_labels);
    const auto wanted = p.options.negatives == 0 ? classes - 1 : p.options.negatives;
    // Every node meets the wrong labels in an order of its own.
    const auto shift = std::get<1>(torch::rand({p.train_labels.numel(), classes - 1}).sort(1)) + 1;
    for (int64_t k = 0; k < wanted; ++k)
      negatives.push_back(
          stream(p.split.train, (p.train_labels + shift.select(1, k)).remainder(classes)));
    for (int64_t c = 0; c < classes; ++c) candidates.push_back(candidate(c));
  }

  int64_t width() const { return positive.input.width(); }
  const graph::Wiring& wiring(const Stream& s) const { return wirings_[s.wiring]; }

  Stream positive;
  std::vector<Stream> negatives, candidates;

 private:
  /// Known nodes carry their true label, all others that are asked about label c.
  Stream candidate(int64_t c) {
    auto known = torch::zeros({p_.task.nodes()}, torch::kBool);
    known.index_fill_(0, p_.split.train, true);
    if (p_.options.validation_labels_known) known.index_fill_(0, p_.split.valid, true);
    const auto asked = torch::cat({p_.split.valid, p_.split.test});
    auto labels = torch::full({p_.task.nodes()}, -1, torch::kLong);
    labels.index_fill_(0, asked, c);
    labels = torch::where(known, p_.task.labels, labels);
    const auto linked = labels.ge(0).nonzero().flatten();
    return stream(linked, labels.index_select(0, linked));
  }

  Stream stream(const torch::Tensor& nodes, const torch::Tensor& labels) {
    const auto classes = p_.task.classes;
    if (class_nodes_) {
      const auto graph =
          with_class_nodes(p_.task, nodes, labels, p_.options.virtual_edges, p_.class_features);
      wirings_.push_back(graph::wire(p_.options.convolution, graph.edges, graph.features.rows()));
      return {graph.features.directions(), wirings_.size() - 1};
    }
    auto columns = torch::full({p_.task.nodes(), classes}, 1.0 / static_cast<double>(classes));
    columns.index_copy_(0, nodes, torch::one_hot(labels, classes).to(torch::kFloat));
    return {p_.task.features.beside(columns).directions(), 0};
  }

  const Problem& p_;
  bool class_nodes_;
  std::vector<graph::Wiring> wirings_;
};

torch::Tensor answers(const std::vector<Stream>& candidates) {
  std::vector<torch::Tensor> columns;
  for (const auto& c : candidates) columns.push_back(c.goodness);
  return torch::stack(columns, 1).argmax(1);
}

}  // namespace

GraphOutcome forward_forward(const Problem& p, bool class_nodes) {
  const Stopwatch training;
  Pairs pairs(p, class_nodes);
  const auto begun = pairs.candidates;
  GraphOutcome out;
  std::vector<graph::AnyConvolution> layers;
  const double theta = p.options.threshold;
  // Adds a layer's goodness to a stream and passes it on.
  const auto pass = [&](const graph::AnyConvolution& layer, Stream& s) {
    const torch::NoGradGuard no_grad;
    const auto h = layer(s.input, pairs.wiring(s));
    const auto own = prediction_surplus(h.narrow(0, 0, p.task.nodes()), theta);
    s.goodness = s.goodness.defined() ? s.goodness + own : own;
    s.input = graph::Features(h).directions();
  };
  for (int64_t l = 0; l < p.options.layers; ++l) {
    layers.emplace_back(p.options.convolution, l == 0 ? pairs.width() : p.options.hidden,
                        p.options.hidden);
    const auto& layer = layers.back();
    LocalOptimizer optimizer(layer.parameters(), p.options.optimizer);
    const auto logits = [&](const Stream& s) {
      const auto h = layer(s.input, pairs.wiring(s)).index_select(0, p.split.train);
      return training_surplus(h, theta);
    };
    out.epochs += train_until(layer.parameters(), p.options, out.saved_bytes, [&](bool validate) {
      double figure = 0;
      if (validate) {
        auto now = pairs.candidates;
        for (auto& c : now) pass(layer, c);
        figure = share_right(answers(now), p.task.labels, p.split.valid);
      }
      // -log σ(x) and -log σ(-x): binary cross entropy with targets 1 and 0.
      auto loss = stable_softplus(-logits(pairs.positive)).mean();
      for (const auto& n : pairs.negatives)
        loss =
            loss + stable_softplus(logits(n)).mean() / static_cast<double>(pairs.negatives.size());
      out.crossings += reached_beyond(loss, layer.parameters());
      optimizer.step(loss);
      return figure;
    });
    pass(layer, pairs.positive);
    for (auto& n : pairs.negatives) pass(layer, n);
    for (auto& c : pairs.candidates) pass(layer, c);
    for (const auto& parameter : layer.parameters()) out.parameters.push_back(parameter);
  }
  out.train_seconds = training.seconds();
  out.passes = 1 + static_cast<int64_t>(pairs.negatives.size());
  const Stopwatch predicting;
  auto candidates = begun;
  for (const auto& layer : layers)
    for (auto& c : candidates) pass(layer, c);
  out.predicted = answers(candidates);
  out.predict_seconds = predicting.seconds();
  return out;
}

}  // namespace graph_rules

torch::Tensor training_surplus(const torch::Tensor& h, double threshold) {
  return goodness(Goodness::sum_squares, h) - threshold;
}

torch::Tensor prediction_surplus(const torch::Tensor& h, double threshold) {
  return goodness(Goodness::mean_squares, h) - threshold;
}

LinkSplit split_links(const torch::Tensor& edges, int64_t nodes, uint64_t seed) {
  const auto once = edges.index_select(1, edges[0].lt(edges[1]).nonzero().flatten());
  const auto count = once.size(1);
  require(count >= 5 && nodes > 1, "{} links cannot be split", count);
  const auto codes = std::get<0>(torch::sort(once[0] * nodes + once[1]));
  Random random(seed);
  std::vector<int64_t> order(static_cast<size_t>(count));
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
  shuffle(order, random);
  const auto shuffled = once.index_select(1, torch::tensor(order, torch::kLong));
  const auto* known = codes.data_ptr<int64_t>();
  const auto absent = [&](int64_t wanted) {
    std::vector<int64_t> from, to;
    for (int64_t tries = 0; static_cast<int64_t>(from.size()) < wanted; ++tries) {
      require(tries < 1000 * (wanted + 1), "the graph is too dense to find pairs without a link");
      auto u = static_cast<int64_t>(random.below(static_cast<uint64_t>(nodes)));
      auto v = static_cast<int64_t>(random.below(static_cast<uint64_t>(nodes)));
      if (u > v) std::swap(u, v);
      if (u == v || std::binary_search(known, known + count, u * nodes + v)) continue;
      from.push_back(u), to.push_back(v);
    }
    return torch::stack({torch::tensor(from, torch::kLong), torch::tensor(to, torch::kLong)});
  };
  const auto test = count / 5, valid = (count - test) / 5;
  return {shuffled.narrow(1, test + valid, count - test - valid), shuffled.narrow(1, test, valid),
          shuffled.narrow(1, 0, test), absent(valid), absent(test)};
}

double area_under_curve(const torch::Tensor& positive, const torch::Tensor& negative) {
  require(positive.numel() > 0 && negative.numel() > 0, "area under the curve of nothing");
  const auto sorted = std::get<0>(torch::sort(negative));
  const auto below = torch::searchsorted(sorted, positive).to(torch::kDouble);
  const auto not_above = torch::searchsorted(sorted, positive, false, true).to(torch::kDouble);
  return ((below + not_above) / 2).mean().item<double>() / static_cast<double>(negative.numel());
}

LinkOutcome learn_links(const GraphTask& task, const LinkSplit& split, LinkLoss kind,
                        const GraphLearning& o) {
  const auto both = torch::cat({split.train, split.train.flip(0)}, 1);
  const auto wiring = graph::wire(o.convolution, both, task.nodes());
  const auto logits = [&](const torch::Tensor& z, const torch::Tensor& pairs) {
    const auto product = z.index_select(0, pairs[0]) * z.index_select(0, pairs[1]);
    return kind == LinkLoss::cross_entropy ? product.sum(1) : product.square().sum(1) - o.threshold;
  };
  auto input = task.features.directions();
  torch::Tensor present, absent;
  LinkOutcome out;
  int64_t unused = 0;
  for (int64_t l = 0; l < o.layers; ++l) {
    const graph::AnyConvolution layer(o.convolution, l == 0 ? task.features.width() : o.hidden,
                                      o.hidden);
    LocalOptimizer optimizer(layer.parameters(), o.optimizer);
    graph_rules::train_until(layer.parameters(), o, unused, [&](bool validate) {
      const auto z = layer(input, wiring);
      const double figure = validate ? area_under_curve(logits(z.detach(), split.valid),
                                                        logits(z.detach(), split.valid_absent))
                                     : 0;
      const auto random = torch::randint(task.nodes(), split.train.sizes(), torch::kLong);
      optimizer.step(stable_softplus(-logits(z, split.train)).mean() +
                     stable_softplus(logits(z, random)).mean());
      return figure;
    });
    const torch::NoGradGuard no_grad;
    const auto z = layer(input, wiring);
    const auto yes = logits(z, split.test), no = logits(z, split.test_absent);
    out.by_layer.push_back(area_under_curve(yes, no));
    present = present.defined() ? present + yes : yes;
    absent = absent.defined() ? absent + no : no;
    input = graph::Features(z).directions();
  }
  out.auc = area_under_curve(present, absent);
  return out;
}

}  // namespace cajal::train
