#include "cajal/atlas/attribution.h"

#include <algorithm>

#include "cajal/core/error.h"

namespace cajal::atlas {
namespace {

torch::Tensor at_position(const torch::Tensor& logits, int64_t position) {
  return logits.dim() == 3 ? logits.select(1, position) : logits;
}

torch::Tensor of_ids(const torch::Tensor& values, const torch::Tensor& ids) {
  require(ids.dim() == 1 && ids.size(0) == values.size(0),
          "metric: ids are {}, expected [{}], one for each example", shape_text(ids.sizes()),
          values.size(0));
  return values.gather(1, ids.to(values.device()).unsqueeze(1)).squeeze(1);
}

// Values of points in a pass whose graph is kept, so that gradients with respect to each of them
// are total derivatives: a later point does not cut an earlier one off.
struct Traced {
  torch::Tensor metric;  // [batch]
  Recording values;
};

Traced trace(lm::Transformer& model, const torch::Tensor& input,
             const std::vector<std::string>& names, const Metric& metric, lm::Pass pass) {
  lm::Hooks hooks = pass.hooks ? *pass.hooks : lm::Hooks();
  Traced out;
  for (const auto& name : names)
    hooks.add(name, [&](std::string_view point, const torch::Tensor& value) {
      const auto found = out.values.find(point);
      if (found != out.values.end()) return found->second;
      const auto kept = value.requires_grad() ? value : value.detach().requires_grad_();
      out.values[std::string(point)] = kept;
      return kept;
    });
  pass.hooks = &hooks;
  out.metric = metric(model->forward(input, pass));
  return out;
}

std::vector<torch::Tensor> gradients(const Traced& traced) {
  std::vector<torch::Tensor> values;
  for (const auto& [name, value] : traced.values) values.push_back(value);
  auto found = torch::autograd::grad({traced.metric.sum()}, values, {}, c10::nullopt, false,
                                     /*allow_unused=*/true);
  for (size_t i = 0; i < values.size(); ++i)
    if (!found[i].defined()) found[i] = torch::zeros_like(values[i]);
  return found;
}

}  // namespace

Metric logit_of(torch::Tensor ids, int64_t position) {
  return [=](const torch::Tensor& logits) { return of_ids(at_position(logits, position), ids); };
}

Metric logit_difference(torch::Tensor ids, torch::Tensor others, int64_t position) {
  return [=](const torch::Tensor& logits) {
    const auto last = at_position(logits, position);
    return of_ids(last, ids) - of_ids(last, others);
  };
}

Metric probability_of(torch::Tensor ids, int64_t position) {
  return [=](const torch::Tensor& logits) {
    return of_ids(torch::softmax(at_position(logits, position), -1), ids);
  };
}

Metric indirect_effect(const torch::Tensor& before, torch::Tensor ids, torch::Tensor source_ids,
                       int64_t position) {
  const auto start = torch::softmax(at_position(before.detach(), position), -1);
  const auto p = of_ids(start, ids), p_source = of_ids(start, source_ids);
  return [=](const torch::Tensor& logits) {
    const auto after = torch::softmax(at_position(logits, position), -1);
    const auto q = of_ids(after, ids), q_source = of_ids(after, source_ids);
    return ((q_source - p_source) / p_source + (p - q) / q) / 2;
  };
}

Recording attribution_patching(lm::Transformer& model, const torch::Tensor& input,
                               const torch::Tensor& source, const std::vector<std::string>& hooks,
                               const Metric& metric, const AttributionOptions& options,
                               lm::Pass pass) {
  require(input.sizes() == source.sizes(),
          "attribution_patching: the source's input is {}, expected {}", shape_text(source.sizes()),
          shape_text(input.sizes()));
  Recording values;
  {
    const torch::NoGradGuard no_grad;
    values = record(model, source, hooks, pass).values;
  }
  return attribution_patching(model, input, values, hooks, metric, options, pass);
}

Recording attribution_patching(lm::Transformer& model, const torch::Tensor& input,
                               const Recording& source, const std::vector<std::string>& hooks,
                               const Metric& metric, const AttributionOptions& options,
                               lm::Pass pass) {
  require(options.steps > 0, "attribution_patching: steps is {}, expected at least 1",
          options.steps);
  const torch::AutoGradMode gradient_on(true);
  const auto traced = trace(model, input, hooks, metric, pass);
  require(!traced.values.empty(), "attribution_patching: no point of this model is called '{}'",
          fmt::join(hooks, "', '"));
  Recording scores;
  const auto slopes = options.steps == 1 ? gradients(traced) : std::vector<torch::Tensor>();
  size_t i = 0;
  for (const auto& [name, own] : traced.values) {
    const auto found = source.find(name);
    require(found != source.end(), "attribution_patching: the source holds no '{}'", name);
    const auto start = own.detach(), step = found->second.to(start.options()) - start;
    require(step.sizes() == start.sizes(),
            "attribution_patching: the source's '{}' is {}, "
            "expected {}",
            name, shape_text(found->second.sizes()), shape_text(start.sizes()));
    if (options.steps == 1) {
      scores[name] = slopes[i++] * step;
      continue;
    }
    const auto f = [&](const torch::Tensor& value) {
      lm::Hooks moved = pass.hooks ? *pass.hooks : lm::Hooks();
      moved.add(name, [&](std::string_view, const torch::Tensor&) { return value; });
      auto inner = pass;
      inner.hooks = &moved;
      return metric(model->forward(input, inner));
    };
    scores[name] = integrated_gradients(f, start + step, start, options.steps);
  }
  return scores;
}

torch::Tensor integrated_gradients(const std::function<torch::Tensor(const torch::Tensor&)>& f,
                                   const torch::Tensor& x, const torch::Tensor& baseline,
                                   int64_t steps) {
  require(steps > 0, "integrated_gradients: steps is {}, expected at least 1", steps);
  require(baseline.sizes() == x.sizes(), "integrated_gradients: the baseline is {}, expected {}",
          shape_text(baseline.sizes()), shape_text(x.sizes()));
  const torch::AutoGradMode gradient_on(true);
  const auto start = baseline.detach(), path = x.detach() - start;
  auto sum = torch::zeros_like(path);
  for (int64_t k = 0; k < steps; ++k) {
    const double share = (static_cast<double>(k) + 0.5) / static_cast<double>(steps);
    const auto point = (start + share * path).requires_grad_();
    const auto slope =
        torch::autograd::grad({f(point).sum()}, {point}, {}, c10::nullopt, false, true)[0];
    if (slope.defined()) sum += slope;
  }
  return path * sum / static_cast<double>(steps);
}

torch::Tensor patch_each(lm::Transformer& model, const torch::Tensor& input,
                         const torch::Tensor& source_value, const std::string& hook,
                         const std::vector<int64_t>& units, int64_t position,
                         const std::function<Metric(int64_t copies)>& metric, int64_t rows) {
  require(source_value.dim() == 3, "patch_each: '{}' is {}, expected [batch, tokens, units]", hook,
          shape_text(source_value.sizes()));
  const int64_t batch = input.size(0), count = source_value.size(2);
  const auto at_once = static_cast<size_t>(std::max<int64_t>(1, rows / batch));
  std::vector<torch::Tensor> out;
  for (size_t begin = 0; begin < units.size(); begin += at_once) {
    const auto copies = static_cast<int64_t>(std::min(at_once, units.size() - begin));
    auto mask = torch::zeros({copies, batch, source_value.size(1), count}, torch::kBool);
    for (int64_t k = 0; k < copies; ++k) {
      const int64_t unit = units[begin + static_cast<size_t>(k)];
      require(unit >= 0 && unit < count,
              "patch_each: unit {} of '{}' is out of range, there are {}", unit, hook, count);
      auto part = mask[k].select(-1, unit);
      (position == kEverywhere ? part : part.select(1, position)).fill_(true);
    }
    lm::Hooks hooks;
    patch(hooks, hook, mask.flatten(0, 1), source_value.repeat({copies, 1, 1}));
    const auto logits = model->forward(input.repeat({copies, 1}), {.hooks = &hooks});
    out.push_back(metric(copies)(logits).reshape({copies, batch}));
  }
  return torch::cat(out);
}

}  // namespace cajal::atlas
