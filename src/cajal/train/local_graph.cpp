#include "cajal/train/local_graph.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "cajal/core/random.h"
#include "cajal/core/timing.h"
#include "cajal/train/local_graph_learner.h"

namespace cajal::train {

NodeSplit split_nodes(const torch::Tensor& labels, int64_t folds, int64_t fold, uint64_t seed) {
  require(folds > 1 && fold >= 0 && fold < folds, "fold {} of {}", fold, folds);
  auto order = labels.ge(0).nonzero().flatten().clone();
  const auto count = order.numel();
  require(count >= folds, "{} labelled nodes for {} folds", count, folds);
  std::span ids(order.data_ptr<int64_t>(), static_cast<size_t>(count));
  Random random(seed);
  shuffle(ids, random);
  const auto begin = fold * count / folds, end = (fold + 1) * count / folds;
  const auto rest = torch::cat({order.narrow(0, 0, begin), order.narrow(0, end, count - end)});
  const auto valid = rest.numel() / 5;
  return {rest.narrow(0, valid, rest.numel() - valid), rest.narrow(0, 0, valid),
          order.narrow(0, begin, end - begin)};
}

GraphOutcome learn_nodes(const GraphTask& task, const NodeSplit& split, GraphRule rule,
                         const GraphLearning& o) {
  require(task.features.rows() == task.nodes(), "{} nodes have features, {} labels",
          task.features.rows(), task.nodes());
  require(task.classes > 1, "nodes of {} classes", task.classes);
  require(o.layers > 0 && o.hidden > 0 && o.max_epochs > 0 && o.validate_every > 0 &&
              o.patience > 0 && o.temperature > 0 && o.time_steps > 0,
          "graph learning: layers, hidden, max_epochs, validate_every, patience, temperature and "
          "time_steps must be positive");
  require(o.negatives >= 0 && o.negatives < task.classes,
          "graph learning: negatives: expected 0 to {}, got {}", task.classes - 1, o.negatives);
  require(o.first_vote >= 1 && o.first_vote <= o.time_steps,
          "graph learning: first_vote: expected 1 to {}, got {}", o.time_steps, o.first_vote);
  const graph_rules::Problem problem{task, split, o, task.labels.index_select(0, split.train),
                                     torch::randn({task.classes, task.features.width()})};
  switch (rule) {
    case GraphRule::backprop:
      return graph_rules::backprop(problem, true);
    case GraphRule::perceptron:
      return graph_rules::backprop(problem, false);
    case GraphRule::single_forward:
      return graph_rules::single_forward(problem);
    case GraphRule::top_to_loss:
      return graph_rules::top_to_loss(problem);
    case GraphRule::top_to_input:
      return graph_rules::top_to_input(problem);
    case GraphRule::label_appending:
      return graph_rules::forward_forward(problem, false);
    case GraphRule::virtual_nodes:
      return graph_rules::forward_forward(problem, true);
  }
  fail("graph rule {} is not known", static_cast<int>(rule));
}

torch::Tensor label_propagation(const GraphTask& task, const torch::Tensor& known, int64_t rounds) {
  const auto wiring = graph::wire(graph::Convolution::gcn, task.edges, task.nodes());
  const auto fixed =
      torch::one_hot(task.labels.index_select(0, known), task.classes).to(torch::kFloat);
  auto y = torch::zeros({task.nodes(), task.classes}).index_copy(0, known, fixed);
  for (int64_t i = 0; i < rounds; ++i)
    y = graph::multiply(wiring.pattern, wiring.value, y).index_copy(0, known, fixed);
  return y.argmax(1);
}

ClassNodes with_class_nodes(const GraphTask& task, const torch::Tensor& linked,
                            const torch::Tensor& labels, VirtualEdges kind,
                            const torch::Tensor& class_features) {
  const auto classes = class_features.size(0);
  const auto ids = torch::arange(classes, torch::kLong) + task.nodes();
  const auto class_of = labels + task.nodes();
  std::vector<torch::Tensor> edges{task.edges, torch::stack({linked, class_of})};
  if (kind == VirtualEdges::both) edges.push_back(torch::stack({class_of, linked}));
  return {task.features.above(class_features), torch::cat(edges, 1), ids};
}

torch::Tensor class_node_loss(const graph::AnyConvolution& layer, const graph::Features& input,
                              const graph::Wiring& wiring, const torch::Tensor& train,
                              const torch::Tensor& labels, const torch::Tensor& class_ids,
                              double temperature) {
  const auto h = layer(input.directions(), wiring);
  const auto logits =
      h.index_select(0, train).matmul(h.index_select(0, class_ids).t()) / temperature;
  return torch::cross_entropy_loss(logits, labels);
}

namespace graph_rules {

int64_t train_until(const std::vector<torch::Tensor>& parameters, const GraphLearning& options,
                    int64_t& saved_bytes, const std::function<double(bool validate)>& epoch) {
  Best best(parameters, options.patience);
  int64_t done = 0;
  for (bool go_on = true; go_on && done < options.max_epochs; ++done) {
    const bool validate = done % options.validate_every == 0;
    double figure = 0;
    if (done == 0) {
      const SavedBytes meter(parameters);
      figure = epoch(validate);
      saved_bytes = std::max(saved_bytes, meter.peak());
    } else {
      figure = epoch(validate);
    }
    if (validate && done > 0) go_on = best.see(done, figure);
  }
  best.restore();
  return done;
}

double share_right(const torch::Tensor& predicted, const torch::Tensor& labels,
                   const torch::Tensor& nodes) {
  return predicted.index_select(0, nodes)
      .eq(labels.index_select(0, nodes))
      .to(torch::kDouble)
      .mean()
      .item<double>();
}

torch::Tensor class_scores(const torch::Tensor& h, const torch::Tensor& class_ids, int64_t nodes,
                           double temperature) {
  return h.narrow(0, 0, nodes).matmul(h.index_select(0, class_ids).t()) / temperature;
}

int64_t reached_beyond(const torch::Tensor& loss, const std::vector<torch::Tensor>& own) {
  const auto reached = reached_by(loss);
  return std::count_if(reached.begin(), reached.end(), [&](const torch::Tensor& leaf) {
    return std::none_of(own.begin(), own.end(),
                        [&](const torch::Tensor& p) { return leaf.is_same(p); });
  });
}

GraphOutcome backprop(const Problem& p, bool with_graph) {
  const auto& o = p.options;
  const auto wiring = graph::wire(o.convolution, p.task.edges, p.task.nodes());
  std::vector<graph::AnyConvolution> convolutions;
  std::vector<torch::Tensor> weights, biases;
  GraphOutcome out;
  for (int64_t l = 0; l < o.layers; ++l) {
    const auto inputs = l == 0 ? p.task.features.width() : o.hidden;
    const bool last = l + 1 == o.layers;
    const auto outputs = last ? p.task.classes : o.hidden;
    if (with_graph) {
      convolutions.emplace_back(o.convolution, inputs, outputs,
                                last ? Activation::identity : Activation::relu);
      for (const auto& parameter : convolutions.back().parameters())
        out.parameters.push_back(parameter);
    } else {
      const double bound = std::sqrt(6.0 / static_cast<double>(inputs + outputs));
      weights.push_back(torch::empty({outputs, inputs}).uniform_(-bound, bound).requires_grad_());
      biases.push_back(torch::zeros({outputs}).requires_grad_());
      out.parameters.push_back(weights.back()), out.parameters.push_back(biases.back());
    }
  }
  const auto forward = [&] {
    auto x = p.task.features;
    for (int64_t l = 0; l < o.layers; ++l) {
      if (with_graph) {
        x = graph::Features(convolutions[static_cast<size_t>(l)](x, wiring));
      } else {
        const auto h = x.times(weights[static_cast<size_t>(l)]) + biases[static_cast<size_t>(l)];
        x = graph::Features(l + 1 == o.layers ? h : torch::relu(h));
      }
    }
    return x.dense;
  };
  LocalOptimizer optimizer(out.parameters, o.optimizer);
  const Stopwatch training;
  out.epochs = train_until(out.parameters, o, out.saved_bytes, [&](bool validate) {
    const auto logits = forward();
    const double figure =
        validate ? share_right(logits.detach().argmax(1), p.task.labels, p.split.valid) : 0;
    optimizer.step(
        torch::cross_entropy_loss(logits.index_select(0, p.split.train), p.train_labels));
    return figure;
  });
  out.train_seconds = training.seconds();
  const torch::NoGradGuard no_grad;
  const Stopwatch predicting;
  out.predicted = forward().argmax(1);
  out.predict_seconds = predicting.seconds();
  out.passes = 1;
  return out;
}

}  // namespace graph_rules
}  // namespace cajal::train
