#include "cajal/atlas/matching.h"

#include <algorithm>
#include <cmath>

#include "cajal/atlas/confidence.h"
#include "cajal/atlas/correlate.h"
#include "cajal/atlas/dense.h"
#include "cajal/atlas/patching.h"
#include "cajal/core/error.h"

namespace cajal::atlas {
namespace {

using torch::Tensor;

Tensor unit_keys(const lm::Transformer& model) {
  std::vector<Tensor> layers;
  for (const auto& block : model->blocks) {
    auto keys = dense_ffn(model->config, block.ffn).key.to(torch::kFloat);
    if (block.ffn.order.defined()) keys = keys.index_select(0, block.ffn.order.argsort());
    layers.push_back(keys);
  }
  const auto rows = torch::cat(layers);
  return rows / rows.norm(2, 1, /*keepdim=*/true).clamp_min(1e-30);
}

}  // namespace

OtherMatches match_otherwise(lm::Transformer& a, lm::Transformer& b, std::span<const int32_t> ids,
                             int64_t context, int64_t batch) {
  const torch::NoGradGuard no_grad;
  const auto keys_a = unit_keys(a), keys_b = unit_keys(b);
  require(keys_a.sizes() == keys_b.sizes(),
          "matching: keys {} and {}, expected models of one shape", shape_text(keys_a.sizes()),
          shape_text(keys_b.sizes()));
  const auto n = keys_a.size(0);
  auto both = torch::zeros({n, n}), fired_a = torch::zeros({n}), fired_b = torch::zeros({n});
  std::vector<Tensor> sums(5);  // of x, y, x^2, y^2, x y
  for (auto& sum : sums) sum = torch::zeros({n}, torch::kDouble);
  int64_t tokens = 0;
  Tensor y;
  each_activation(a, ids, context, batch, [&](int64_t first, const Tensor& x) {
    each_activation(b, ids.subspan(first, x.size(0)), context, batch,
                    [&](int64_t, const Tensor& of_b) { y = of_b; });
    const auto fx = x.gt(0).to(torch::kFloat), fy = y.gt(0).to(torch::kFloat);
    both.addmm_(fx.t(), fy);
    fired_a += fx.sum(0), fired_b += fy.sum(0);
    const auto dx = x.to(torch::kDouble), dy = y.to(torch::kDouble);
    const Tensor parts[] = {dx, dy, dx * dx, dy * dy, dx * dy};
    for (size_t k = 0; k < sums.size(); ++k) sums[k] += parts[k].sum(0);
    tokens += x.size(0);
  });
  const auto count = static_cast<double>(tokens);
  const auto any = fired_a.unsqueeze(1) + fired_b.unsqueeze(0) - both;
  const auto spread = ((sums[2] - sums[0].square() / count).clamp_min(0) *
                       (sums[3] - sums[1].square() / count).clamp_min(0))
                          .sqrt();
  return {both / any.clamp_min(1), torch::mm(keys_a, keys_b.t()),
          (sums[4] - sums[0] * sums[1] / count) / spread.clamp_min(1e-30)};
}

std::vector<HeadSwitch> head_switches(lm::Transformer& model, const Tensor& ids, int64_t most) {
  const torch::NoGradGuard no_grad;
  const auto& c = model->config;
  require(c.norm == lm::NormKind::layer && c.positions == lm::Positions::learned &&
              !model->blocks[0].attention.fused.defined(),
          "head switches: expected an OPT model");
  require(ids.dim() == 2 && ids.size(1) >= 4, "head switches: ids {}, expected [batch, 4 or more]",
          shape_text(ids.sizes()));
  const int64_t d = c.head_width, batch = ids.size(0), tokens = ids.size(1),
                first = std::min<int64_t>(64, tokens / 4);
  const auto seen =
      record(model, ids,
             {"*hook_resid_pre", "*attn.hook_k", "*attn.hook_pattern", "*mlp.hook_post"})
          .values;
  const auto at = [&](int64_t layer, const char* point) {
    return seen.find(fmt::format("blocks.{}.{}", layer, point))->second;
  };
  std::vector<HeadSwitch> all;
  for (int64_t layer = 1; layer < c.layers; ++layer) {
    const auto& block = model->blocks[static_cast<size_t>(layer)];
    const auto key = at(layer, "attn.hook_k")[0][0];  // [heads, d], of the begin token
    const auto query = block.attention.query.weight.decoded().reshape({c.heads, d, c.width});
    const auto direction = torch::einsum("hd,hdw->hw", {key, query}) * block.norm1.weight /
                           std::sqrt(static_cast<double>(d));
    for (int64_t from = 0; from < layer; ++from) {
      const auto rows = value_rows(model->blocks[static_cast<size_t>(from)].ffn);
      const auto scores =
          torch::mm(rows - rows.mean(1, true), direction.t()).reshape({-1});  // [neurons x heads]
      const auto place = std::get<1>(scores.abs().topk(3));
      for (int64_t k = 0; k < 3; ++k) {
        const auto i = place[k].item<int64_t>();
        all.push_back({from, i / c.heads, layer, i % c.heads, scores[i].item<double>()});
      }
    }
  }
  std::sort(all.begin(), all.end(),
            [](const auto& x, const auto& y) { return std::fabs(x.score) > std::fabs(y.score); });
  all.resize(std::min<size_t>(all.size(), static_cast<size_t>(most)));
  std::vector<HeadSwitch> out;
  const auto ahead = torch::full({tokens, tokens}, -INFINITY).triu(1);
  for (auto& n : all) {
    const auto& block = model->blocks[static_cast<size_t>(n.layer)];
    const auto act = at(n.from, "mlp.hook_post").select(-1, n.neuron);
    // Elsewhere taking the neuron away changes nothing.
    const auto fires = act.slice(1, first) > 0;
    if (!fires.any().item<bool>()) continue;
    const auto without =
        at(n.layer, "hook_resid_pre") -
        act.unsqueeze(-1) * value_rows(model->blocks[static_cast<size_t>(n.from)].ffn)[n.neuron];
    const auto q = block.attention.query
                       .forward(torch::layer_norm(without, {c.width}, block.norm1.weight,
                                                  block.norm1.bias, c.epsilon))
                       .reshape({batch, tokens, c.heads, d})
                       .select(2, n.head);
    const auto k = at(n.layer, "attn.hook_k").select(2, n.head);
    const auto pattern =
        torch::softmax(torch::matmul(q, k.transpose(1, 2)) * c.score_scale + ahead, -1);
    const auto attention = [&](const Tensor& of_head) {
      return of_head.select(-1, 0).slice(1, first).masked_select(fires).mean().item<double>();
    };
    n.before = attention(at(n.layer, "attn.hook_pattern").select(1, n.head));
    n.after = attention(pattern);
    out.push_back(n);
  }
  return out;
}

}  // namespace cajal::atlas
