#include "cajal/atlas/confidence.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "cajal/core/error.h"

namespace cajal::atlas {

torch::Tensor Readout::centre(const torch::Tensor& x) const {
  return centred ? x - x.mean(-1, /*keepdim=*/true) : x;
}
torch::Tensor Readout::scale(const torch::Tensor& x) const {
  return (centre(x).square().mean(-1, /*keepdim=*/true) + epsilon).sqrt();
}
torch::Tensor Readout::logits(const torch::Tensor& x) const {
  return torch::matmul(centre(x) / scale(x), unembed) + bias;
}

torch::Tensor value_rows(const lm::FeedForward& ffn) {
  std::vector<torch::Tensor> parts;
  for (const auto& group : ffn.groups) {
    const auto whole = group.value.decoded().to(torch::kCPU, torch::kFloat);
    parts.push_back(group.value.major() == Major::output ? whole.t() : whole);
  }
  const auto stored = torch::cat(parts).contiguous();
  return ffn.order.defined() ? stored.index_select(0, ffn.order.argsort()) : stored;
}

Readout readout(const lm::Transformer& model) {
  const auto& c = model->config;
  require(c.head == lm::Head::language && c.vocabulary > 0,
          "confidence: a {} model of this kind predicts no next token", to_name(c.family));
  require(c.final_norm, "confidence: the model has no final norm");
  const torch::NoGradGuard no_grad;
  const auto& out = model->output;
  const auto as_float = [](const torch::Tensor& t) { return t.to(torch::kCPU, torch::kFloat); };
  const auto by_output = [&](const Matrix& m) {
    return as_float(m.major() == Major::output ? m.decoded() : m.decoded().t());
  };
  auto weight = by_output(out.vocabulary.weight);  // [vocabulary, width]
  auto bias = out.vocabulary.bias.defined() ? as_float(out.vocabulary.bias)
                                            : torch::zeros({weight.size(0)});
  if (out.project.defined()) {
    if (out.project.bias.defined()) bias = bias + weight.mv(as_float(out.project.bias));
    weight = weight.mm(by_output(out.project.weight));
  }
  if (out.norm.bias.defined()) bias = bias + weight.mv(as_float(out.norm.bias));
  if (out.norm.weight.defined())
    weight = weight * (as_float(out.norm.weight) + (c.norm == lm::NormKind::rms_one_plus));
  return {.unembed = weight.t().contiguous(),
          .bias = bias.contiguous(),
          .value = value_rows(model->blocks.back().ffn),
          .centred = c.norm == lm::NormKind::layer,
          .epsilon = c.epsilon,
          .cap = c.logit_cap};
}

torch::Tensor writes(const Readout& r, const torch::Tensor& rows) {
  const auto u = torch::mm(r.centre(rows), r.unembed);
  return u - u.mean(1, /*keepdim=*/true);
}

NullSpace null_space(const Readout& r, int64_t k) {
  auto w = r.unembed.to(torch::kDouble);
  w = w - w.mean(1, /*keepdim=*/true);
  if (r.centred) w = w - w.mean(0, /*keepdim=*/true);
  const int64_t width = w.size(0);
  require(k >= 0 && k < width, "null space of {} directions of {}", k, width);
  auto gram = torch::mm(w, w.t());
  // The mean direction is moved to the top of the spectrum, so that it takes no place at its end.
  const auto most = gram.diagonal().sum().item<double>();
  if (r.centred) gram = gram + torch::full_like(gram, 4 * most / static_cast<double>(width));
  auto [values, vectors] = torch::linalg_eigh(gram);  // ascending
  auto singular = values.clamp_min(0).sqrt().flip(0).contiguous();
  if (k == 0) {
    k = static_cast<int64_t>(std::ceil(0.01 * static_cast<double>(width)));
    const auto* s = singular.data_ptr<double>();
    double gap = std::log(2.0);
    const double least = 1e-9 * s[1];
    for (int64_t i = width - width / 8; i < width; ++i) {
      const double step = std::log((s[i - 1] + least) / (s[i] + least));
      if (step > gap) gap = step, k = width - i;
    }
  }
  if (r.centred) singular = singular.slice(0, 1);
  return {vectors.slice(1, 0, k).contiguous(), singular};
}

torch::Tensor null_share(const Readout& r, const NullSpace& space, const torch::Tensor& rows) {
  const auto w = r.centre(rows.to(torch::kDouble));
  return torch::mm(w, space.basis).norm(2, 1) / w.norm(2, 1).clamp_min(1e-30);
}

torch::Tensor unigram_direction(std::span<const int64_t> counts) {
  require(counts.size() > 1, "unigram: {} counts", counts.size());
  auto p = torch::empty({std::ssize(counts)}, torch::kDouble);
  for (size_t v = 0; v < counts.size(); ++v)
    p.data_ptr<double>()[v] = static_cast<double>(counts[v]) + 1;
  const auto log = p.log() - p.sum().log();
  const auto centred = log - log.mean();
  return centred / centred.norm().clamp_min(1e-30);
}

LastStream last_stream(lm::Transformer& model, std::span<const int32_t> ids, int64_t context,
                       int64_t tokens) {
  const torch::NoGradGuard no_grad;
  const auto& c = model->config;
  const int64_t begins = c.begin_id >= 0, step = context - begins;
  require(step >= 6 && context <= c.context, "windows of {} tokens: expected 7 to {}", context,
          c.context);
  const auto last = c.layers - 1;
  lm::Hooks hooks;
  torch::Tensor post;
  hooks.add(fmt::format("blocks.{}.mlp.hook_post", last),
            [&](std::string_view, const torch::Tensor& value) {
              post = value;
              return torch::Tensor();
            });
  lm::Pass pass;
  pass.hooks = &hooks, pass.stop_at_layer = c.layers;
  std::vector<torch::Tensor> streams, activations, targets;
  int64_t kept = 0;
  for (int64_t first = 0; first + step + 1 <= std::ssize(ids) && kept < tokens; first += step) {
    auto whole =
        torch::from_blob(const_cast<int32_t*>(ids.data() + first), {1, step + 1}, torch::kInt)
            .to(torch::kLong);
    auto input = whole.slice(1, 0, step);
    if (begins) input = torch::cat({torch::full({1, 1}, c.begin_id, torch::kLong), input}, 1);
    const auto stream = model->forward(input, pass);
    const auto from = begins + 3, to = begins + step - 1;
    streams.push_back(stream[0].slice(0, from, to).to(torch::kFloat).clone());
    activations.push_back(post[0].slice(0, from, to).to(torch::kFloat).clone());
    targets.push_back(whole[0].slice(0, 4, step));
    kept += to - from;
  }
  require(kept > 0, "the text has no window of {} tokens", context);
  LastStream out{torch::cat(streams), torch::cat(activations), torch::cat(targets)};
  if (const auto& ffn = model->blocks.back().ffn; ffn.order.defined())
    out.activations = out.activations.index_select(1, ffn.order.argsort());
  return out;
}

namespace {

constexpr int kLanes = 16;

// e^x for x <= 0 to 2e-7, in a form that compilers turn into vector code.
inline float fast_exp(float x) {
  x = x < -87.0f ? -87.0f : x;
  const float t = x * 1.44269504f;
  const float n = static_cast<float>(static_cast<int32_t>(t - 0.5f));
  const float f = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * f + 1.3981999507e-3f, p = p * f + 8.3334519073e-3f, p = p * f + 4.1665795894e-2f;
  p = p * f + 1.6666665459e-1f, p = p * f + 5.0000001201e-1f;
  p = p * f * f + f + 1.0f;
  return p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

struct Logits {
  const float *plain, *g, *bias, *unigram;  // [vocabulary]
  const float* frequency;                   // p [vocabulary] of the tokens, or nothing
  double frequency_moment;                  // sum p log p
  float scale, along, back;
  int64_t vocabulary;
};

// logits[v] = scale (plain[v] + along g[v]) + bias[v] + back unigram[v], then what they predict.
__attribute__((target_clones("avx512f", "avx2", "default"))) void predict(const Logits& in,
                                                                          int64_t target,
                                                                          float* logits,
                                                                          Prediction& out) {
  const auto vocabulary = in.vocabulary;
  const float *plain = in.plain, *g = in.g, *bias = in.bias, *unigram = in.unigram,
              *frequency = in.frequency;
  const float scale = in.scale, along = in.along, back = in.back;
  for (int64_t v = 0; v < vocabulary; ++v)
    logits[v] = scale * (plain[v] + along * g[v]) + bias[v] + back * unigram[v];
  const float right = logits[target];
  float high[kLanes];
  int32_t above[kLanes] = {};
  for (float& h : high) h = logits[0];
  int64_t v = 0;
  for (; v + kLanes <= vocabulary; v += kLanes)
    for (int j = 0; j < kLanes; ++j) {
      const float x = logits[v + j];
      high[j] = x > high[j] ? x : high[j];
      above[j] += x > right;
    }
  for (; v < vocabulary; ++v) {
    high[0] = std::max(high[0], logits[v]);
    above[0] += logits[v] > right;
  }
  const float most = *std::max_element(high, high + kLanes);
  float sum[kLanes] = {}, weighted[kLanes] = {};
  double total = 0, moment = 0;
  for (v = 0; v + kLanes <= vocabulary;) {
    const auto end = std::min(vocabulary - kLanes, v + 64 * kLanes);
    for (; v <= end; v += kLanes)
      for (int j = 0; j < kLanes; ++j) {
        const float x = logits[v + j] - most, e = fast_exp(x);
        sum[j] += e;
        weighted[j] += e * x;
      }
    for (int j = 0; j < kLanes; ++j) {
      total += static_cast<double>(sum[j]), moment += static_cast<double>(weighted[j]);
      sum[j] = weighted[j] = 0;
    }
  }
  for (; v < vocabulary; ++v) {
    const float x = logits[v] - most, e = fast_exp(x);
    total += static_cast<double>(e), moment += static_cast<double>(e * x);
  }
  const double log_sum = std::log(total);
  out.loss = log_sum - (static_cast<double>(right) - static_cast<double>(most));
  out.entropy = log_sum - moment / total;
  for (const int32_t a : above) out.rank += a;
  for (v = 0; v < vocabulary; ++v)
    if (logits[v] == most) {
      out.top = static_cast<int32_t>(v);
      break;
    }
  if (!frequency) return;
  // KL(p || model) = sum p log p - sum p (logit - most) + log sum
  double crossed = 0;
  for (v = 0; v + kLanes <= vocabulary;) {
    const auto end = std::min(vocabulary - kLanes, v + 64 * kLanes);
    for (; v <= end; v += kLanes)
      for (int j = 0; j < kLanes; ++j) sum[j] += frequency[v + j] * (logits[v + j] - most);
    for (int j = 0; j < kLanes; ++j) crossed += static_cast<double>(std::exchange(sum[j], 0.0f));
  }
  for (; v < vocabulary; ++v) crossed += static_cast<double>(frequency[v] * (logits[v] - most));
  out.unigram_divergence = in.frequency_moment - crossed + log_sum;
}

}  // namespace

struct Ablation::Change {
  float scale = 1, along = 0, back = 0;
};

Ablation::Ablation(const Readout& readout, LastStream stream, const torch::Tensor& unigram,
                   std::span<const int64_t> counts)
    : readout_(readout), stream_(std::move(stream)) {
  require(readout_.cap == 0, "ablation: capped logits are no linear function of the stream");
  const auto& x = stream_.stream;
  require(x.dim() == 2 && x.size(1) == readout_.unembed.size(0) &&
              stream_.activations.size(1) == readout_.value.size(0) &&
              stream_.activations.size(0) == x.size(0) && stream_.targets.size(0) == x.size(0),
          "ablation: stream {}, activations {} and targets {} do not fit the model",
          shape_text(x.sizes()), shape_text(stream_.activations.sizes()),
          shape_text(stream_.targets.sizes()));
  centred_ = readout_.centre(x);
  square_ = centred_.to(torch::kDouble).square().sum(1);
  scale_ = (square_ / static_cast<double>(x.size(1)) + readout_.epsilon).sqrt();
  plain_ = torch::mm(centred_ / scale_.to(torch::kFloat).unsqueeze(1), readout_.unembed);
  unigram_ =
      unigram.defined() ? unigram.to(torch::kFloat).contiguous() : torch::zeros_like(readout_.bias);
  if (!counts.empty()) {
    auto p = torch::empty({std::ssize(counts)}, torch::kDouble);
    for (size_t v = 0; v < counts.size(); ++v)
      p.data_ptr<double>()[v] = static_cast<double>(counts[v]) + 1;
    p = p / p.sum();
    frequency_ = p.to(torch::kFloat), frequency_moment_ = (p * p.log()).sum().item<double>();
  }
  before_ = predictions(std::vector<Change>(static_cast<size_t>(tokens())),
                        readout_.bias.data_ptr<float>());
}

std::vector<Prediction> Ablation::predictions(const std::vector<Change>& changes,
                                              const float* g) const {
  const int64_t vocabulary = plain_.size(1);
  const auto* plain = plain_.data_ptr<float>();
  const auto* bias = readout_.bias.data_ptr<float>();
  const auto* target = stream_.targets.data_ptr<int64_t>();
  const auto* frequency = frequency_.defined() ? frequency_.data_ptr<float>() : nullptr;
  std::vector<Prediction> out(changes.size());
  at::parallel_for(0, std::ssize(changes), 1, [&](int64_t begin, int64_t end) {
    std::vector<float> logits(static_cast<size_t>(vocabulary));
    for (int64_t t = begin; t < end; ++t)
      predict({plain + t * vocabulary, g, bias, unigram_.data_ptr<float>(), frequency,
               frequency_moment_, changes[t].scale, changes[t].along, changes[t].back, vocabulary},
              target[t], logits.data(), out[t]);
  });
  return out;
}

std::vector<Prediction> Ablation::run(int64_t neuron, Freeze freeze) const {
  return run(neuron, freeze, std::nan(""));
}

std::vector<Prediction> Ablation::run(int64_t neuron, Freeze freeze, double to) const {
  require(neuron >= 0 && neuron < readout_.value.size(0), "neuron {}: the layer has {}", neuron,
          readout_.value.size(0));
  const auto a = stream_.activations.select(1, neuron).to(torch::kDouble);
  const auto delta = ((std::isnan(to) ? a.mean() : torch::tensor(to, torch::kDouble)) - a);
  const auto w = readout_.centre(readout_.value[neuron]);
  const auto g = torch::mv(readout_.unembed.t(), w).contiguous();
  const auto along = delta / scale_;
  const auto dot = torch::mv(centred_, w).to(torch::kDouble);
  const auto length = w.to(torch::kDouble).square().sum();
  const auto square = square_ + 2 * delta * dot + delta.square() * length;
  const auto after =
      (square.clamp_min(0) / static_cast<double>(centred_.size(1)) + readout_.epsilon).sqrt();
  const auto shrink = freeze == Freeze::scale ? torch::ones_like(scale_) : scale_ / after;
  auto back = torch::zeros_like(delta);
  if (freeze == Freeze::unigram) {
    // p0 - p1 along the unigram direction; the bias is in both.
    const auto before = torch::mv(plain_, unigram_).to(torch::kDouble);
    back = before - shrink * (before + along * torch::dot(g, unigram_).to(torch::kDouble));
  }
  std::vector<Change> changes(static_cast<size_t>(tokens()));
  const auto value = [](const torch::Tensor& t) { return t.contiguous(); };
  const auto s = value(shrink), e = value(along), b = value(back);
  for (int64_t t = 0; t < tokens(); ++t)
    changes[t] = {static_cast<float>(s.data_ptr<double>()[t]),
                  static_cast<float>(e.data_ptr<double>()[t]),
                  static_cast<float>(b.data_ptr<double>()[t])};
  return predictions(changes, g.data_ptr<float>());
}

std::vector<Prediction> Ablation::recomputed(int64_t neuron, Freeze freeze) const {
  auto r = readout_;
  for (auto* t : {&r.unembed, &r.bias, &r.value}) *t = t->to(torch::kDouble);
  const auto a = stream_.activations.select(1, neuron).to(torch::kDouble);
  const auto stream = stream_.stream.to(torch::kDouble);
  const auto x = stream + torch::outer(a.mean() - a, r.value[neuron]);
  auto logits = freeze == Freeze::scale
                    ? torch::matmul(r.centre(x) / r.scale(stream), r.unembed) + r.bias
                    : r.logits(x);
  if (freeze == Freeze::unigram) {
    const auto u = unigram_.to(torch::kDouble);
    logits = logits + torch::outer(torch::mv(r.logits(stream) - logits, u), u);
  }
  return from_logits(logits);
}

std::vector<Prediction> Ablation::from_logits(const torch::Tensor& logits) const {
  const auto log_p = torch::log_softmax(logits, 1);
  const auto right = log_p.gather(1, stream_.targets.unsqueeze(1));
  const auto entropy = -(log_p.exp() * log_p).sum(1);
  const auto top = log_p.argmax(1), rank = (log_p > right).sum(1);
  std::vector<Prediction> out(static_cast<size_t>(tokens()));
  for (int64_t t = 0; t < tokens(); ++t) {
    out[t] = {-right.data_ptr<double>()[t], entropy.data_ptr<double>()[t],
              static_cast<int32_t>(top.data_ptr<int64_t>()[t]),
              static_cast<int32_t>(rank.data_ptr<int64_t>()[t]), 0};
  }
  return out;
}

double mean_effect(const std::vector<Prediction>& after, const std::vector<Prediction>& before) {
  double sum = 0;
  for (size_t t = 0; t < before.size(); ++t) sum += std::fabs(after[t].loss - before[t].loss);
  return sum / static_cast<double>(before.size());
}

Effect effect_of(const Ablation& ablation, int64_t neuron) {
  const auto& before = ablation.before();
  const auto total = ablation.run(neuron, Freeze::nothing);
  Effect out;
  out.total = mean_effect(total, before);
  out.direct = mean_effect(ablation.run(neuron, Freeze::scale), before);
  out.frozen = mean_effect(ablation.run(neuron, Freeze::unigram), before);
  for (size_t t = 0; t < before.size(); ++t) {
    const auto n = static_cast<double>(before.size());
    out.entropy += (total[t].entropy - before[t].entropy) / n;
    out.divergence += (total[t].unigram_divergence - before[t].unigram_divergence) / n;
  }
  return out;
}

}  // namespace cajal::atlas
