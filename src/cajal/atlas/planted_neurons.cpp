#include "cajal/atlas/planted_neurons.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "cajal/atlas/findings.h"
#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/models/lm/checkpoint.h"

namespace cajal::atlas {
namespace {

// The stream: a token part, a part for the token before, and harmonics of the position. Every part
// has mean zero and length 1, so that LayerNorm does nothing but scale.
class Planter {
 public:
  explicit Planter(const PlantedOptions& options)
      : o_(options),
        random_(options.seed, 11),
        place_((o_.width - 4) / 5 * 2),
        harmonics_((o_.width - 2 * place_ - 1) / 2) {
    require(
        o_.width >= 64 && o_.width % 2 == 0 && o_.neurons >= 256 && o_.vocabulary >= 512 &&
            o_.context >= 64 && o_.layers >= 1,
        "planted model: width {} (even, 64 or more), {} neurons (256), {} tokens (512), context "
        "{} (64), {} layers (1)",
        o_.width, o_.neurons, o_.vocabulary, o_.context, o_.layers);
  }

  PlantedNeurons plant() {
    PlantedNeurons out;
    out.model = blank();
    embeddings(*out.model);
    attention(*out.model);
    for (int64_t k = 0; k < 24; ++k)  // of frequent tokens, so that each occurs often enough
      bigrams_.emplace_back(static_cast<int64_t>(random_.below(200)),
                            static_cast<int64_t>(random_.below(200)));
    for (auto& block : out.model->blocks) out.kind.push_back(neurons(block));
    out.text = text();
    return out;
  }

 private:
  lm::Transformer blank() const {
    const Json json = {{"model_type", "opt"},
                       {"hidden_size", o_.width},
                       {"num_hidden_layers", o_.layers},
                       {"num_attention_heads", 2},
                       {"ffn_dim", o_.neurons},
                       {"vocab_size", o_.vocabulary},
                       {"max_position_embeddings", o_.context},
                       {"word_embed_proj_dim", o_.width}};
    return lm::initialise(lm::config_from_json(json, "planted model"), o_.seed, 0.0);
  }

  torch::Tensor normals(torch::IntArrayRef shape) {
    auto out = torch::empty(shape);
    for (auto *x = out.data_ptr<float>(), *end = x + out.numel(); x != end; ++x)
      *x = static_cast<float>(random_.normal());
    return out;
  }

  void embeddings(lm::TransformerImpl& m) {
    token_ = normals({o_.vocabulary, place_});
    token_ = token_ - token_.mean(1, true);
    token_ = token_ / token_.norm(2, 1, true);
    // Harmonics live in directions of mean zero.
    auto frame = normals({2 * harmonics_, o_.width - 2 * place_});
    frame = frame - frame.mean(1, true);
    frame_ = std::get<0>(torch::linalg_qr(frame.t())).t().contiguous();
    const auto p = torch::arange(o_.context, torch::kFloat).unsqueeze(1);
    const auto k = torch::arange(1, harmonics_ + 1, torch::kFloat).unsqueeze(0);
    const auto angle = p * k * (2 * std::numbers::pi / static_cast<double>(o_.context));
    wave_ = torch::cat({angle.cos(), angle.sin()}, 1) / std::sqrt(static_cast<double>(harmonics_));
    auto& tokens = m.embedding.tokens.stored();
    tokens.zero_();
    tokens.slice(1, 0, place_).copy_(token_);
    auto& positions = m.embedding.positions.stored();
    positions.zero_();
    positions.slice(0, m.config.position_offset)
        .slice(1, 2 * place_)
        .copy_(torch::mm(wave_, frame_));
  }

  double deviation(double parts) const {  // of the stream with so many parts of length 1
    return std::sqrt(parts / static_cast<double>(o_.width));
  }

  // Head 0 of the first layer looks one position back and moves the token part there.
  void attention(lm::TransformerImpl& m) {
    auto& a = m.blocks[0].attention;
    const auto shape = a.query.weight.stored().sizes();
    const int64_t head = m.config.head_width;
    auto query = torch::zeros(shape), key = torch::zeros(shape), value = torch::zeros(shape);
    const int64_t used = std::min(harmonics_, head / 2);
    // The score of the position before stands 60 above its neighbours'.
    const double n = static_cast<double>(o_.context), u = static_cast<double>(used);
    const double gain = 60 * static_cast<double>(harmonics_) * std::pow(deviation(2) * n, 2) * 1.5 /
                        (std::pow(std::numbers::pi, 2) * u * u * u * m.config.score_scale);
    for (int64_t k = 0; k < used; ++k) {
      const double turn = 2 * std::numbers::pi * static_cast<double>(k + 1) / o_.context;
      const auto c = frame_[k], s = frame_[harmonics_ + k];
      const auto at = [&](torch::Tensor& w, int64_t row) { return w[row].slice(0, 2 * place_); };
      // cos and sin of the position before, from those of this one
      at(query, 2 * k).copy_((c * std::cos(turn) + s * std::sin(turn)) * gain);
      at(query, 2 * k + 1).copy_((s * std::cos(turn) - c * std::sin(turn)) * gain);
      at(key, 2 * k).copy_(c), at(key, 2 * k + 1).copy_(s);
    }
    auto output = torch::zeros(a.output.weight.stored().sizes());
    for (int64_t i = 0; i < std::min(place_, head); ++i) {
      value[i][i] = deviation(2);
      output[place_ + i][i] = 1;
    }
    a.query.weight.stored().copy_(query), a.key.weight.stored().copy_(key);
    a.value.weight.stored().copy_(value), a.output.weight.stored().copy_(output);
  }

  std::vector<PlantedKind> neurons(lm::Block& block) {
    const int64_t m = o_.neurons;
    std::vector<PlantedKind> kinds(static_cast<size_t>(m));
    const std::pair<PlantedKind, int64_t> plan[] = {{PlantedKind::dead, m / 16},
                                                    {PlantedKind::token, m / 16},
                                                    {PlantedKind::bigram, m / 32},
                                                    {PlantedKind::range, m / 64},
                                                    {PlantedKind::oscillatory, m / 64}};
    auto key = torch::zeros({m, o_.width}), bias = torch::zeros({m});
    auto value = torch::zeros({m, o_.width});
    int64_t at = 0;
    for (const auto& [kind, count] : plan)
      for (int64_t k = 0; k < count; ++k) kinds[static_cast<size_t>(at++)] = kind;
    shuffle(kinds, random_);
    for (int64_t i = 0; i < m; ++i) one(kinds[i], key[i], bias[i], value[i]);
    auto& group = block.ffn.groups[0];
    // The stream is divided by its deviation before it is read.
    group.key.stored().copy_(key * deviation(3));
    group.key_bias.copy_(bias);
    group.value.stored().copy_(value.t());
    return kinds;
  }

  void one(PlantedKind kind, torch::Tensor key, torch::Tensor bias, torch::Tensor value) {
    switch (kind) {
      case PlantedKind::background:
        key.slice(0, 0, 2 * place_).copy_(normals({2 * place_}));
        bias.fill_(-0.3 + 0.3 * random_.normal());
        value.slice(0, 0, place_).copy_(normals({place_}) * 1e-4);
        return;
      case PlantedKind::dead:
        key.copy_(normals({o_.width}));
        bias.fill_(-50);
        return;
      case PlantedKind::token:
        return token_detector(key, bias, value);
      case PlantedKind::bigram: {
        const auto& [before, last] = bigrams_[random_.below(bigrams_.size())];
        key.slice(0, 0, place_).copy_(token_[last]);
        key.slice(0, place_, 2 * place_).copy_(token_[before]);
        const auto near = torch::cat({near_miss(last), near_miss(before)}).max();
        bias.copy_(-(3 + near) / 2);  // half way between both and one with the next best
        value.slice(0, 0, place_).copy_(-0.01 * token_[last]);
        return;
      }
      case PlantedKind::range:
        return range_indicator(key, bias);
      case PlantedKind::oscillatory: {
        const auto k = static_cast<int64_t>(
            2 + random_.below(static_cast<uint64_t>(std::max<int64_t>(1, harmonics_ - 2))));
        const double phase = 2 * std::numbers::pi * random_.uniform();
        const auto wave =
            frame_[k - 1] * std::cos(phase) + frame_[harmonics_ + k - 1] * std::sin(phase);
        key.slice(0, 2 * place_).copy_(wave);
        return;
      }
    }
  }

  torch::Tensor near_miss(int64_t token) const {  // the largest product with another token
    auto products = torch::mv(token_, token_[token]);
    products[token] = -1;
    return products.max().reshape({1});
  }

  void token_detector(torch::Tensor key, torch::Tensor bias, torch::Tensor value) {
    for (int tries = 0;; ++tries) {
      std::vector<int64_t> set;
      for (uint64_t k = tries < 50 ? 1 + random_.below(3) : 1; k > 0; --k)
        set.push_back(
            static_cast<int64_t>(random_.below(static_cast<uint64_t>(o_.vocabulary / 8))));
      const auto chosen = token_.index_select(0, torch::tensor(set));
      const auto direction = chosen.sum(0);
      auto products = torch::mv(token_, direction);
      const auto least = products.index_select(0, torch::tensor(set)).min().item<double>();
      for (const auto s : set) products[s] = -10;
      const auto next = products.max().item<double>();
      if (least - next < 0.1) continue;
      key.slice(0, 0, place_).copy_(direction);
      bias.fill_(-(least + next) / 2);
      value.slice(0, 0, place_).copy_(-0.01 * chosen.sum(0));
      return;
    }
  }

  // The Fourier series of a box over positions, cut at half its height.
  void range_indicator(torch::Tensor key, torch::Tensor bias) {
    const auto n = static_cast<double>(o_.context);
    const double begin = n * random_.uniform() * 0.6,
                 length = n * (0.15 + 0.25 * random_.uniform());
    const double middle = begin + length / 2, share = length / n;
    auto sum = torch::zeros({o_.width - 2 * place_});
    for (int64_t k = 1; k <= harmonics_; ++k) {
      const double size = 2 * std::sin(std::numbers::pi * k * share) / (std::numbers::pi * k);
      const double angle = 2 * std::numbers::pi * k * middle / n;
      sum +=
          size * (frame_[k - 1] * std::cos(angle) + frame_[harmonics_ + k - 1] * std::sin(angle));
    }
    const double scale = std::sqrt(static_cast<double>(harmonics_));
    key.slice(0, 2 * place_).copy_(sum * scale);
    bias.fill_(share - 0.5);
  }

  // Tokens by Zipf's law, a tenth of the time a planted bigram.
  std::vector<int32_t> text() {
    std::vector<double> sums;
    double sum = 0;
    for (int64_t v = 0; v < o_.vocabulary; ++v)
      sums.push_back(sum += 1 / (static_cast<double>(v) + 20));
    std::vector<int32_t> out;
    while (std::ssize(out) < o_.tokens) {
      if (random_.uniform() < 0.1) {
        const auto& [a, b] = bigrams_[random_.below(bigrams_.size())];
        out.push_back(static_cast<int32_t>(a)), out.push_back(static_cast<int32_t>(b));
        continue;
      }
      const auto at = std::upper_bound(sums.begin(), sums.end(), sum * random_.uniform());
      out.push_back(static_cast<int32_t>(std::min<int64_t>(at - sums.begin(), o_.vocabulary - 1)));
    }
    out.resize(static_cast<size_t>(o_.tokens));
    return out;
  }

  const PlantedOptions& o_;
  Random random_;
  const int64_t place_, harmonics_;  // dimensions of a token part; pairs of the position part
  torch::Tensor token_, frame_, wave_;
  std::vector<std::pair<int64_t, int64_t>> bigrams_;
};

}  // namespace

PlantedNeurons plant_neurons(const PlantedOptions& options) {
  const torch::NoGradGuard no_grad;
  return Planter(options).plant();
}

namespace {

PlantedKind kind_of(const Census& census, int64_t layer, int64_t neuron, const GramTotals& totals) {
  if (census.layers[layer].dead(neuron)) return PlantedKind::dead;
  const auto position = find_positional(census, layer, neuron).kind;
  if (position == PositionKind::range) return PlantedKind::range;
  if (position == PositionKind::oscillatory) return PlantedKind::oscillatory;
  const auto triggers = find_triggers(census, layer, neuron, {}, &totals);
  if (!triggers.pure) return PlantedKind::background;
  return triggers.order == 1 ? PlantedKind::token : PlantedKind::bigram;
}

}  // namespace

std::vector<Recovery> recover(const PlantedNeurons& planted, const Census& census) {
  require(planted.kind.size() == census.layers.size(),
          "planted model: {} layers, the census has {}", planted.kind.size(), census.layers.size());
  const GramTotals totals(census, planted.text);
  std::vector<Recovery> out(static_cast<size_t>(PlantedKind::oscillatory) + 1);
  for (int64_t l = 0; l < std::ssize(planted.kind); ++l)
    for (int64_t i = 0; i < std::ssize(planted.kind[l]); ++i) {
      const auto truth = static_cast<size_t>(planted.kind[l][i]);
      const auto found = static_cast<size_t>(kind_of(census, l, i, totals));
      ++out[truth].planted, ++out[found].found, out[truth].both += truth == found;
    }
  return out;
}

}  // namespace cajal::atlas
