#include "cajal/train/continual.h"

#include <ATen/CPUGeneratorImpl.h>

#include <cmath>

#include "cajal/layers/init.h"

namespace cajal::train {
namespace {

Samples relabelled(const Samples& all, int64_t first, int64_t count) {
  const auto chosen = all.y.ge(first).logical_and(all.y.lt(first + count)).nonzero().flatten();
  return {all.x.index_select(0, chosen), all.y.index_select(0, chosen) - first};
}

}  // namespace

std::vector<StreamTask> permuted_tasks(const StreamTask& all, int64_t tasks, uint64_t seed) {
  require(tasks > 0, "a stream of {} tasks", tasks);
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  std::vector<StreamTask> out;
  for (int64_t t = 0; t < tasks; ++t) {
    const auto pixels = all.train.x[0].numel();
    const auto order = t == 0
                           ? torch::arange(pixels)
                           : torch::randperm(pixels, generator, torch::TensorOptions(torch::kLong));
    const auto of = [&](const Samples& s) {
      return Samples{s.x.flatten(1).index_select(1, order).view(s.x.sizes()), s.y};
    };
    out.push_back({of(all.train), of(all.valid), of(all.test)});
  }
  return out;
}

std::vector<StreamTask> split_tasks(const StreamTask& all, int64_t classes, int64_t per_task) {
  require(per_task > 1 && per_task <= classes, "{} classes a task of {}", per_task, classes);
  std::vector<StreamTask> out;
  for (int64_t first = 0; first + per_task <= classes; first += per_task)
    out.push_back({relabelled(all.train, first, per_task), relabelled(all.valid, first, per_task),
                   relabelled(all.test, first, per_task)});
  return out;
}

void start_relu(torch::Tensor& weight, torch::Tensor& bias) {
  const torch::NoGradGuard no_grad;
  const auto fan_in = static_cast<double>(weight.numel() / weight.size(0));
  weight.normal_(0, std::sqrt(2 / fan_in));
  bias.zero_();
}

TaskNetImpl::TaskNetImpl(const TaskNetOptions& o) : options(o) {
  require(o.channels > 0 && o.height > 0 && o.width > 0 && o.classes > 1,
          "task net: channels, height, width must be positive and classes at least 2, got {}, {}, "
          "{} and {}",
          o.channels, o.height, o.width, o.classes);
  require(!o.hidden.empty(), "task net: hidden: one dense layer at least is expected");
  for (const auto units : o.filters)
    require(units > 0, "task net: filters: expected positive numbers, got {}", units);
  for (const auto units : o.hidden)
    require(units > 0, "task net: hidden: expected positive numbers, got {}", units);
  int64_t below = o.channels, height = o.height, width = o.width;
  const auto add = [&](Layer layer, std::vector<int64_t> shape) {
    const auto name = fmt::format("layer{}", layers.size());
    layer.weight = register_parameter(name + "_weight", torch::empty(shape));
    layer.bias = register_parameter(name + "_bias", torch::empty({shape[0]}));
    start_relu(layer.weight, layer.bias);
    layers.push_back(layer);
    below = shape[0];
  };
  for (size_t l = 0; l < o.filters.size(); ++l) {
    const bool pooled = l % 2 == 1;
    add({{}, {}, true, pooled, 1}, {o.filters[l], below, 3, 3});
    if (pooled) height /= 2, width /= 2;
  }
  require(height > 0 && width > 0, "task net: {} convolutions pool {} x {} pixels away",
          o.filters.size(), o.height, o.width);
  if (o.filters.empty()) below = o.channels * o.height * o.width, height = width = 1;
  for (const auto units : o.hidden) {
    const int64_t positions = height * width;
    height = width = 1;
    add({{}, {}, false, false, positions}, {units, below * positions});
  }
}

int64_t TaskNetImpl::units_below(size_t layer) const {
  const auto& l = layers.at(layer);
  return l.weight.size(1) / l.positions;
}

size_t TaskNetImpl::add_head() {
  const auto task = heads.size();
  const auto width = units(layers.size() - 1);
  heads.push_back(
      {register_parameter(fmt::format("head{}_weight", task),
                          init::fan_in_uniform({options.classes, width})),
       register_parameter(fmt::format("head{}_bias", task), torch::zeros({options.classes}))});
  return task;
}

torch::Tensor TaskNetImpl::step(const Layer& layer, const torch::Tensor& x) const {
  if (layer.convolution)
    return torch::relu(torch::conv2d(x, layer.weight, layer.bias, /*stride=*/1, /*padding=*/1));
  return torch::relu(torch::linear(x.flatten(1), layer.weight, layer.bias));
}

std::vector<torch::Tensor> TaskNetImpl::hidden(const torch::Tensor& x,
                                               const std::vector<Override>& overrides) const {
  require(x.dim() > 1 && x[0].numel() == options.channels * options.height * options.width,
          "task net: pictures {}, expected [batch, {}, {}, {}] or flat ones", shape_text(x.sizes()),
          options.channels, options.height, options.width);
  std::vector<torch::Tensor> out;
  auto h = layers[0].convolution ? x.reshape({-1, options.channels, options.height, options.width})
                                 : x.flatten(1);
  for (size_t l = 0; l < layers.size(); ++l) {
    h = step(layers[l], h);
    if (l < overrides.size() && overrides[l].keep.defined()) {
      const auto each = [&](const torch::Tensor& t) {
        return h.dim() == 4 ? t.view({-1, 1, 1}) : t;
      };
      h = h * each(overrides[l].keep);
      if (overrides[l].constant.defined()) h = h + each(overrides[l].constant);
    }
    out.push_back(h);
    if (layers[l].pooled) h = torch::max_pool2d(h, 2);
  }
  return out;
}

torch::Tensor TaskNetImpl::logits(const std::vector<torch::Tensor>& hidden, size_t task) const {
  require(task < heads.size(), "task net: no head for task {}, there are {}", task, heads.size());
  return torch::linear(hidden.back(), heads[task].weight, heads[task].bias);
}

std::vector<torch::Tensor> TaskNetImpl::shared() const {
  std::vector<torch::Tensor> out;
  for (const auto& layer : layers) out.push_back(layer.weight), out.push_back(layer.bias);
  return out;
}

void train_task(TaskNet& net, size_t task, const Samples& data, const TaskTraining& training,
                const TaskRules& rules) {
  require(training.epochs > 0 && training.batch > 0,
          "task training: epochs and batch must be positive, got {} and {}", training.epochs,
          training.batch);
  auto parameters = net->shared();
  const size_t shared = parameters.size();
  parameters.push_back(net->heads.at(task).weight), parameters.push_back(net->heads[task].bias);
  LocalOptimizer optimizer(parameters, training.optimizer);
  if (rules.prepare) rules.prepare(optimizer);
  for (int64_t epoch = 0; epoch < training.epochs; ++epoch)
    for (const auto& batch : shuffled_batches(data.x.size(0), training.batch)) {
      const auto hidden = net->hidden(data.x.index_select(0, batch));
      auto loss =
          torch::cross_entropy_loss(net->logits(hidden, task), data.y.index_select(0, batch));
      if (rules.activation_l1 > 0)
        for (const auto& h : hidden) loss = loss + rules.activation_l1 * h.mean();
      auto gradients = torch::autograd::grad({loss}, parameters);
      const torch::NoGradGuard no_grad;
      const auto own = gradients;
      for (size_t i = 0; i < shared; ++i) {
        if (rules.weight_l1 > 0 && parameters[i].dim() > 1)
          gradients[i] = gradients[i] + rules.weight_l1 * parameters[i].sign();
        if (rules.penalty == nullptr) continue;
        const auto pull = rules.penalty->gradient(i, parameters[i]);
        if (pull.defined()) gradients[i] = gradients[i] + pull;
      }
      if (rules.path) rules.path->before_step();
      optimizer.apply(gradients);
      if (rules.path) rules.path->after_step(own);
    }
}

double task_accuracy(const TaskNet& net, size_t task, const Samples& data,
                     const std::vector<TaskNetImpl::Override>& overrides) {
  const torch::NoGradGuard no_grad;
  const auto predicted = in_batches(data.x, 1000, [&](const torch::Tensor& part) {
    return net->forward(part, task, overrides).argmax(1);
  });
  return predicted.eq(data.y).to(torch::kDouble).mean().item<double>();
}

}  // namespace cajal::train
