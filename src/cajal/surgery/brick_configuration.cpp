#include "cajal/surgery/brick_configuration.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "cajal/core/error.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/surgery/brick_parts.h"
#include "cajal/surgery/split.h"

namespace cajal::surgery {
namespace {

// The neurons of a layer as the model was, and which of them are to stay.
struct Layers {
  std::map<int64_t, std::set<int64_t>> kept;
};

// Columns (inputs) of a matrix times a factor.
void scale_inputs(Matrix& matrix, const torch::Tensor& inputs, double weight) {
  auto whole = matrix.stored().clone();
  const int64_t axis = matrix.major() == Major::input ? 0 : 1;
  whole.index_copy_(axis, inputs, whole.index_select(axis, inputs) * weight);
  matrix = Matrix::dense(whole, matrix.major());
}

void scale_whole(Matrix& matrix, torch::Tensor& bias, double weight) {
  matrix = Matrix::dense(matrix.stored() * weight, matrix.major());
  if (bias.defined()) bias = bias * weight;
}

void add_delta(Matrix& matrix, const torch::Tensor& by_output) {
  const auto delta = matrix.major() == Major::input ? by_output.t() : by_output;
  matrix = Matrix::dense(matrix.stored() + delta, matrix.major());
}

void append_neurons(lm::Block& block, const Brick& brick, double weight) {
  const auto part = [&](const char* name) {
    const auto found = brick.tensors.find(name);
    return found == brick.tensors.end() ? torch::Tensor() : found->second.to(torch::kFloat);
  };
  lm::NeuronGroup group;
  group.key = Matrix::dense(part("key"));
  if (part("gate").defined()) group.gate = Matrix::dense(part("gate"));
  group.value = Matrix::dense(part("value") * weight, Major::input);
  group.key_bias = part("key_bias");
  if (group.gate.defined() && block.ffn.groups[0].gate_bias.defined())
    group.gate_bias = torch::zeros({group.neurons()});
  block.ffn.groups.push_back(std::move(group));
}

// A bottleneck beside the FFN is so many neurons more.
void append_adapter(const lm::Config& c, lm::Block& block, const Brick& brick, double weight) {
  require(!c.gated, "brick '{}': an adapter beside a gated FFN is no plain weights", brick.card.id);
  Brick neurons{.card = brick.card, .tensors = {}};
  neurons.tensors["key"] = brick.tensors.at("down");
  neurons.tensors["value"] = brick.tensors.at("up").t().contiguous();
  if (block.ffn.groups[0].key_bias.defined())
    neurons.tensors["key_bias"] = torch::zeros({brick.tensors.at("down").size(0)});
  append_neurons(block, neurons, weight);
}

void apply(lm::Transformer& model, const Brick& brick, double weight, Layers& layers) {
  const auto& c = model->config;
  const auto& card = brick.card;
  const auto tensor = [&](const char* name) { return brick.tensors.at(name).to(torch::kFloat); };
  if (card.kind == BrickKind::task_vector) {
    auto parts = float_parts(model);
    for (const auto& [name, delta] : brick.tensors)
      if (name != "embedding") parts[name] = parts.at(name) + weight * delta.to(torch::kFloat);
    return set_parts(model, parts);
  }
  auto& block = model->blocks[static_cast<size_t>(card.layer)];
  switch (card.kind) {
    case BrickKind::neurons:
    case BrickKind::expert: {
      const auto& index = brick.tensors.at("index");
      if (weight != 1) scale_inputs(block.ffn.groups[0].value, index, weight);
      for (int64_t i = 0; i < index.numel(); ++i)
        layers.kept[card.layer].insert(index[i].item<int64_t>());
      return;
    }
    case BrickKind::head: {
      const auto columns =
          (brick.tensors.at("index").unsqueeze(1) * c.head_width + torch::arange(c.head_width))
              .flatten();
      return scale_inputs(block.attention.output.weight, columns, weight);
    }
    case BrickKind::layer:
      scale_whole(block.attention.output.weight, block.attention.output.bias, weight);
      return scale_whole(block.ffn.groups[0].value, block.ffn.value_bias, weight);
    case BrickKind::low_rank:
      return add_delta(matrix_at(model, card.layer, card.module),
                       torch::mm(tensor("right"), tensor("left").t()) * weight);
    case BrickKind::adapter:
      return append_adapter(c, block, brick, weight);
    default:
      return append_neurons(block, brick, weight);
  }
}

void remove_rest(lm::Transformer& model, const Layers& layers) {
  for (const auto& [layer, kept] : layers.kept) {
    auto& group = model->blocks[static_cast<size_t>(layer)].ffn.groups[0];
    const auto index = torch::tensor(std::vector<int64_t>(kept.begin(), kept.end()));
    const auto take = [&](const Matrix& m, bool value) {
      if (!m.defined()) return m;
      const int64_t axis = (m.major() == Major::input) == value ? 0 : 1;
      return Matrix::dense(m.stored().index_select(axis, index).contiguous(), m.major());
    };
    const auto bias = [&](const torch::Tensor& t) {
      return t.defined() ? t.index_select(0, index) : t;
    };
    group.key = take(group.key, false), group.gate = take(group.gate, false);
    group.value = take(group.value, true);
    group.key_bias = bias(group.key_bias), group.gate_bias = bias(group.gate_bias);
  }
}

}  // namespace

lm::Transformer materialise(const lm::Transformer& base, const BrickRegistry& registry,
                            const Configuration& configuration) {
  const torch::NoGradGuard no_grad;
  const auto hash = content_hash(base);
  require(configuration.base.empty() || configuration.base == hash,
          "configuration: made for another model (content {}, this one is {})", configuration.base,
          hash);
  for (const auto& active : configuration.active) {
    require(std::isfinite(active.weight), "configuration: the weight of '{}' is no number",
            active.id);
    check(registry.at(active.id), base, hash);
  }
  auto out = own_copy(base);
  Layers layers;
  for (const auto& active : configuration.active)
    apply(out, registry.at(active.id), active.weight, layers);
  if (configuration.rest_removed) remove_rest(out, layers);
  return out;
}

lm::Transformer with_bricks(const lm::Transformer& base, const std::vector<Brick>& bricks) {
  BrickRegistry registry;
  Configuration all;
  for (const auto& brick : bricks) {
    registry.add(brick);
    all.active.push_back({brick.card.id, 1});
  }
  return materialise(base, registry, all);
}

ConfigurationDifference difference(const Configuration& a, const Configuration& b) {
  ConfigurationDifference out;
  const auto find = [](const Configuration& in, const std::string& id) {
    return std::find_if(in.active.begin(), in.active.end(),
                        [&](const ActiveBrick& one) { return one.id == id; });
  };
  std::vector<std::string> in_a, in_b;
  for (const auto& one : a.active) {
    const auto other = find(b, one.id);
    if (other == b.active.end()) {
      out.only_first.push_back(one.id);
      continue;
    }
    in_a.push_back(one.id);
    if (other->weight != one.weight) out.other_weight.push_back(one.id);
  }
  for (const auto& one : b.active)
    (find(a, one.id) == a.active.end() ? out.only_second : in_b).push_back(one.id);
  out.other_order = in_a != in_b;
  return out;
}

torch::Tensor embed(lm::Transformer& model, std::span<const int32_t> ids) {
  require(!ids.empty(), "embed: no tokens");
  const torch::NoGradGuard no_grad;
  const int64_t context = std::min<int64_t>(512, model->config.context);
  auto sum = torch::zeros({model->config.width}, torch::kDouble);
  int64_t tokens = 0;
  for (int64_t begin = 0; begin < std::ssize(ids); begin += context) {
    const auto length = std::min<int64_t>(context, std::ssize(ids) - begin);
    if (begin > 0 && length < context) break;
    const auto part = ids.subspan(static_cast<size_t>(begin), static_cast<size_t>(length));
    const auto input =
        torch::tensor(std::vector<int32_t>(part.begin(), part.end())).to(torch::kLong).unsqueeze(0);
    lm::Pass pass;
    pass.stop_at_layer = model->config.layers;
    sum += model->forward(input, pass)[0].to(torch::kDouble).sum(0);
    tokens += length;
  }
  return (sum / static_cast<double>(tokens)).to(torch::kFloat);
}

std::vector<Retrieved> retrieve(const BrickRegistry& registry, const lm::Transformer& model,
                                const torch::Tensor& query, int64_t count, int64_t budget) {
  require(count > 0 && budget >= 0, "retrieve: {} bricks within {} multiply-adds", count, budget);
  require(query.dim() == 1 && query.size(0) == model->config.width,
          "retrieve: the query is {}, expected [width] = [{}]", shape_text(query.sizes()),
          model->config.width);
  std::vector<Retrieved> all;
  // What all texts have in common says nothing: cosines are of differences from the mean.
  std::vector<torch::Tensor> known;
  for (const auto& brick : registry.bricks())
    if (const auto found = brick.tensors.find("embedding"); found != brick.tensors.end())
      known.push_back(found->second.to(torch::kFloat));
  require(!known.empty(), "retrieve: no brick of the registry has an embedding");
  const auto mean = known.size() > 1 ? torch::stack(known).mean(0) : torch::zeros_like(known[0]);
  for (const auto& brick : registry.bricks())
    if (const auto found = brick.tensors.find("embedding"); found != brick.tensors.end()) {
      const auto a = found->second.to(torch::kFloat) - mean, b = query.to(torch::kFloat) - mean;
      const double length = a.norm().item<double>() * b.norm().item<double>();
      all.push_back({brick.card.id, length > 0 ? a.dot(b).item<double>() / length : 0});
    }
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return a.cosine > b.cosine; });
  std::vector<Retrieved> out;
  int64_t spent = 0;
  for (const auto& one : all) {
    if (std::ssize(out) == count) break;
    const int64_t cost = cost_of(registry.at(one.id), model).multiply_adds;
    if (budget > 0 && spent + cost > budget) continue;
    spent += cost;
    out.push_back(one);
  }
  return out;
}

Brick grown_neurons(const std::string& id, const lm::Transformer& model, int64_t layer,
                    int64_t count, const torch::Tensor& inputs) {
  const auto& c = model->config;
  require(layer >= 0 && layer < c.layers, "grow: layer {}, expected 0 to {}", layer, c.layers - 1);
  require(count > 0, "grow: {} neurons", count);
  require(!inputs.defined() ||
              (inputs.dim() == 2 && inputs.size(0) == count && inputs.size(1) == c.width),
          "grow: inputs must be [neurons, width] = [{}, {}]", count, c.width);
  Brick out{.card = {.id = id,
                     .kind = BrickKind::key_value,
                     .layer = layer,
                     .module = "",
                     .tags = {},
                     .base = content_hash(model)},
            .tensors = {}};
  const auto keys = inputs.defined() ? inputs / inputs.norm(2, 1, /*keepdim=*/true).clamp_min(1e-12)
                                     : 0.02 * torch::randn({count, c.width});
  out.tensors["key"] = keys.clone();
  if (c.gated) out.tensors["gate"] = keys.clone();
  out.tensors["value"] = torch::zeros({count, c.width});
  if (model->blocks[static_cast<size_t>(layer)].ffn.groups.at(0).key_bias.defined())
    out.tensors["key_bias"] = torch::zeros({count});
  return out;
}

}  // namespace cajal::surgery
