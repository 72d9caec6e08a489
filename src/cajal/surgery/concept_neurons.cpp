#include "cajal/surgery/concept_neurons.h"

#include <algorithm>
#include <cmath>

#include "cajal/core/error.h"

namespace cajal::surgery {
namespace {

using torch::Tensor;
using Tensors = std::vector<Tensor>;

Tensor flat(const Tensors& parts) {
  Tensors out;
  for (const auto& part : parts) out.push_back(part.detach().flatten());
  return torch::cat(out);
}
Tensors split_like(const Tensor& joined, const Tensors& like) {
  Tensors out;
  int64_t at = 0;
  for (const auto& part : like) {
    out.push_back(joined.slice(0, at, at + part.numel()).view_as(part));
    at += part.numel();
  }
  return out;
}

/// The `count` largest scores that exceed `least`, as lists.
IndexLists largest(const Tensor& scores, const Tensors& like, int64_t count, double least) {
  const auto [value, place] = scores.topk(std::min(count, scores.size(0)));
  const auto kept = place.masked_select(value > least);
  IndexLists out;
  int64_t begin = 0;
  for (const auto& part : like) {
    out.sizes.push_back(part.numel());
    const auto mine = kept.masked_select((kept >= begin).logical_and(kept < begin + part.numel()));
    const auto sorted = std::get<0>((mine - begin).sort()).contiguous();
    out.indices.emplace_back(sorted.data_ptr<int64_t>(),
                             sorted.data_ptr<int64_t>() + sorted.numel());
    begin += part.numel();
  }
  return out;
}

/// The mean of a row for each of its entries.
Tensor by_row(const Tensor& joined, const Tensors& like) {
  Tensors out;
  for (const auto& part : split_like(joined, like))
    out.push_back(part.mean(1, true).expand_as(part).flatten());
  return torch::cat(out);
}

/// The search: scores (larger = shut first), the least score that counts, and the gates.
struct Search {
  Tensor scores, gates;
  double least = -INFINITY;
};

Search accumulate(diffusion::TextToImage& model, const diffusion::Schedule& schedule,
                  const Subject& subject, const Tensors& weights, const ConceptOptions& o) {
  const auto gradient = [&](const Tensors& gates) {
    const auto g = flat(
        gate_gradients(model, schedule, draw_noise(subject, schedule, o.batch), gates, o.lambda));
    return o.rows ? by_row(g, weights) : g;
  };
  // The pace: as many draws as this must bring the wanted share of the gates to tau.
  const int64_t first = std::max<int64_t>(1, o.draws / 5),
                rest = std::max<int64_t>(1, o.draws - first);
  Tensor mean;
  for (int64_t d = 0; d < first; ++d) {
    const auto g = gradient({});
    mean = mean.defined() ? mean + g : g;
  }
  mean = mean / static_cast<double>(first);
  const auto count =
      std::max<int64_t>(1, std::llround(o.share * static_cast<double>(mean.size(0))));
  const double reach = std::max(std::get<0>(mean.topk(count))[-1].item<double>(), 1e-12);
  const double rho = o.pace * (1 - o.tau) / (static_cast<double>(rest) * reach);
  auto gates = torch::ones_like(mean);
  for (int64_t d = 0; d < rest; ++d)
    gates = (gates - rho * gradient(split_like(gates, weights))).clamp(0, 1);
  return {1 - gates, gates, 1 - o.tau};
}

Search score(diffusion::TextToImage& model, const diffusion::Schedule& schedule,
             const Subject& subject, const Tensors& weights, const ConceptOptions& o) {
  const auto all = flat(weights);
  const auto ones = torch::ones_like(all);
  switch (o.score) {
    case NeuronScore::gate:
      return accumulate(model, schedule, subject, weights, o);
    case NeuronScore::magnitude:
      return {all.abs(), ones};
    case NeuronScore::random:
      return {torch::rand_like(all), ones};
    case NeuronScore::one_shot:
    case NeuronScore::gradient: {
      auto sum = torch::zeros_like(all), squares = sum.clone(), sizes = sum.clone();
      for (int64_t d = 0; d < o.draws; ++d) {
        auto g = flat(
            gate_gradients(model, schedule, draw_noise(subject, schedule, o.batch), {}, o.lambda));
        if (o.rows) g = by_row(g, weights);
        sum += g, squares += g.square(), sizes += g.abs();
      }
      if (o.score == NeuronScore::gradient) return {sizes, ones};
      return {sum / squares.sqrt().clamp_min(1e-20), ones, 0};
    }
  }
  fail("concept neurons: no score {}", static_cast<int>(o.score));
}

}  // namespace

NoiseDraw draw_noise(const Subject& s, const diffusion::Schedule& schedule, int64_t batch) {
  require(batch >= 2 && s.pictures.defined() && s.prior_pictures.defined() &&
              s.pictures.size(0) > 0 && s.prior_pictures.size(0) > 0,
          "concept loss: a batch of {}, and pictures of the subject and its prior", batch);
  NoiseDraw out;
  out.own = batch / 2;
  const auto rows = torch::randint(s.pictures.size(0), {out.own}, torch::kLong);
  const auto prior = torch::randint(s.prior_pictures.size(0), {batch - out.own}, torch::kLong);
  out.pictures =
      torch::cat({s.pictures.index_select(0, rows), s.prior_pictures.index_select(0, prior)});
  out.words = torch::cat({s.words.index_select(0, rows), s.prior_words.index_select(0, prior)});
  out.steps = torch::randint(schedule.options.steps, {batch}, torch::kLong);
  out.noise = torch::randn_like(out.pictures);
  return out;
}

Tensor concept_loss(diffusion::TextToImage& model, const diffusion::Schedule& schedule,
                    const NoiseDraw& draw, double lambda) {
  const auto noisy = schedule.noised(draw.pictures, draw.steps, draw.noise);
  const auto guess = model->forward(noisy, draw.steps.to(noisy.scalar_type()), draw.words);
  const auto error =
      (guess - schedule.target(draw.pictures, draw.noise)).square().flatten(1).mean(1);
  return error.slice(0, 0, draw.own).mean() + lambda * error.slice(0, draw.own).mean();
}

double concept_loss(diffusion::TextToImage& model, const diffusion::Schedule& schedule,
                    const std::vector<NoiseDraw>& draws, double lambda) {
  require(!draws.empty(), "concept loss: no draws");
  const torch::NoGradGuard no_grad;
  double sum = 0;
  for (const auto& draw : draws) sum += concept_loss(model, schedule, draw, lambda).item<double>();
  return sum / static_cast<double>(draws.size());
}

Tensors key_value_weights(diffusion::TextToImage& model) {
  Tensors out;
  for (const auto& attention : model->attentions)
    out.push_back(attention->key), out.push_back(attention->value);
  return out;
}

std::vector<std::string> key_value_names(const diffusion::TextToImage& model) {
  std::vector<std::string> out;
  for (const auto& p : model->named_parameters())
    if (p.key().ends_with("_attention.key") || p.key().ends_with("_attention.value"))
      out.push_back(p.key());
  return out;
}

Tensors gate_gradients(diffusion::TextToImage& model, const diffusion::Schedule& schedule,
                       const NoiseDraw& draw, const Tensors& gates, double lambda) {
  const auto weights = key_value_weights(model);
  require(gates.empty() || gates.size() == weights.size(), "gates: {} for {} matrices",
          gates.size(), weights.size());
  Tensors kept;
  for (size_t m = 0; m < weights.size(); ++m) {
    kept.push_back(weights[m].detach().clone());
    if (!gates.empty()) weights[m].detach().mul_(gates[m]);
  }
  auto gradients = torch::autograd::grad({concept_loss(model, schedule, draw, lambda)}, weights);
  for (size_t m = 0; m < weights.size(); ++m) {
    weights[m].detach().copy_(kept[m]);
    gradients[m] = kept[m] * gradients[m];
  }
  return gradients;
}

ConceptNeurons find_concept_neurons(diffusion::TextToImage& model,
                                    const diffusion::Schedule& schedule, const Subject& subject,
                                    const ConceptOptions& o) {
  require(o.share > 0 && o.share <= 1 && o.draws > 0 && o.tau > 0 && o.tau < 1 && o.pace > 0,
          "concept neurons: share {}, draws {}, tau {}, pace {}", o.share, o.draws, o.tau, o.pace);
  const auto weights = key_value_weights(model);
  require(!weights.empty(), "concept neurons: the model has no cross-attention");
  const auto search = score(model, schedule, subject, weights, o);
  const auto total = static_cast<double>(search.scores.size(0));
  auto count = std::max<int64_t>(1, static_cast<int64_t>(o.share * total));
  ConceptNeurons out;
  out.gates = split_like(search.gates, weights);
  out.shut = largest(search.scores, weights, count, search.least);
  if (!o.back_off) return out;
  std::vector<NoiseDraw> draws;
  for (int64_t d = 0; d < std::max<int64_t>(2, o.draws / 10); ++d)
    draws.push_back(draw_noise(subject, schedule, o.batch));
  out.before = concept_loss(model, schedule, draws, o.lambda);
  while (true) {
    const auto values = shut(weights, out.shut);
    out.after = concept_loss(model, schedule, draws, o.lambda);
    restore(weights, out.shut, values);
    if (out.after <= out.before || count <= 1) return out;
    count /= 2;
    out.shut = largest(search.scores, weights, count, search.least);
  }
}

}  // namespace cajal::surgery
