#include "cajal/atlas/report.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "cajal/atlas/measure.h"
#include "cajal/core/error.h"
#include "cajal/core/random.h"

namespace cajal::atlas {
namespace {

// Share of the tokens that the row lowers, and their mean place from the top (0) to the bottom (1).
std::pair<double, double> lowered(const torch::Tensor& row, const std::vector<int64_t>& tokens) {
  const auto* u = row.data_ptr<float>();
  const auto vocabulary = row.size(0);
  double down = 0, place = 0;
  for (const auto token : tokens) {
    down += u[token] < 0;
    const auto higher = std::count_if(u, u + vocabulary, [&](float x) { return x > u[token]; });
    place += static_cast<double>(higher) / static_cast<double>(vocabulary);
  }
  const auto n = static_cast<double>(tokens.size());
  return {down / n, place / n};
}

class Description {
 public:
  Description(const Census& census, lm::Transformer& model, const Reading* reading,
              const DescribeOptions& options)
      : census_(census), reading_(reading), options_(options), readout_(readout(model)) {
    if (reading) totals_.emplace(census, reading->ids);
    space_ = null_space(readout_);
    unigram_ = unigram_direction(census.token_totals);
  }

  void layer(int64_t l, const lm::FeedForward& ffn, Findings& out) {
    const auto& counted = census_.layers[static_cast<size_t>(l)];
    auto& neurons = out.neurons.emplace_back(static_cast<size_t>(counted.neurons));
    auto& summary = out.layers.emplace_back();
    for (int64_t i = 0; i < counted.neurons; ++i) {
      triggers(l, i, neurons[i], summary);
      positions(l, i, neurons[i], summary);
    }
    weights(value_rows(ffn), neurons);
    shuffled(neurons, summary);
    coverage(neurons, summary);
  }

 private:
  void triggers(int64_t l, int64_t i, Finding& out, LayerFinding& summary) {
    out.triggers = find_triggers(census_, l, i, options_.triggers, totals_ ? &*totals_ : nullptr);
    const auto& found = out.triggers;
    summary.rare += found.rare;
    summary.detectors += found.order == 1;
    summary.grams += found.order > 1;
    summary.pure += found.order == 1 && found.pure;
    if (!reading_) return;
    for (size_t k = 0; k < std::min<size_t>(8, found.keys.size()); ++k)
      out.trigger_texts.push_back(
          found.order == 1 ? token(found.keys[k])
                           : words(*reading_, found.keys[k] - found.order + 1, found.keys[k] + 1));
  }

  void positions(int64_t l, int64_t i, Finding& out, LayerFinding& summary) {
    const auto found = find_positional(census_, l, i, options_.positions);
    out.position = found.kind, out.information = found.information;
    summary.range += found.kind == PositionKind::range;
    summary.oscillatory += found.kind == PositionKind::oscillatory;
    summary.weak += found.kind == PositionKind::weak;
  }

  // What follows from the value rows alone, a few hundred rows at a time.
  void weights(const torch::Tensor& rows, std::vector<Finding>& neurons) {
    constexpr int64_t slice = 256;
    const auto token_norms = readout_.unembed.norm(2, 0);
    const auto null = null_share(readout_, space_, rows);
    for (int64_t begin = 0; begin < rows.size(0); begin += slice) {
      const auto count = std::min(slice, rows.size(0) - begin);
      const auto part = rows.narrow(0, begin, count);
      const auto stripped = readout_.centre(part);
      const auto logits = torch::mm(stripped, readout_.unembed);
      const auto u = (logits - logits.mean(1, true)).contiguous();  // as `writes` gives it
      const auto cosine =
          logits / (token_norms.unsqueeze(0) * stripped.norm(2, 1, true)).clamp_min(1e-30);
      const auto centred = (cosine - cosine.mean(1, true)).to(torch::kDouble);
      const auto square = centred.square();  // products: pow takes as long as all the rest
      const auto variance = square.mean(1);
      const auto skew = (square * centred).mean(1) / (variance * variance.sqrt()).clamp_min(1e-60);
      const auto kurtosis = square.square().mean(1) / variance.square().clamp_min(1e-60);
      const auto wide = u.to(torch::kDouble);
      const auto along = torch::mv(wide, unigram_) / wide.norm(2, 1).clamp_min(1e-30);
      const auto kept = std::min(options_.words, u.size(1));
      const auto up = std::get<1>(u.topk(kept, 1)), down = std::get<1>(u.topk(kept, 1, false));
      for (int64_t k = 0; k < count; ++k) {
        auto& out = neurons[begin + k];
        out.cosine_variance = variance[k].item<double>();
        out.cosine_skew = skew[k].item<double>();
        out.cosine_kurtosis = kurtosis[k].item<double>();
        out.null_share = null[begin + k].item<double>();
        out.unigram_cosine = along[k].item<double>();
        for (int64_t w = 0; reading_ && w < kept; ++w) {
          out.promoted.push_back(token(up[k][w].item<int64_t>()));
          out.lowered.push_back(token(down[k][w].item<int64_t>()));
        }
        if (out.triggers.order == 1)
          std::tie(out.suppressed, out.trigger_rank) = lowered(u[k], out.triggers.keys);
      }
    }
    written_ = rows;
  }

  // The same share with the triggers of the layer's detectors dealt out anew.
  void shuffled(const std::vector<Finding>& neurons, LayerFinding& summary) {
    std::vector<int64_t> detectors;
    for (int64_t i = 0; i < std::ssize(neurons); ++i)
      if (neurons[i].triggers.order == 1) detectors.push_back(i);
    if (detectors.empty()) return;
    auto other = detectors;
    Random random(options_.seed, 5);
    shuffle(other, random);
    const auto u = writes(readout_, written_.index_select(0, torch::tensor(detectors)));
    const auto n = static_cast<double>(detectors.size());
    for (size_t k = 0; k < detectors.size(); ++k) {
      summary.suppressed += neurons[detectors[k]].suppressed / n;
      summary.lowering += neurons[detectors[k]].suppressed > 0.5;
      summary.shuffled +=
          lowered(u[static_cast<int64_t>(k)].contiguous(), neurons[other[k]].triggers.keys).first /
          n;
    }
  }

  void coverage(const std::vector<Finding>& neurons, LayerFinding& summary) {
    std::set<int64_t> here;
    for (const auto& neuron : neurons)
      if (neuron.triggers.order == 1)
        here.insert(neuron.triggers.keys.begin(), neuron.triggers.keys.end());
    summary.tokens_covered = std::ssize(here);
    for (const auto token : here) summary.tokens_new += covered_.insert(token).second;
  }

  std::string token(int64_t id) const {
    if (!reading_->tokenizer) return std::string(1, static_cast<char>(id));
    const auto one = static_cast<int32_t>(id);
    return reading_->tokenizer->decode(std::span(&one, 1), text::Specials::with);
  }

  const Census& census_;
  const Reading* reading_;
  const DescribeOptions& options_;
  Readout readout_;
  NullSpace space_;
  torch::Tensor unigram_, written_;
  std::optional<GramTotals> totals_;
  std::set<int64_t> covered_;
};

void ablate(const Census& census, lm::Transformer& model, const Reading& reading, int64_t tokens,
            std::vector<Finding>& neurons, Progress* progress) {
  if (std::ssize(reading.ids) <= census.context) return;  // not one whole window
  const Ablation ablation(readout(model), last_stream(model, reading.ids, census.context, tokens),
                          unigram_direction(census.token_totals), census.token_totals);
  for (int64_t i = 0; i < std::ssize(neurons); ++i) {
    const auto effect = effect_of(ablation, i);
    neurons[i].effect = effect.total;
    neurons[i].norm_share = effect.norm_share();
    neurons[i].unigram_share = effect.unigram_share();
    if (progress) progress->add(1);
  }
}

}  // namespace

Findings describe(const Census& census, lm::Transformer& model, const Reading* reading,
                  const DescribeOptions& options, Progress* progress) {
  require(census.model_hash == fingerprint(model), "the atlas is of another model");
  require(!census.token_totals.empty(), "the atlas has no token tables");
  const torch::NoGradGuard no_grad;
  Findings out;
  Description description(census, model, reading, options);
  for (int64_t l = 0; l < std::ssize(census.layers); ++l) {
    description.layer(l, model->blocks[static_cast<size_t>(l)].ffn, out);
    if (progress) progress->add(census.layers[static_cast<size_t>(l)].neurons);
  }
  if (reading && options.ablation_tokens > 0 && model->config.logit_cap == 0)
    ablate(census, model, *reading, options.ablation_tokens, out.neurons.back(), progress);
  return out;
}

std::vector<std::string> labels(const Census& census, const Findings& findings, int64_t l,
                                int64_t i) {
  const auto& layer = census.layers[static_cast<size_t>(l)];
  const auto& neurons = findings.neurons[static_cast<size_t>(l)];
  const auto& found = neurons[static_cast<size_t>(i)];
  std::vector<std::string> out;
  if (layer.dead(i)) out.push_back("dead");
  if (found.triggers.order == 1) out.push_back("token detector");
  if (found.triggers.order > 1)
    out.push_back(fmt::format("{}-gram detector", found.triggers.order));
  if (found.suppressed > 0.5) out.push_back("suppresses its triggers");
  if (found.position != PositionKind::none)
    out.push_back(fmt::format("positional ({})", to_name(found.position)));
  if (found.cosine_kurtosis > 10) out.push_back(found.cosine_skew > 0 ? "predicts" : "suppresses");
  if (found.effect > 0) {
    // Shares of an effect that is next to nothing mean nothing.
    std::vector<double> effects;
    for (const auto& neuron : neurons) effects.push_back(neuron.effect);
    const auto middle = effects.begin() + std::ssize(effects) / 2;
    std::nth_element(effects.begin(), middle, effects.end());
    if (found.effect >= *middle && found.norm_share >= 0.5) out.push_back("entropy");
    if (found.effect >= *middle && found.unigram_share >= 0.5) out.push_back("token frequency");
  }
  if (const double e = excess(found); e > 0.5) out.push_back("universal");
  if (layer.hits(i) >= 0.5) out.push_back("heavy hitter");
  return out;
}

double excess(const Finding& found) {
  double sum = 0;
  for (const auto& other : found.universal) sum += other.rho - other.turned;
  return found.universal.empty() ? -1 : sum / static_cast<double>(found.universal.size());
}

void add_matches(Findings& findings, const std::string& model, const lm::Transformer& other,
                 const Matches& matches) {
  size_t at = 0;
  for (auto& layer : findings.neurons)
    for (auto& found : layer) {
      std::erase_if(found.universal, [&](const Universal& u) { return u.model == model; });
      const auto& best = matches.best[at * static_cast<size_t>(matches.kept)];
      Universal match{.model = model,
                      .layer = 0,
                      .neuron = best.index,
                      .rho = best.rho,
                      .turned = matches.turned[at]};
      for (const auto& block : other->blocks) {
        int64_t neurons = 0;
        for (const auto& group : block.ffn.groups) neurons += group.neurons();
        if (match.neuron < neurons) break;
        match.neuron -= neurons, ++match.layer;
      }
      found.universal.push_back(match);
      ++at;
    }
}

}  // namespace cajal::atlas
