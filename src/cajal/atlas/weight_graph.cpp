// Networks as graphs of weights, and plain statistics of those.
#include <algorithm>
#include <cmath>
#include <functional>

#include "cajal/atlas/dense.h"
#include "cajal/atlas/multifractal.h"
#include "cajal/core/error.h"
#include "cajal/core/random.h"

namespace cajal::atlas {
namespace {

torch::Tensor draw(Random& random, int64_t count, int64_t from) {
  require(count > 0, "sample_graph: {} nodes, expected at least 1", count);
  std::vector<int64_t> all(static_cast<size_t>(from));
  for (int64_t i = 0; i < from; ++i) all[static_cast<size_t>(i)] = i;
  const auto kept = static_cast<size_t>(std::min(count, from));
  for (size_t i = 0; i < kept; ++i) std::swap(all[i], all[i + random.below(all.size() - i)]);
  all.resize(kept);
  return torch::tensor(all, torch::kLong);
}

// [width, heads x head width] each.
struct Projections {
  torch::Tensor query, key, value, output;
};
Projections projections(const lm::Config& c, const lm::Attention& a, bool compat) {
  const auto w = dense_attention(c, a);
  const auto flat = [](const torch::Tensor& t) { return t.flatten(0, 1); };
  Projections out{flat(w.query).t(), flat(w.key).t(), flat(w.value).t(), flat(w.output)};
  if (compat && a.fused.defined() && a.fused_by_head) {
    const auto rows = dense_weight(a.fused.weight).chunk(3);
    out.query = rows[0].t(), out.key = rows[1].t(), out.value = rows[2].t();
  }
  return out;
}

void append(Distances& out, const torch::Tensor& weight) {
  const auto wide = weight.to(torch::kDouble).contiguous();
  const auto* w = wide.data_ptr<double>();
  for (int64_t i = 0; i < wide.size(0); ++i) {
    auto& node = out.emplace_back();
    for (int64_t j = 0; j < wide.size(1); ++j, ++w)
      if (*w != 0) node.push_back(1 / std::abs(*w));
  }
}

// Tail exponent of the largest `count` of sorted (falling) values.
double hill(const torch::Tensor& sorted, int64_t count) {
  const auto top = sorted.slice(0, 0, count + 1).clamp_min(1e-300).log();
  const double sum = (top.slice(0, 0, count) - top[count]).sum().item<double>();
  return static_cast<double>(count) / std::max(sum, 1e-300);
}

}  // namespace

std::vector<EdgeLayer> edge_layers(const lm::Transformer& model, bool compat) {
  const auto& c = model->config;
  std::vector<EdgeLayer> out;
  for (int64_t l = 0; l < c.layers; ++l) {
    const auto& block = model->blocks[static_cast<size_t>(l)];
    const auto prefix = fmt::format("blocks.{}.", l);
    const auto p = projections(c, block.attention, compat);
    const auto ffn = dense_ffn(c, block.ffn);
    const auto in = ffn.gated ? torch::cat({ffn.gate, ffn.key}) : ffn.key;
    out.push_back({prefix + "qkv", torch::cat({p.query, p.key, p.value}, 1)});
    out.push_back({prefix + "output", p.output});
    out.push_back({prefix + "in", in.t()});
    out.push_back({prefix + "out", ffn.value});
  }
  return out;
}

EdgeLayer convolution_edges(const std::string& name, const torch::Tensor& weight) {
  require(weight.dim() > 2, "{}: weight is {}, expected [outputs, inputs, kernel ...]", name,
          shape_text(weight.sizes()));
  return {name, weight.flatten(2).abs().mean(-1).t()};
}

Distances sample_graph(const lm::Transformer& model, const SampleOptions& o) {
  const auto& c = model->config;
  struct Sample {
    torch::Tensor read, head, middle, neuron;
  };
  Random random(o.seed);
  std::vector<Sample> samples;
  for (int64_t l = 0; l < c.layers; ++l) {
    Sample s;
    s.read = draw(random, o.nodes, c.width);
    s.head = draw(random, o.nodes, c.heads * c.head_width);
    s.middle = draw(random, o.nodes, c.width);
    s.neuron = draw(random, 2 * o.nodes, c.neurons);
    samples.push_back(s);
  }
  const auto last = draw(random, o.nodes, c.width);
  Distances out;
  for (int64_t l = 0; l < c.layers; ++l) {
    const auto& block = model->blocks[static_cast<size_t>(l)];
    const auto& s = samples[static_cast<size_t>(l)];
    const auto next = l + 1 < c.layers ? samples[static_cast<size_t>(l) + 1].read : last;
    const auto part = [](const torch::Tensor& w, const torch::Tensor& from,
                         const torch::Tensor& to) {
      return w.index_select(0, from).index_select(1, to);
    };
    const auto p = projections(c, block.attention, o.compat);
    // A key-value head serves a run of query heads: their dimensions share its.
    const auto head = s.head.div(c.head_width, "floor").div(c.heads / c.kv_heads, "floor");
    const auto shared = head * c.head_width + s.head.remainder(c.head_width);
    append(out, torch::cat({part(p.query, s.read, s.head), part(p.key, s.read, shared),
                            part(p.value, s.read, shared)},
                           1));
    append(out, part(p.output, s.head, s.middle));
    const auto ffn = dense_ffn(c, block.ffn);
    auto in = part(ffn.key.t(), s.middle, s.neuron);
    if (ffn.gated) in = torch::cat({part(ffn.gate.t(), s.middle, s.neuron), in}, 1);
    append(out, in);
    append(out, part(ffn.value, s.neuron, next));
  }
  return out;
}

WeightTails weight_tails(const std::vector<EdgeLayer>& layers) {
  WeightTails out;
  const auto n = static_cast<double>(layers.size());
  for (const auto& layer : layers) {
    const auto w = layer.weight.to(torch::kDouble);
    const auto centred = w - w.mean();
    out.kurtosis += (centred.pow(4).mean() / centred.square().mean().square()).item<double>() / n;
    const auto norms = w.norm(2, 1);
    out.norm_spread += (norms.std(0, false) / norms.mean()).item<double>() / n;
    const auto sorted = std::get<0>(w.abs().sort(1, /*descending=*/true));
    const int64_t tail = std::max<int64_t>(1, w.size(1) / 10);
    double rows = 0;
    for (int64_t i = 0; i < w.size(0); ++i)
      rows += hill(sorted[i], std::min(tail, w.size(1) - 1)) / static_cast<double>(w.size(0));
    out.hill += rows / n;
    const auto eigenvalues = torch::linalg_svdvals(w).square();
    out.spectral += (1 + hill(eigenvalues, std::max<int64_t>(1, eigenvalues.size(0) / 2))) / n;
  }
  return out;
}

}  // namespace cajal::atlas
