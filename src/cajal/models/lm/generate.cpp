#include "cajal/models/lm/generate.h"

#include <algorithm>

#include "cajal/core/error.h"
#include "cajal/core/timing.h"

namespace cajal::lm {
namespace {

// Values of logits held at a time during evaluation.
constexpr int64_t kLogitSlice = int64_t{1} << 22;

torch::Tensor ids_tensor(const int32_t* ids, int64_t count, torch::Device device) {
  return torch::from_blob(const_cast<int32_t*>(ids), {1, count}, torch::kInt)
      .to(torch::kLong)
      .to(device);
}

torch::Device device_of(const TransformerImpl& m) { return m.embedding.tokens.stored().device(); }

// Summed loss of windows: inputs and targets i64 [windows, tokens].
double window_loss(TransformerImpl& m, const torch::Tensor& inputs, const torch::Tensor& targets,
                   Hooks* hooks) {
  Pass pass;
  pass.hooks = hooks;
  pass.stop_at_layer = m.config.layers;
  const auto residual = m.forward(inputs, pass);
  const int64_t tokens = inputs.size(1);
  const int64_t step = std::max<int64_t>(1, kLogitSlice / (m.config.vocabulary * inputs.size(0)));
  double nats = 0;
  for (int64_t begin = 0; begin < tokens; begin += step) {
    const int64_t end = std::min(tokens, begin + step);
    const auto logits = m.unembed(residual.slice(1, begin, end));
    const auto wanted = targets.slice(1, begin, end).reshape(-1);
    nats += ops::cross_entropy(logits.flatten(0, 1), wanted).item<double>() *
            static_cast<double>(wanted.numel());
  }
  return nats;
}

}  // namespace

std::vector<int32_t> generate(Transformer& model, const std::vector<int32_t>& prompt,
                              int64_t max_tokens, const text::SamplingOptions& sampling,
                              const std::function<bool(int32_t)>& on_token) {
  const torch::NoGradGuard no_grad;
  auto& m = *model;
  const Config& c = m.config;
  require(c.head == Head::language, "generate: a {} model of this kind predicts no next token",
          to_name(c.family));
  require(!prompt.empty(), "generate: the prompt is empty");
  require(static_cast<int64_t>(prompt.size()) <= c.context,
          "generate: the prompt has {} tokens, the context holds {}", prompt.size(), c.context);
  text::Sampler sampler(sampling);
  auto ids = prompt;
  KeyValueCache cache(c);
  const auto count = [&] { return static_cast<int64_t>(ids.size()); };
  const int64_t end = std::min(c.context, count() + std::max<int64_t>(0, max_tokens));
  while (count() < end) {
    // Past its original context longrope turns every key another way, so all are made again.
    if (!c.rope.long_inverse_frequency.empty() && count() > c.rope.original_context &&
        cache.tokens() <= c.rope.original_context)
      cache = KeyValueCache(c);
    Pass pass;
    pass.cache = &cache;
    pass.last_token_only = true;
    const int64_t seen = cache.tokens();
    const auto input = ids_tensor(ids.data() + seen, count() - seen, device_of(m));
    const auto logits =
        m.forward(input, pass).reshape(-1).to(torch::kCPU, torch::kFloat).contiguous();
    const int32_t id = sampler({logits.data_ptr<float>(), static_cast<size_t>(logits.numel())});
    ids.push_back(id);
    if (on_token && !on_token(id)) break;
    if (std::find(c.end_ids.begin(), c.end_ids.end(), id) != c.end_ids.end()) break;
  }
  return ids;
}

Evaluation evaluate(Transformer& model, const std::vector<int32_t>& ids, int64_t bytes,
                    int64_t context, int64_t batch, Hooks* hooks) {
  const torch::NoGradGuard no_grad;
  auto& m = *model;
  require(m.config.head == Head::language,
          "evaluate: a {} model of this kind predicts no next token", to_name(m.config.family));
  require(ids.size() >= 2, "evaluate: {} tokens of text, expected at least 2", ids.size());
  require(context >= 1 && context <= m.config.context,
          "evaluate: windows of {} tokens, expected 1 to {} (the model's context)", context,
          m.config.context);
  require(batch >= 1, "evaluate: batch is {}, expected at least 1", batch);
  const Stopwatch watch;
  Evaluation result;
  result.tokens = static_cast<int64_t>(ids.size()) - 1;
  result.bytes = bytes;
  const auto all = ids_tensor(ids.data(), result.tokens + 1, device_of(m)).squeeze(0);
  const int64_t whole = result.tokens / context, rest = result.tokens % context;
  const auto windows = [&](int64_t shift) {
    return all.slice(0, shift, shift + whole * context).reshape({whole, context});
  };
  for (int64_t begin = 0; begin < whole; begin += batch) {
    const int64_t end = std::min(whole, begin + batch);
    result.nats +=
        window_loss(m, windows(0).slice(0, begin, end), windows(1).slice(0, begin, end), hooks);
  }
  if (rest > 0) {
    const auto last = [&](int64_t shift) {
      return all.slice(0, whole * context + shift, result.tokens + shift).unsqueeze(0);
    };
    result.nats += window_loss(m, last(0), last(1), hooks);
  }
  result.seconds = watch.seconds();
  return result;
}

}  // namespace cajal::lm
