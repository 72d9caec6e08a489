#include "cajal/surgery/brick_merge.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/surgery/brick_parts.h"

namespace cajal::surgery {
namespace {

// The `density` largest entries of a tensor, the others 0.
torch::Tensor trimmed(const torch::Tensor& delta, double density) {
  const auto flat = delta.abs().flatten();
  const auto kept = std::clamp<int64_t>(std::llround(density * static_cast<double>(flat.numel())),
                                        1, flat.numel());
  const auto least = std::get<0>(flat.topk(kept)).min();
  return delta * delta.abs().ge(least).to(delta.scalar_type());
}

torch::Tensor ties(std::vector<torch::Tensor> parts, const std::vector<double>& weights,
                   double density) {
  auto mass = torch::zeros_like(parts[0]);
  for (size_t i = 0; i < parts.size(); ++i) {
    parts[i] = trimmed(parts[i], density) * weights[i];
    mass += parts[i];
  }
  const auto sign = mass.sign();
  auto sum = torch::zeros_like(mass), count = torch::zeros_like(mass);
  for (const auto& part : parts) {
    const auto agrees = part.sign().eq(sign).logical_and(part.ne(0)).to(part.scalar_type());
    sum += part * agrees, count += agrees;
  }
  return sum / count.clamp_min(1);
}

torch::Tensor thinned(const torch::Tensor& delta, double density, Random& random) {
  auto out = delta.clone().contiguous();
  auto* data = out.data_ptr<float>();
  for (int64_t i = 0; i < out.numel(); ++i)
    data[i] = random.uniform() < density ? data[i] / static_cast<float>(density) : 0.0f;
  return out;
}

std::vector<double> weights_of(size_t count, const std::vector<double>& given) {
  require(given.empty() || given.size() == count, "merge: {} weights for {} bricks", given.size(),
          count);
  for (const double weight : given) require(std::isfinite(weight), "merge: a weight is no number");
  return given.empty() ? std::vector<double>(count, 1.0) : given;
}

}  // namespace

NamedTensors merge_deltas(const std::vector<NamedTensors>& deltas, const MergeOptions& o) {
  const torch::NoGradGuard no_grad;
  require(!deltas.empty(), "merge: nothing to merge");
  const auto weights = weights_of(deltas.size(), o.weights);
  require(o.density > 0 && o.density <= 1, "merge.density: {}, expected above 0 and at most 1",
          o.density);
  double total = 0;
  for (const double weight : weights) total += weight;
  require(o.rule != MergeRule::average || total != 0, "merge.weights: an average of weight 0");
  std::set<std::string> names;
  for (const auto& delta : deltas)
    for (const auto& [name, tensor] : delta) names.insert(name);
  NamedTensors out;
  Random random(o.seed);
  for (const auto& name : names) {
    std::vector<torch::Tensor> parts;
    torch::Tensor like;
    for (const auto& delta : deltas)
      if (const auto found = delta.find(name); found != delta.end()) {
        require(!like.defined() || like.sizes() == found->second.sizes(),
                "merge: '{}' is {} in one and {} in another", name, shape_text(like.sizes()),
                shape_text(found->second.sizes()));
        like = found->second.to(torch::kFloat);
      }
    for (const auto& delta : deltas) {
      const auto found = delta.find(name);
      parts.push_back(found == delta.end() ? torch::zeros_like(like)
                                           : found->second.to(torch::kFloat));
    }
    if (o.rule == MergeRule::ties) {
      out[name] = ties(parts, weights, o.density);
      continue;
    }
    auto sum = torch::zeros_like(like);
    for (size_t i = 0; i < parts.size(); ++i)
      sum += weights[i] *
             (o.rule == MergeRule::dare ? thinned(parts[i], o.density, random) : parts[i]);
    out[name] = o.rule == MergeRule::average ? sum / total : sum;
  }
  return out;
}

NamedTensors delta_of(lm::Transformer& base, lm::Transformer& tuned) {
  const torch::NoGradGuard no_grad;
  const auto from = float_parts(base), to = float_parts(tuned);
  require(from.size() == to.size(), "task vector: {} tensors and {}", from.size(), to.size());
  NamedTensors out;
  for (const auto& [name, tensor] : from) {
    const auto found = to.find(name);
    require(found != to.end() && found->second.sizes() == tensor.sizes(),
            "task vector: '{}' is not the same in both models", name);
    out[name] = found->second.detach().to(torch::kFloat) - tensor.detach().to(torch::kFloat);
  }
  return out;
}

Brick concatenated(const std::string& id, const std::vector<Brick>& bricks,
                   const std::vector<double>& given) {
  const torch::NoGradGuard no_grad;
  require(!bricks.empty(), "merge: nothing to merge");
  const auto weights = weights_of(bricks.size(), given);
  std::vector<torch::Tensor> lefts, rights;
  for (size_t i = 0; i < bricks.size(); ++i) {
    const auto& card = bricks[i].card;
    const auto& first = bricks[0].card;
    require(card.kind == BrickKind::low_rank && card.layer == first.layer &&
                card.module == first.module && card.base == first.base,
            "merge: '{}' and '{}' are no low-rank bricks of one place", first.id, card.id);
    lefts.push_back(bricks[i].tensors.at("left").to(torch::kFloat));
    rights.push_back(bricks[i].tensors.at("right").to(torch::kFloat) * weights[i]);
  }
  Brick out{.card = bricks[0].card, .tensors = {}};
  out.card.id = id;
  out.tensors["left"] = torch::cat(lefts, 1), out.tensors["right"] = torch::cat(rights, 1);
  return out;
}

NamedTensors dense_delta(const lm::Transformer& model, const std::vector<Brick>& bricks) {
  const torch::NoGradGuard no_grad;
  auto handle = model;
  NamedTensors out;
  for (const auto& brick : bricks) {
    require(brick.card.kind == BrickKind::low_rank, "brick '{}' is not low_rank", brick.card.id);
    const auto& matrix = matrix_at(handle, brick.card.layer, brick.card.module);
    const auto by_output = torch::mm(brick.tensors.at("right").to(torch::kFloat),
                                     brick.tensors.at("left").to(torch::kFloat).t());
    const auto delta = (matrix.major() == Major::input ? by_output.t() : by_output).contiguous();
    const auto name = fmt::format("blocks.{}.{}.weight", brick.card.layer, brick.card.module);
    const auto found = out.find(name);
    out[name] = found == out.end() ? delta : found->second + delta;
  }
  return out;
}

}  // namespace cajal::surgery
