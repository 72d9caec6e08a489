#include "cajal/surgery/functions.h"

#include <algorithm>
#include <cmath>

#include "cajal/core/error.h"
#include "cajal/math/modularity.h"
#include "cajal/surgery/brick_parts.h"
#include "cajal/surgery/regroup.h"
#include "cajal/surgery/split.h"

namespace cajal::surgery {
namespace {

// ‖w_i‖ in the order in which the neurons stand at the hook.
torch::Tensor value_norms(const lm::FeedForward& ffn) {
  std::vector<torch::Tensor> parts;
  for (const auto& group : ffn.groups) {
    const auto rows = group.value.decoded();
    parts.push_back((group.value.major() == Major::input ? rows : rows.t()).norm(2, 1));
  }
  return parts.size() == 1 ? parts[0] : torch::cat(parts);
}

}  // namespace

int64_t FunctionActivity::neurons() const {
  int64_t sum = 0;
  for (const auto& layer : norms) sum += layer.size(1);
  return sum;
}

torch::Tensor FunctionActivity::layer_of() const {
  std::vector<torch::Tensor> parts;
  for (size_t l = 0; l < norms.size(); ++l)
    parts.push_back(torch::full({norms[l].size(1)}, static_cast<int64_t>(l), torch::kLong));
  return torch::cat(parts);
}

FunctionActivity record(lm::Transformer& model, std::span<const FunctionText> texts, int64_t tokens,
                        int64_t context) {
  require(!texts.empty() && context > 0 && context <= model->config.context,
          "functions: {} texts in windows of {}, expected 1 to {}", texts.size(), context,
          model->config.context);
  const torch::NoGradGuard no_grad;
  FunctionActivity out;
  std::vector<std::vector<torch::Tensor>> parts(model->blocks.size());
  std::vector<torch::Tensor> sizes;
  for (const auto& block : model->blocks) sizes.push_back(value_norms(block.ffn));
  std::vector<torch::Tensor> functions, in_window, of_ids;
  int64_t windows_before = 0;
  lm::Hooks hooks;
  for (size_t l = 0; l < model->blocks.size(); ++l)
    hooks.add(fmt::format("blocks.{}.mlp.hook_post", l),
              [&, l](std::string_view, const torch::Tensor& post) {
                const auto norm = post.detach().to(torch::kFloat).flatten(0, 1).abs() * sizes[l];
                require(torch::isfinite(norm).all().item<bool>(),
                        "functions: activations of layer {} are not finite", l);
                parts[l].push_back(norm);
                return torch::Tensor();
              });
  lm::Pass pass;
  pass.hooks = &hooks;
  for (size_t f = 0; f < texts.size(); ++f) {
    out.names.push_back(texts[f].name);
    const auto windows = std::min<int64_t>(tokens, std::ssize(texts[f].ids)) / context;
    require(windows > 0, "function '{}': {} tokens, expected at least {}", texts[f].name,
            texts[f].ids.size(), context);
    const auto ids = torch::tensor(texts[f].ids).to(torch::kLong).narrow(0, 0, windows * context);
    model->forward(ids.view({windows, context}), pass);
    of_ids.push_back(ids);
    in_window.push_back(torch::arange(windows_before, windows_before + windows, torch::kLong)
                            .repeat_interleave(context));
    windows_before += windows;
    functions.push_back(torch::full({windows * context}, static_cast<int64_t>(f), torch::kLong));
  }
  for (const auto& layer : parts) out.norms.push_back(torch::cat(layer));
  out.function = torch::cat(functions);
  out.window = torch::cat(in_window), out.id = torch::cat(of_ids);
  return out;
}

torch::Tensor top_of_token(const torch::Tensor& norms, double share) {
  require(share > 0 && share <= 1, "share of neurons: {}, expected above 0 and at most 1", share);
  const auto count =
      std::max<int64_t>(1, std::llround(share * static_cast<double>(norms.size(-1))));
  const auto index = std::get<1>(norms.topk(count, -1));
  return torch::zeros_like(norms, torch::kBool).scatter(-1, index, true);
}

void attach_kept(lm::Hooks& hooks, const lm::Transformer& model, double share, KeepRule rule,
                 int64_t layer) {
  require(share > 0 && share <= 1, "share of neurons: {}, expected above 0 and at most 1", share);
  for (int64_t l = 0; l < std::ssize(model->blocks); ++l) {
    if (layer >= 0 && l != layer) continue;
    const auto sizes = value_norms(model->blocks[static_cast<size_t>(l)].ffn);
    hooks.add(fmt::format("blocks.{}.mlp.hook_post", l), [=](std::string_view,
                                                             const torch::Tensor& post) {
      const auto by = rule == KeepRule::largest ? post.detach().to(torch::kFloat).abs() * sizes
                                                : torch::rand(post.sizes());
      return post * top_of_token(by, share).to(post.scalar_type());
    });
  }
}

torch::Tensor top_neurons(const torch::Tensor& scores, int64_t count) {
  require(scores.dim() == 1 && count > 0 && count <= scores.size(0), "top neurons: {} of {}", count,
          shape_text(scores.sizes()));
  return scores.argsort(/*stable=*/true, 0, /*descending=*/true).narrow(0, 0, count);
}

lm::Transformer pruned(const lm::Transformer& model, const torch::Tensor& neurons) {
  const torch::NoGradGuard no_grad;
  lm::Transformer out(model->config);
  out->embedding = model->embedding, out->blocks = model->blocks, out->output = model->output;
  out->layout = model->layout;
  int64_t begin = 0;
  for (auto& block : out->blocks) {
    int64_t count = 0;
    for (const auto& group : block.ffn.groups) count += group.neurons();
    const auto here =
        neurons.masked_select(neurons.ge(begin).logical_and(neurons.lt(begin + count)));
    if (here.numel() > 0) {
      std::vector<int32_t> list;
      for (int64_t i = 0; i < here.numel(); ++i)
        list.push_back(static_cast<int32_t>(here[i].item<int64_t>() - begin));
      block.ffn = silence(block.ffn, list);
    }
    begin += count;
  }
  require(neurons.numel() == 0 ||
              (neurons.min().item<int64_t>() >= 0 && neurons.max().item<int64_t>() < begin),
          "pruned: a neuron beyond the {} there are", begin);
  out->eval();
  return out;
}

namespace {

torch::Tensor correlation(const torch::Tensor& norms) {
  const auto centred = norms - norms.mean(0, /*keepdim=*/true);
  const auto unit = centred / centred.norm(2, 0, /*keepdim=*/true).clamp_min(1e-12);
  return torch::mm(unit.t(), unit);
}

math::Edges nearest_neighbours(const torch::Tensor& correlation, int64_t nearest) {
  const int64_t n = correlation.size(0);
  auto others = correlation.clone();
  others.fill_diagonal_(-2);
  const auto near = std::get<1>(others.topk(nearest, 1)).contiguous();
  std::vector<std::pair<int32_t, int32_t>> edges;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t e = 0; e < nearest; ++e) {
      const auto j = near.data_ptr<int64_t>()[i * nearest + e];
      edges.emplace_back(static_cast<int32_t>(std::min(i, j)),
                         static_cast<int32_t>(std::max(i, j)));
    }
  std::sort(edges.begin(), edges.end());
  edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
  return edges;
}

std::vector<int32_t> groups_of(const torch::Tensor& norms, int64_t groups) {
  const int64_t size = norms.size(1) / groups;
  const auto order = coactivation_order(top_of_token(norms, 0.1), size);
  std::vector<int32_t> out(order.size());
  for (size_t place = 0; place < order.size(); ++place)
    out[static_cast<size_t>(order[place])] =
        static_cast<int32_t>(static_cast<int64_t>(place) / size);
  return out;
}

}  // namespace

Communities communities(const torch::Tensor& norms, int64_t groups, int64_t nearest, int64_t nulls,
                        uint64_t seed) {
  const int64_t tokens = norms.size(0), n = norms.size(1);
  require(groups > 0 && n % groups == 0, "communities: {} neurons do not divide into {} groups", n,
          groups);
  require(nearest > 0 && nearest < n && tokens > 3 && nulls > 1,
          "communities: {} nearest of {} neurons, {} tokens, {} nulls", nearest, n, tokens, nulls);
  const torch::NoGradGuard no_grad;
  // Every other token, so that both halves hold all functions.
  const auto first = norms.slice(0, 0, tokens, 2), second = norms.slice(0, 1, tokens, 2);
  Communities out;
  out.group = groups_of(first, groups);
  const auto rho = correlation(second);
  const auto edges = nearest_neighbours(rho, nearest);
  out.q = math::modularity(edges, out.group);
  Random random(seed);
  std::vector<double> null;
  for (int64_t i = 0; i < nulls; ++i)
    null.push_back(math::modularity(math::rewired(edges, n, 10, random), out.group));
  for (const double q : null) out.null_mean += q / static_cast<double>(nulls);
  for (const double q : null)
    out.null_deviation +=
        (q - out.null_mean) * (q - out.null_mean) / static_cast<double>(nulls - 1);
  out.null_deviation = std::sqrt(out.null_deviation);
  const auto label = torch::tensor(out.group);
  const auto same = label.unsqueeze(0).eq(label.unsqueeze(1));
  const auto off = torch::eye(n, torch::kBool).logical_not();
  out.within = rho.masked_select(same.logical_and(off)).mean().item<double>();
  out.between = rho.masked_select(same.logical_not()).mean().item<double>();
  out.stability = math::adjusted_rand(out.group, groups_of(second, groups));
  return out;
}

}  // namespace cajal::surgery
