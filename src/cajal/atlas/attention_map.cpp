#include "cajal/atlas/attention_map.h"

#include <algorithm>

#include "cajal/atlas/patching.h"
#include "cajal/core/error.h"

namespace cajal::atlas {
namespace {

using lm::NormPlace;

/// One layer: its weights, and what its pass held. Rows are carried through it tile by tile.
class LayerWalk {
 public:
  LayerWalk(const lm::Transformer& model, int64_t layer, const Recording& values,
            const AttentionMapOptions& options, const ContributionVisitor& visit)
      : c_(model->config),
        block_(model->blocks[static_cast<size_t>(layer)]),
        values_(values),
        layer_(layer),
        options_(options),
        visit_(visit),
        attention_(dense_attention(c_, block_.attention)),
        ffn_(dense_ffn(c_, block_.ffn)),
        input_(row_values("hook_resid_pre")),
        pattern_(at("attn.hook_pattern").squeeze(0)) {
    maps_.layer = layer;
    maps_.attention = pattern_.mean(0);
    next_norm_ = layer + 1 < c_.layers ? &model->blocks[static_cast<size_t>(layer) + 1].norm1
                 : c_.final_norm       ? &model->output.norm
                                       : nullptr;
  }

  /// `x`: this layer's input in parts. Returns what the next layer's is with rollout.
  Contributions run(const Contributions& x) {
    const int64_t tokens = input_.size(0);
    Contributions read = x;  // what attention reads: all rows, as any row may look at any token
    if (c_.norm_place != NormPlace::post) {
      read = norm(x, block_.norm1, "ln1", 0);
      note("norm1", read, 0, normed(input_, block_.norm1, "ln1"));
    }
    std::vector<torch::Tensor> parts, bias;
    for (int64_t begin = 0; begin < tokens; begin += options_.tile) {
      const int64_t end = std::min(tokens, begin + options_.tile);
      const auto out = rows(slice(x, begin, end), read, begin, end);
      if (options_.rollout) parts.push_back(out.parts), bias.push_back(out.bias);
    }
    if (!options_.rollout) return {};
    return {torch::cat(parts), torch::cat(bias)};
  }

  LayerMaps take() { return std::move(maps_); }

 private:
  std::string name(std::string_view point) const {
    return fmt::format("blocks.{}.{}", layer_, point);
  }
  const torch::Tensor& at(std::string_view point) const { return values_.at(name(point)); }
  torch::Tensor row_values(std::string_view point) const { return at(point).squeeze(0); }
  static Contributions slice(const Contributions& x, int64_t begin, int64_t end) {
    return {x.parts.slice(0, begin, end), x.bias.slice(0, begin, end)};
  }

  NormWeights weights(const lm::Norm& norm) const {
    return dense_norm(c_, norm, input_.scalar_type());
  }
  torch::Tensor scale(const std::string& full) const { return values_.at(full).squeeze(0); }

  Contributions norm(const Contributions& x, const lm::Norm& norm, std::string_view point,
                     int64_t begin) const {
    const auto all = scale(name(std::string(point) + ".hook_scale"));
    return through_norm(x, c_.norm, weights(norm), all.slice(0, begin, begin + x.bias.size(0)));
  }
  // The norm of whole activations, with the scale that the model computed.
  torch::Tensor normed(const torch::Tensor& x, const lm::Norm& norm, std::string_view point) const {
    return normed_by(x, norm, scale(name(std::string(point) + ".hook_scale")));
  }
  torch::Tensor normed_by(const torch::Tensor& x, const lm::Norm& norm,
                          const torch::Tensor& scale) const {
    return through_norm({x.unsqueeze(1), torch::zeros_like(x)}, c_.norm, weights(norm), scale)
        .total();
  }

  Contributions rows(const Contributions& x, const Contributions& read, int64_t begin,
                     int64_t end) {
    auto attended = through_attention(read, attention_, pattern_.slice(1, begin, end));
    if (c_.norm_place == NormPlace::both)
      attended = norm(attended, block_.norm1_after, "ln1_post", begin);
    const auto attention_out = row_values("hook_attn_out");
    note("attention", attended, begin, attention_out);
    auto middle = add(attended, x, begin);
    const auto middle_value = input_ + attention_out;
    note("residual1", middle, begin, middle_value);
    return c_.norm_place == NormPlace::post ? post_norm(middle, middle_value, begin)
                                            : pre_norm(x, middle, middle_value, begin);
  }

  Contributions post_norm(Contributions x, const torch::Tensor& value, int64_t begin) {
    x = norm(x, block_.norm1, "ln1", begin);
    const auto read = normed(value, block_.norm1, "ln1");
    note("norm1", x, begin, read);
    const auto fed = through_ffn(x, ffn_, options_.bias);
    const auto out = row_values("hook_mlp_out");
    note("ffn", fed, begin, out);
    x = add(fed, x, begin);
    note("residual2", x, begin, read + out);
    x = norm(x, block_.norm2, "ln2", begin);
    note("norm2", x, begin, normed(read + out, block_.norm2, "ln2"));
    return x;
  }

  Contributions pre_norm(const Contributions& x, const Contributions& middle,
                         const torch::Tensor& middle_value, int64_t begin) {
    const auto& source = c_.parallel_residual ? x : middle;
    const auto read = norm(source, block_.norm2, "ln2", begin);
    note("norm2", read, begin,
         normed(c_.parallel_residual ? input_ : middle_value, block_.norm2, "ln2"));
    auto fed = through_ffn(read, ffn_, options_.bias);
    if (c_.norm_place == NormPlace::both) fed = norm(fed, block_.norm2_after, "ln2_post", begin);
    const auto out = row_values("hook_mlp_out");
    note("ffn", fed, begin, out);
    const auto sum = add(middle, fed, begin);
    const auto value = middle_value + out;
    note("residual2", sum, begin, value);
    if (next_norm_) {
      const auto full = layer_ + 1 < c_.layers ? fmt::format("blocks.{}.ln1.hook_scale", layer_ + 1)
                                               : std::string("ln_final.hook_scale");
      const auto all = scale(full);
      const auto after = through_norm(sum, c_.norm, weights(*next_norm_),
                                      all.slice(0, begin, begin + sum.bias.size(0)));
      note("next_norm", after, begin, normed_by(value, *next_norm_, all));
    }
    return sum;
  }

  // Keeps a tile's norms and how far its sum is from the activation.
  void note(const std::string& stage, const Contributions& x, int64_t begin,
            const torch::Tensor& activation) {
    auto found = std::find_if(maps_.stages.begin(), maps_.stages.end(),
                              [&](const StageMap& s) { return s.stage == stage; });
    const int64_t tokens = input_.size(0);
    if (found == maps_.stages.end()) {
      maps_.stages.push_back({stage, torch::zeros({tokens, tokens}, input_.options()),
                              torch::zeros({tokens}, input_.options())});
      found = maps_.stages.end() - 1;
    }
    const int64_t end = begin + x.bias.size(0);
    auto rows = found->map.slice(0, begin, end);
    if (x.parts.size(1) == tokens) {
      rows.copy_(x.norms());
    } else {
      rows.slice(1, begin, end).diagonal().copy_(x.norms().squeeze(1));
    }
    found->bias.slice(0, begin, end).copy_(x.bias.norm(2, -1));
    const auto error = (x.total() - activation.slice(0, begin, end)).abs().max() /
                       activation.abs().max().clamp_min(1e-30);
    found->error = std::max(found->error, error.item<double>());
    if (visit_) visit_(layer_, stage, begin, x);
  }

  const lm::Config& c_;
  const lm::Block& block_;
  const Recording& values_;
  const int64_t layer_;
  const AttentionMapOptions& options_;
  const ContributionVisitor& visit_;
  const AttentionWeights attention_;
  const FfnWeights ffn_;
  const torch::Tensor input_, pattern_;
  const lm::Norm* next_norm_ = nullptr;
  LayerMaps maps_;
};

Contributions each_for_itself(const torch::Tensor& x) {
  return {x.unsqueeze(1), torch::zeros_like(x)};
}

Contributions spread_out(const torch::Tensor& x) {
  return {torch::diag_embed(x.t()).permute({1, 2, 0}).contiguous(), torch::zeros_like(x)};
}

}  // namespace

const torch::Tensor& LayerMaps::at(std::string_view stage) const {
  std::vector<std::string> names;
  for (const auto& s : stages) {
    if (s.stage == stage) return s.map;
    names.push_back(s.stage);
  }
  fail("layer {} has no map '{}', only {}", layer, stage, fmt::join(names, ", "));
}

std::vector<LayerMaps> attention_maps(lm::Transformer& model, const torch::Tensor& input,
                                      const AttentionMapOptions& options,
                                      const ContributionVisitor& visit, lm::Pass pass) {
  require(input.size(0) == 1, "attention_maps: the input is {}, expected one text [1, ...]",
          shape_text(input.sizes()));
  require(options.tile > 0, "attention_maps: tile is {}, expected at least 1", options.tile);
  require(!pass.cache, "attention_maps: a pass with a cache does not hold every token");
  const torch::NoGradGuard no_grad;
  const auto& c = model->config;
  std::vector<std::string> points{"blocks.*.hook_resid_pre", "*.hook_scale",
                                  "blocks.*.attn.hook_pattern", "blocks.*.hook_attn_out",
                                  "blocks.*.hook_mlp_out"};
  const auto run = record(model, input, points, pass);
  std::vector<LayerMaps> out;
  Contributions x;
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    LayerWalk walk(model, layer, run.values, options, visit);
    const auto residual = run.values.at(fmt::format("blocks.{}.hook_resid_pre", layer)).squeeze(0);
    if (!options.rollout) {
      x = each_for_itself(residual);
    } else if (layer == 0) {
      x = spread_out(residual);
    }
    x = walk.run(x);
    out.push_back(walk.take());
  }
  return out;
}

}  // namespace cajal::atlas
