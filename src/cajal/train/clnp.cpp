#include "cajal/train/clnp.h"

#include <algorithm>
#include <utility>

namespace cajal::train {
namespace {

constexpr double kReused = 0.01;  // share of the L1 mass from which on a unit counts as reused

/// Activations with their positions as samples: [samples, units].
torch::Tensor by_unit(const torch::Tensor& h) {
  return h.dim() == 4 ? h.permute({0, 2, 3, 1}).reshape({-1, h.size(1)}) : h;
}

int64_t count(const torch::Tensor& mask) { return mask.sum().item<int64_t>(); }

torch::Tensor places(const torch::Tensor& mask) { return mask.nonzero().flatten(); }

}  // namespace

NeuralPruning::NeuralPruning(TaskNet trained, const ClnpOptions& options)
    : net(std::move(trained)), options_(options) {
  require(net->heads.empty(), "neural pruning: the net has {} heads already", net->heads.size());
  require(options.margin >= 0 && options.margin < 1,
          "neural pruning: margin: expected 0 to below 1, got {}", options.margin);
  require(options.weight_l1 >= 0 && options.activation_l1 >= 0 && options.widen >= 0,
          "neural pruning: weight_l1, activation_l1 and widen: expected 0 or more");
  require(options.statistic == ActivityStatistic::mean || net->options.filters.empty(),
          "neural pruning: statistic: 'deviation' takes a net of dense layers alone");
  Units none;
  for (size_t l = 0; l < net->layers.size(); ++l)
    none.push_back(torch::zeros({net->units(l)}, torch::kBool));
  active_.push_back(none);
}

/// Columns of layer `layer` that read the given units of the layer below; all for the input.
torch::Tensor NeuralPruning::columns_of(size_t layer, const torch::Tensor& units_below) const {
  const auto& l = net->layers[layer];
  if (layer == 0) return torch::ones({l.weight.size(1)}, torch::kBool);
  return units_below.repeat_interleave(l.positions);
}

void NeuralPruning::make_room() {
  for (size_t l = 0; l < net->layers.size(); ++l) {
    if (count(active_.back()[l]) < net->units(l)) continue;
    require(options_.widen > 0,
            "neural pruning: layer {} has no free unit left after {} tasks; give `widen`, a larger "
            "margin or a larger net",
            l, net->heads.size());
    widen(l, options_.widen);
  }
}

void NeuralPruning::widen(size_t layer, int64_t units) {
  const torch::NoGradGuard no_grad;
  const auto put = [](torch::Tensor& parameter, const torch::Tensor& value) {
    parameter.set_data(value.contiguous());
  };
  auto& own = net->layers[layer];
  auto shape = own.weight.sizes().vec();
  shape[0] = units;
  auto rows = torch::empty(shape, own.weight.options().requires_grad(false));
  auto zeros = torch::zeros({units}, own.bias.options().requires_grad(false));
  start_relu(rows, zeros);
  put(own.weight, torch::cat({own.weight, rows}));
  put(own.bias, torch::cat({own.bias, zeros}));
  const auto with_columns = [&](torch::Tensor& weight, int64_t positions) {
    auto columns = weight.sizes().vec();
    columns[1] = units * positions;
    put(weight,
        torch::cat({weight, torch::zeros(columns, weight.options().requires_grad(false))}, 1));
  };
  if (layer + 1 < net->layers.size())
    with_columns(net->layers[layer + 1].weight, net->layers[layer + 1].positions);
  else
    for (auto& head : net->heads) with_columns(head.weight, 1);
  for (auto& active : active_)
    active[layer] = torch::cat({active[layer], torch::zeros({units}, torch::kBool)});
}

/// Rows of active units are frozen as a whole: what they read from active units because it is in
/// use, what they could read from inactive ones because it is 0 and must stay so.
void NeuralPruning::prepare(LocalOptimizer& optimizer) const {
  for (size_t l = 0; l < net->layers.size(); ++l) {
    const auto free = active_.back()[l].logical_not();
    const auto& weight = net->layers[l].weight;
    std::vector<int64_t> rows(static_cast<size_t>(weight.dim()), 1);
    rows[0] = -1;
    optimizer.freeze(2 * l, free.view(rows).expand_as(weight).contiguous());
    optimizer.freeze(2 * l + 1, free);
  }
}

NeuralPruning::Activity NeuralPruning::measure(const torch::Tensor& x) const {
  const torch::NoGradGuard no_grad;
  Units sum, squares;
  std::vector<double> samples(net->layers.size());
  for (int64_t begin = 0; begin < x.size(0); begin += 1000) {
    const auto hidden = net->hidden(x.narrow(0, begin, std::min<int64_t>(1000, x.size(0) - begin)));
    for (size_t l = 0; l < hidden.size(); ++l) {
      const auto h = by_unit(hidden[l]).to(torch::kDouble);
      if (begin == 0) sum.push_back(torch::zeros({h.size(1)}, torch::kDouble));
      if (begin == 0) squares.push_back(torch::zeros({h.size(1)}, torch::kDouble));
      sum[l] += h.sum(0), squares[l] += h.square().sum(0);
      samples[l] += static_cast<double>(h.size(0));
    }
  }
  Activity out;
  for (size_t l = 0; l < sum.size(); ++l) {
    const auto mean = sum[l] / samples[l];
    out.mean.push_back(mean.to(torch::kFloat));
    out.value.push_back(options_.statistic == ActivityStatistic::mean
                            ? mean
                            : (squares[l] / samples[l] - mean.square()).clamp_min(0).sqrt());
  }
  return out;
}

std::vector<TaskNetImpl::Override> NeuralPruning::masks(
    const Activity& activity, const std::vector<double>& thresholds) const {
  std::vector<TaskNetImpl::Override> out;
  for (size_t l = 0; l < net->layers.size(); ++l) {
    const auto keep = activity.value[l].gt(thresholds[l]).logical_or(active_.back()[l]);
    TaskNetImpl::Override one{keep.to(torch::kFloat), {}};
    if (options_.statistic == ActivityStatistic::deviation)
      one.constant = activity.mean[l] * keep.logical_not();
    out.push_back(one);
  }
  return out;
}

/// The largest thresholds with which the masked net stays at `floor` or above, by bisection over
/// the activities that occur.
std::vector<double> NeuralPruning::thresholds(const Activity& activity, size_t task,
                                              const Samples& valid, double floor) const {
  const size_t layers = net->layers.size();
  std::vector<double> chosen(layers, -1.0);  // masks nothing, for activities are not negative
  const auto holds = [&](const std::vector<double>& tried) {
    return task_accuracy(net, task, valid, masks(activity, tried)) >= floor;
  };
  const auto search = [&](size_t first, size_t last) {
    Units levels;
    for (size_t l = first; l < last; ++l)
      levels.push_back(activity.value[l].masked_select(active_.back()[l].logical_not()));
    const auto steps = std::get<0>(torch::sort(torch::cat(levels)));
    const auto with = [&](int64_t step) {
      auto tried = chosen;
      for (size_t l = first; l < last; ++l) tried[l] = steps[step].item<double>();
      return tried;
    };
    int64_t low = -1, high = steps.size(0);  // low holds, high does not
    while (high - low > 1) {
      const auto middle = (low + high) / 2;
      (holds(with(middle)) ? low : high) = middle;
    }
    if (low >= 0) chosen = with(low);
  };
  if (options_.search == ThresholdSearch::net)
    search(0, layers);
  else
    for (size_t l = layers; l-- > 0;) search(l, l + 1);
  return chosen;
}

void NeuralPruning::commit(const Units& active, const Activity& activity, size_t task) {
  const torch::NoGradGuard no_grad;
  for (size_t l = 0; l < net->layers.size(); ++l) {
    auto& layer = net->layers[l];
    const auto taken = places(active[l].logical_and(active_.back()[l].logical_not()));
    const auto idle = places(active[l].logical_not());
    const auto silent =
        places(columns_of(l, l == 0 ? torch::Tensor() : active[l - 1]).logical_not());
    if (options_.statistic == ActivityStatistic::deviation && l > 0) {
      // A unit that always said the same is replaced by that word in the biases that heard it.
      const auto said = activity.mean[l - 1].index_select(0, silent);
      const auto heard = layer.weight.index_select(0, taken).index_select(1, silent).matmul(said);
      layer.bias.index_add_(0, taken, heard);
    }
    // Interference weights: from inactive units to active ones.
    auto rows = layer.weight.index_select(0, taken);
    rows.index_fill_(1, silent, 0);
    layer.weight.index_copy_(0, taken, rows);
    if (options_.warm || idle.numel() == 0) continue;
    auto fresh = layer.weight.index_select(0, idle), zeros = layer.bias.index_select(0, idle);
    start_relu(fresh, zeros);
    layer.weight.index_copy_(0, idle, fresh);
    layer.bias.index_copy_(0, idle, zeros);
  }
  auto& head = net->heads[task];
  const auto silent = places(active.back().logical_not());
  if (options_.statistic == ActivityStatistic::deviation)
    head.bias +=
        head.weight.index_select(1, silent).matmul(activity.mean.back().index_select(0, silent));
  head.weight.index_fill_(1, silent, 0);
}

CommitReport NeuralPruning::report(const Units& before, const Units& after, size_t task) const {
  const torch::NoGradGuard no_grad;
  CommitReport out;
  for (size_t l = 0; l < net->layers.size(); ++l) {
    const auto& layer = net->layers[l];
    LayerCapacity c;
    c.units = net->units(l);
    c.active_before = count(before[l]);
    c.taken = count(after[l]) - c.active_before;
    const auto below = columns_of(l, l == 0 ? torch::Tensor() : after[l - 1]);
    const int64_t kernel = layer.convolution ? 9 : 1;
    c.frozen = c.active() * (count(below) * kernel + 1);
    c.zeroed = c.active() * count(below.logical_not()) * kernel;
    c.free = layer.weight.numel() + layer.bias.numel() - c.frozen - c.zeroed;
    // Mass that leaves each unit into the units that this task took.
    const bool last = l + 1 == net->layers.size();
    const auto& above = last ? net->heads[task].weight : net->layers[l + 1].weight;
    const auto readers = last ? torch::ones({above.size(0)}, torch::kBool)
                              : after[l + 1].logical_and(before[l + 1].logical_not());
    auto mass = above.index_select(0, places(readers)).abs().sum(0);
    mass = mass.reshape({c.units, -1}).sum(1);
    c.reused = count(before[l].logical_and(mass > kReused * mass.sum()));
    out.layers.push_back(c);
  }
  return out;
}

CommitReport NeuralPruning::learn(const StreamTask& task) {
  make_room();
  const auto number = net->add_head();
  TaskRules rules;
  rules.weight_l1 = options_.weight_l1, rules.activation_l1 = options_.activation_l1;
  rules.prepare = [this](LocalOptimizer& optimizer) { prepare(optimizer); };
  train_task(net, number, task.train, options_.training, rules);

  const auto activity = measure(task.train.x);
  const double accuracy = task_accuracy(net, number, task.valid);
  const auto chosen = thresholds(activity, number, task.valid, accuracy - options_.margin);
  const auto kept = masks(activity, chosen);
  const double pruned = task_accuracy(net, number, task.valid, kept);
  const auto before = active_.back();
  Units after;
  for (const auto& layer : kept) after.push_back(layer.keep.gt(0));
  commit(after, activity, number);
  active_.push_back(after);
  for (auto* parameter : {&net->heads[number].weight, &net->heads[number].bias})
    parameter->set_requires_grad(false);  // a head is frozen with its task

  auto out = report(before, after, number);
  out.accuracy = accuracy, out.pruned_accuracy = pruned;
  for (size_t l = 0; l < chosen.size(); ++l) out.layers[l].threshold = chosen[l];
  return out;
}

TaskNet NeuralPruning::extract(size_t task) const {
  require(task < net->heads.size(), "neural pruning: no task {} of {}", task, net->heads.size());
  const torch::NoGradGuard no_grad;
  const auto& own = active_[task + 1];
  auto options = net->options;
  const size_t filters = options.filters.size();
  for (size_t l = 0; l < own.size(); ++l) {
    const auto units = count(own[l]);
    require(units > 0, "neural pruning: task {} uses no unit of layer {}: nothing to extract", task,
            l);
    (l < filters ? options.filters[l] : options.hidden[l - filters]) = units;
  }
  TaskNet small(options);
  small->add_head();
  for (size_t l = 0; l < own.size(); ++l) {
    const auto rows = places(own[l]);
    const auto columns = places(columns_of(l, l == 0 ? torch::Tensor() : own[l - 1]));
    small->layers[l].weight.copy_(
        net->layers[l].weight.index_select(0, rows).index_select(1, columns));
    small->layers[l].bias.copy_(net->layers[l].bias.index_select(0, rows));
  }
  small->heads[0].weight.copy_(net->heads[task].weight.index_select(1, places(own.back())));
  small->heads[0].bias.copy_(net->heads[task].bias);
  return small;
}

}  // namespace cajal::train
