#include "cajal/train/forward_forward.h"

namespace cajal::train {
namespace {

void require_labels(const torch::Tensor& labels, int64_t classes, int64_t lowest) {
  require(labels.dim() == 1 && labels.scalar_type() == torch::kLong,
          "labels are expected as int64 [batch], got {}", shape_text(labels.sizes()));
  if (labels.numel() == 0) return;
  const auto low = labels.min().item<int64_t>(), high = labels.max().item<int64_t>();
  require(low >= lowest && high < classes, "labels from {} to {}, expected {} to {}", low, high,
          lowest, classes - 1);
}

/// Frozen layers below `layer`, without a graph.
torch::Tensor input_of(const ForwardForwardNet& net, size_t layer, torch::Tensor x) {
  const torch::NoGradGuard no_grad;
  for (size_t l = 0; l < layer; ++l) x = net->layers[l]->forward(x);
  return x;
}

/// Runs `learn` on positive and negative batches of every epoch.
template <class Learn>
void each_batch(const ForwardForwardNet& net, const torch::Tensor& x, const torch::Tensor& labels,
                const ForwardForwardTraining& training, const Learn& learn) {
  require(training.epochs > 0 && training.batch > 0,
          "forward-forward: epochs and batch must be positive, got {} and {}", training.epochs,
          training.batch);
  require(x.size(0) == labels.size(0), "{} samples, {} labels", x.size(0), labels.size(0));
  Negatives negatives;
  for (int64_t epoch = 0; epoch < training.epochs; ++epoch) {
    if (epoch == 0 || !training.fixed_negatives)
      negatives = draw_negatives(labels, net->options.classes);
    const auto wrong = shuffled_batches(x.size(0), training.batch);
    const auto right = shuffled_batches(x.size(0), training.batch);
    for (size_t b = 0; b < right.size(); ++b) {
      const auto sample = negatives.sample.index_select(0, wrong[b]);
      const auto label = negatives.label.index_select(0, wrong[b]);
      learn(net->labelled(x.index_select(0, right[b]), labels.index_select(0, right[b])),
            net->labelled(x.index_select(0, sample), label));
    }
  }
}

torch::Tensor total_goodness(const ForwardForwardNet& net, const torch::Tensor& x) {
  torch::Tensor sum;
  for (const auto& h : net->forward(x)) {
    const auto g = goodness(net->options.goodness, h);
    sum = sum.defined() ? sum + g : g;
  }
  return sum;
}

}  // namespace

torch::Tensor overlay(const torch::Tensor& x, const torch::Tensor& labels, int64_t classes,
                      double value) {
  require(x.dim() == 2 || x.dim() == 4,
          "overlay: expected [batch, pixels] or [batch, channels, height, width], got {}",
          shape_text(x.sizes()));
  require(classes > 0 && x.size(-1) >= classes, "overlay: a row of {} pixels holds no {} classes",
          x.size(-1), classes);
  require_labels(labels, classes, -1);
  require(labels.size(0) == x.size(0), "overlay: {} labels for {} samples", labels.size(0),
          x.size(0));
  auto out = x.clone();
  auto first_row =
      x.dim() == 2 ? out.narrow(1, 0, classes) : out.select(2, 0).narrow(2, 0, classes);
  auto mark = (torch::arange(classes, labels.options()) == labels.unsqueeze(1)).to(x.dtype());
  if (x.dim() == 4) mark = mark.unsqueeze(1);
  first_row.copy_((mark * value).expand_as(first_row));
  return out;
}

Negatives draw_negatives(const torch::Tensor& labels, int64_t classes) {
  require(classes > 1, "negative samples need two classes or more, got {}", classes);
  require_labels(labels, classes, 0);
  const auto n = labels.size(0);
  const auto pair = torch::randperm(n * (classes - 1), torch::kLong).narrow(0, 0, n);
  const auto sample = pair.remainder(n);
  const auto shift = torch::div(pair, n, "floor") + 1;  // 1 ... classes - 1 past the right label
  return {sample, (labels.index_select(0, sample) + shift).remainder(classes)};
}

ForwardForwardNetImpl::ForwardForwardNetImpl(const ForwardForwardNetOptions& o) : options(o) {
  require(o.inputs > 0 && o.width >= 0 && o.layers > 0,
          "forward-forward: inputs and layers must be positive, width 0 or more, got {}, {}, {}",
          o.inputs, o.layers, o.width);
  require(o.classes > 1 && o.classes <= o.inputs,
          "forward-forward: {} classes do not fit {} input pixels", o.classes, o.inputs);
  const auto width = o.width == 0 ? o.inputs : o.width;
  for (int64_t l = 0; l < o.layers; ++l)
    layers.push_back(register_module(fmt::format("layer{}", l),
                                     ForwardForwardLayer(ForwardForwardLayerOptions{
                                         .inputs = l == 0 ? o.inputs : width, .outputs = width})));
}

std::vector<torch::Tensor> ForwardForwardNetImpl::forward(const torch::Tensor& x) const {
  std::vector<torch::Tensor> out;
  for (const auto& layer : layers) out.push_back(layer->forward(out.empty() ? x : out.back()));
  return out;
}

torch::Tensor layer_loss(const ForwardForwardNet& net, size_t layer, const torch::Tensor& positive,
                         const torch::Tensor& negative) {
  const auto& own = net->layers.at(layer);
  const auto both = own->forward(torch::cat({positive.detach(), negative.detach()}));
  const auto g = goodness(net->options.goodness, both);
  return goodness_loss(g.narrow(0, 0, positive.size(0)),
                       g.narrow(0, positive.size(0), negative.size(0)), net->options.threshold);
}

torch::Tensor summed_loss(const ForwardForwardNet& net, const torch::Tensor& positive,
                          const torch::Tensor& negative) {
  const auto g = total_goodness(net, torch::cat({positive, negative}));
  return goodness_loss(g.narrow(0, 0, positive.size(0)),
                       g.narrow(0, positive.size(0), negative.size(0)), net->options.threshold);
}

void train_forward_forward(ForwardForwardNet& net, const torch::Tensor& x,
                           const torch::Tensor& labels, const ForwardForwardTraining& training) {
  for (size_t l = 0; l < net->layers.size(); ++l) {
    LocalOptimizer optimizer(net->layers[l]->parameters(), training.optimizer);
    each_batch(net, x, labels, training,
               [&](const torch::Tensor& positive, const torch::Tensor& negative) {
                 optimizer.step(
                     layer_loss(net, l, input_of(net, l, positive), input_of(net, l, negative)));
               });
  }
}

void train_summed_goodness(ForwardForwardNet& net, const torch::Tensor& x,
                           const torch::Tensor& labels, const ForwardForwardTraining& training) {
  LocalOptimizer optimizer(net->parameters(), training.optimizer);
  each_batch(net, x, labels, training,
             [&](const torch::Tensor& positive, const torch::Tensor& negative) {
               optimizer.step(summed_loss(net, positive, negative));
             });
}

std::vector<torch::Tensor> goodness_of_labels(const ForwardForwardNet& net,
                                              const torch::Tensor& x) {
  std::vector<std::vector<torch::Tensor>> columns(net->layers.size());
  for (int64_t c = 0; c < net->options.classes; ++c) {
    const auto guess = torch::full({x.size(0)}, c, torch::kLong);
    const auto answers = net->forward(net->labelled(x, guess));
    for (size_t l = 0; l < answers.size(); ++l)
      columns[l].push_back(goodness(net->options.goodness, answers[l]));
  }
  std::vector<torch::Tensor> out;
  for (const auto& layer : columns) out.push_back(torch::stack(layer, 1));
  return out;
}

torch::Tensor predict_labels(const ForwardForwardNet& net, const torch::Tensor& x, LabelVote vote,
                             size_t skip) {
  require(skip < net->layers.size(), "{} of {} layers left out: none votes", skip,
          net->layers.size());
  const torch::NoGradGuard no_grad;
  return in_batches(x, 1024, [&](const torch::Tensor& part) {
    const auto by_layer = goodness_of_labels(net, part);
    auto votes = torch::zeros_like(by_layer[0]);
    for (size_t l = skip; l < by_layer.size(); ++l)
      votes += vote == LabelVote::softmax ? by_layer[l].softmax(1) : by_layer[l];
    return votes.argmax(1);
  });
}

}  // namespace cajal::train
