#include "cajal/core/timing.h"
#include "cajal/train/local_graph_learner.h"

// Single-forward rules: a node for every class, and embeddings that learn to point at theirs.
namespace cajal::train::graph_rules {
namespace {

struct Wired {
  ClassNodes graph;
  graph::Wiring wiring;
};

Wired with_classes(const Problem& p) {
  auto graph = with_class_nodes(p.task, p.split.train, p.train_labels, p.options.virtual_edges,
                                p.class_features);
  auto wiring = graph::wire(p.options.convolution, graph.edges, graph.features.rows());
  return {std::move(graph), std::move(wiring)};
}

torch::Tensor loss_of(const torch::Tensor& h, const Problem& p, const torch::Tensor& class_ids) {
  const auto logits = h.index_select(0, p.split.train).matmul(h.index_select(0, class_ids).t()) /
                      p.options.temperature;
  return torch::cross_entropy_loss(logits, p.train_labels);
}

double valid_share(const torch::Tensor& h, const Problem& p, const torch::Tensor& class_ids) {
  const auto scores = class_scores(h.detach(), class_ids, p.task.nodes(), p.options.temperature);
  return share_right(scores.argmax(1), p.task.labels, p.split.valid);
}

/// Sums the layers' votes and notes what each says alone.
void vote(const std::vector<torch::Tensor>& h, const Problem& p, const torch::Tensor& class_ids,
          GraphOutcome& out) {
  torch::Tensor votes;
  out.by_layer.clear();
  for (const auto& layer : h) {
    const auto own =
        class_scores(layer, class_ids, p.task.nodes(), p.options.temperature).softmax(1);
    out.by_layer.push_back(own.argmax(1));
    votes = votes.defined() ? votes + own : own;
  }
  out.predicted = votes.argmax(1);
}

std::vector<graph::AnyConvolution> stack(const Problem& p, GraphOutcome& out) {
  std::vector<graph::AnyConvolution> layers;
  for (int64_t l = 0; l < p.options.layers; ++l) {
    layers.emplace_back(p.options.convolution, l == 0 ? p.task.features.width() : p.options.hidden,
                        p.options.hidden);
    for (const auto& parameter : layers.back().parameters()) out.parameters.push_back(parameter);
  }
  return layers;
}

std::vector<torch::Tensor> all_layers(const std::vector<graph::AnyConvolution>& layers,
                                      const Wired& wired) {
  std::vector<torch::Tensor> h;
  for (const auto& layer : layers) {
    const auto input = h.empty() ? wired.graph.features : graph::Features(h.back());
    h.push_back(layer(input.directions(), wired.wiring));
  }
  return h;
}

void predict(const std::vector<graph::AnyConvolution>& layers, const Wired& wired, const Problem& p,
             GraphOutcome& out) {
  const torch::NoGradGuard no_grad;
  const Stopwatch predicting;
  vote(all_layers(layers, wired), p, wired.graph.ids, out);
  out.predict_seconds = predicting.seconds();
}

}  // namespace

GraphOutcome single_forward(const Problem& p) {
  const Stopwatch training;
  const auto wired = with_classes(p);
  GraphOutcome out;
  const auto layers = stack(p, out);
  auto input = wired.graph.features.directions();
  for (const auto& layer : layers) {
    LocalOptimizer optimizer(layer.parameters(), p.options.optimizer);
    out.epochs += train_until(layer.parameters(), p.options, out.saved_bytes, [&](bool validate) {
      const auto h = layer(input, wired.wiring);
      const double figure = validate ? valid_share(h, p, wired.graph.ids) : 0;
      const auto loss = loss_of(h, p, wired.graph.ids);
      out.crossings += reached_beyond(loss, layer.parameters());
      optimizer.step(loss);
      return figure;
    });
    const torch::NoGradGuard no_grad;
    input = graph::Features(layer(input, wired.wiring)).directions();
  }
  out.train_seconds = training.seconds();
  out.passes = 1;
  predict(layers, wired, p, out);
  return out;
}

GraphOutcome top_to_loss(const Problem& p) {
  const Stopwatch training;
  const auto wired = with_classes(p);
  GraphOutcome out;
  const auto layers = stack(p, out);
  auto clipped = p.options.optimizer;
  clipped.clip = 1;
  std::vector<LocalOptimizer> optimizers;
  for (const auto& layer : layers) optimizers.emplace_back(layer.parameters(), clipped);
  std::vector<torch::Tensor> above(layers.size());  // what each layer said last, directions
  {
    const torch::NoGradGuard no_grad;
    const auto h = all_layers(layers, wired);
    for (size_t l = 0; l < h.size(); ++l) above[l] = graph::Features(h[l]).directions().dense;
  }
  out.epochs = train_until(out.parameters, p.options, out.saved_bytes, [&](bool validate) {
    std::vector<torch::Tensor> h;
    for (size_t l = 0; l < layers.size(); ++l) {
      const auto input = l == 0 ? wired.graph.features : graph::Features(h.back());
      const auto own = layers[l](input.directions(), wired.wiring);
      auto mean = own;
      for (size_t a = l + 1; a < layers.size(); ++a) mean = mean + above[a];
      const auto loss = loss_of(mean / static_cast<double>(layers.size() - l), p, wired.graph.ids);
      out.crossings += reached_beyond(loss, layers[l].parameters());
      optimizers[l].step(loss);
      h.push_back(own.detach());
      above[l] = graph::Features(own).directions().dense;
    }
    if (!validate) return 0.0;
    GraphOutcome now;
    vote(h, p, wired.graph.ids, now);
    return share_right(now.predicted, p.task.labels, p.split.valid);
  });
  out.train_seconds = training.seconds();
  out.passes = 1;
  predict(layers, wired, p, out);
  return out;
}

namespace {

/// Layers that read the layer below and the layer above, and their states.
class TopDown {
 public:
  TopDown(const Problem& p, const Wired& wired, GraphOutcome& out) : p_(p), wired_(wired) {
    const auto& o = p.options;
    for (int64_t l = 0; l < o.layers; ++l) {
      const auto below = l == 0 ? p.task.features.width() : o.hidden;
      const auto over = l + 1 == o.layers ? p.task.classes : o.hidden;
      layers.emplace_back(o.convolution, below + over, o.hidden);
      for (const auto& parameter : layers.back().parameters()) out.parameters.push_back(parameter);
    }
    const auto rows = wired.graph.features.rows(), classes = p.task.classes;
    bottom_ = wired.graph.features.directions();
    labels_ = torch::full({rows, classes}, 1.0 / static_cast<double>(classes));
    labels_.index_copy_(0, p.split.train,
                        torch::one_hot(p.train_labels, classes).to(torch::kFloat));
    labels_.index_copy_(0, wired.graph.ids, torch::eye(classes));
    labels_ = graph::Features(labels_).directions().dense;
  }

  /// One pass from below with nothing above. States are directions, as in training: feeding raw
  /// ones here, as the official code does, would show the layers lengths they never saw.
  void start() {
    const torch::NoGradGuard no_grad;
    states.assign(layers.size(), {});
    for (size_t l = 0; l < layers.size(); ++l)
      states[l] = direction(layers[l](input(l), wired_.wiring));
  }

  graph::Features input(size_t l) const {
    const auto below = l == 0 ? bottom_ : graph::Features(states[l - 1]);
    if (l + 1 == layers.size()) return below.beside(labels_);
    return below.beside(states[l + 1].defined() ? states[l + 1]
                                                : torch::zeros({below.rows(), p_.options.hidden}));
  }

  /// One time step; `each` gets every layer's output, with its graph.
  void step(const std::function<void(size_t, const torch::Tensor&)>& each) {
    const auto update = [&](const std::vector<size_t>& chosen) {
      std::vector<torch::Tensor> next;
      for (const auto l : chosen) {
        const auto h = layers[l](input(l), wired_.wiring);
        each(l, h);
        next.push_back(direction(h));
      }
      for (size_t i = 0; i < chosen.size(); ++i) states[chosen[i]] = next[i];
    };
    std::vector<size_t> even, odd, all;
    for (size_t l = 0; l < layers.size(); ++l)
      all.push_back(l), (l % 2 == 1 ? even : odd).push_back(l);  // layers are counted from 1
    if (!p_.options.alternate) return update(all);
    update(even), update(odd);
  }

  std::vector<graph::AnyConvolution> layers;
  std::vector<torch::Tensor> states;

 private:
  static torch::Tensor direction(const torch::Tensor& h) {
    return graph::Features(h).directions().dense;
  }

  const Problem& p_;
  const Wired& wired_;
  graph::Features bottom_;
  torch::Tensor labels_;
};

}  // namespace

GraphOutcome top_to_input(const Problem& p) {
  const Stopwatch training;
  const auto wired = with_classes(p);
  GraphOutcome out;
  TopDown net(p, wired, out);
  std::vector<LocalOptimizer> optimizers;
  for (const auto& layer : net.layers)
    optimizers.emplace_back(layer.parameters(), p.options.optimizer);
  const auto probabilities = [&](const torch::Tensor& h) {
    return class_scores(h.detach(), wired.graph.ids, p.task.nodes(), p.options.temperature)
        .softmax(1);
  };
  net.start();
  out.epochs = train_until(out.parameters, p.options, out.saved_bytes, [&](bool validate) {
    torch::Tensor votes = torch::zeros({p.task.nodes(), p.task.classes});
    net.step([&](size_t l, const torch::Tensor& h) {
      if (validate) votes += probabilities(h);
      const auto loss = loss_of(h, p, wired.graph.ids);
      out.crossings += reached_beyond(loss, net.layers[l].parameters());
      optimizers[l].step(loss);
    });
    return validate ? share_right(votes.argmax(1), p.task.labels, p.split.valid) : 0;
  });
  out.train_seconds = training.seconds();
  out.passes = 1;
  const torch::NoGradGuard no_grad;
  const Stopwatch predicting;
  net.start();
  auto votes = torch::zeros({p.task.nodes(), p.task.classes});
  for (int64_t t = 1; t <= p.options.time_steps; ++t)
    net.step([&](size_t, const torch::Tensor& h) {
      if (t >= p.options.first_vote) votes += probabilities(h);
    });
  out.predicted = votes.argmax(1);
  out.predict_seconds = predicting.seconds();
  return out;
}

}  // namespace cajal::train::graph_rules
