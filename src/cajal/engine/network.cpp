#include "cajal/engine/network.h"

#include <algorithm>
#include <cmath>

#include "cajal/core/error.h"
#include "cajal/kernels/norm.h"

namespace cajal::engine {
namespace {

using Floats = std::vector<float>;

Floats room(int64_t rows, int64_t width) { return Floats(static_cast<size_t>(rows * width)); }

const float* data_or_null(const Floats& values) { return values.empty() ? nullptr : values.data(); }

void add(const Floats& from, Floats& to) {
  for (size_t i = 0; i < to.size(); ++i) to[i] += from[i];
}

void cap(float most, float* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] = most * std::tanh(x[i] / most);
}

/// cosine and sine of the angles that pairs of a head turn by.
struct Rotation {
  int64_t pairs = 0;
  Floats cosine, sine;  // [tokens, pairs]

  Rotation() = default;
  Rotation(const lm::Rope& rope, int64_t first, int64_t tokens, int64_t total) {
    const bool far = !rope.long_inverse_frequency.empty() && total > rope.original_context;
    const auto& chosen = far ? rope.long_inverse_frequency : rope.inverse_frequency;
    const Floats frequency(chosen.begin(), chosen.end());
    pairs = static_cast<int64_t>(frequency.size());
    cosine = sine = room(tokens, pairs);
    rotary_angles(frequency.data(), pairs, first, tokens, static_cast<float>(rope.attention_factor),
                  cosine.data(), sine.data());
  }

  void turn(float* x, int64_t tokens, int64_t heads, int64_t head_width, int64_t stride) const {
    rotate(x, tokens, heads, head_width, stride, cosine.data(), sine.data(), pairs,
           RotaryLayout::halves);
  }
};

}  // namespace

// The rotations of one chunk.
struct Network::Turn {
  int64_t first = 0;
  Rotation global, local;
};

int64_t StoredFeedForward::bytes() const {
  int64_t total = 0;
  for (const auto& group : groups)
    total += group.key.bytes() + group.gate.bytes() + group.value.bytes() +
             group.values.rows * row_bytes(group.values.format, group.values.width);
  return total;
}

void StoredFeedForward::apply(Input& x, float* y) const {
  const int64_t width = x.width;
  std::fill(y, y + x.batch * width, 0.0f);
  for (const auto& group : groups) {
    const int64_t neurons = group.neurons();
    auto hidden = room(x.batch, neurons), gate = room(gated ? x.batch : 0, neurons);
    const Product products[] = {{group.key, hidden.data()}, {group.gate, gate.data()}};
    engine::apply(std::span(products, gated ? 2 : 1), x, [&](int64_t begin, int64_t end) {
      for (int64_t b = 0; b < x.batch; ++b) {
        float* const of = hidden.data() + b * neurons + begin;
        if (gated) {
          apply_gate(law, gate.data() + b * neurons + begin, of, end - begin, of);
        } else {
          apply_law(law, of, end - begin, of);
        }
      }
    });
    if (group.value.defined()) {
      Input inner(hidden.data(), x.batch, neurons, x.arithmetic, x.threads);
      if (groups.size() == 1) {
        group.value.apply(inner, y);
      } else {
        auto part = room(x.batch, width);
        group.value.apply(inner, part.data());
        for (size_t i = 0; i < part.size(); ++i) y[i] += part[i];
      }
    } else {
      gather_axpy(group.values, RowSet::range(0, neurons), hidden.data(), x.batch, y, x.threads);
    }
  }
  for (int64_t b = 0; b < x.batch && !bias.empty(); ++b)
    for (int64_t i = 0; i < width; ++i) y[b * width + i] += bias[static_cast<size_t>(i)];
}

CacheFormat Network::cache_format() const {
  return tokens_.weight.format == Format::f32 ? CacheFormat::f32 : CacheFormat::f16;
}

int64_t Network::bytes_per_token() const {
  const auto small = [](const Norm& norm) {
    return static_cast<int64_t>(4 * (norm.weight.size() + norm.bias.size()));
  };
  int64_t total =
      project_in_.bytes() + project_out_.bytes() + small(norm_) +
      (vocabulary_ ? vocabulary_->bytes() + row_bytes(tokens_.weight.format, tokens_.weight.width)
                   : tokens_.bytes());
  for (const auto& layer : layers) {
    const auto& a = layer.attention;
    for (const auto* linear : {&a.query, &a.key, &a.value, &a.fused, &a.output})
      total += linear->bytes() + static_cast<int64_t>(4 * linear->bias.size());
    for (const auto* norm : {&layer.norm1, &layer.norm1_after, &layer.norm2, &layer.norm2_after})
      total += small(*norm);
    total += layer.ffn_bytes;
  }
  return total;
}

int64_t Network::bytes() const {
  int64_t unread = 0;
  for (const auto& layer : layers) unread += layer.unread_ffn_bytes;
  return bytes_per_token() + unread + positions_.bytes() +
         (vocabulary_ ? tokens_.bytes() - row_bytes(tokens_.weight.format, tokens_.weight.width)
                      : 0);
}

void Network::normalise(const Norm& norm, const float* x, int64_t rows, int64_t width,
                        float* y) const {
  const auto epsilon = static_cast<float>(config().epsilon);
  if (config().norm == NormKind::layer) {
    layer_norm(x, data_or_null(norm.weight), data_or_null(norm.bias), rows, width, epsilon, y);
  } else {
    rms_norm(x, data_or_null(norm.weight), rows, width, epsilon, y,
             config().norm == NormKind::rms_one_plus ? 1.0f : 0.0f);
  }
}

void Network::embed(std::span<const int32_t> ids, int64_t first, float* x,
                    ThreadPool& threads) const {
  const auto& c = config();
  const auto batch = static_cast<int64_t>(ids.size());
  auto narrow = room(batch, c.embedding_width);
  for (int64_t i = 0; i < batch; ++i) {
    const auto id = ids[static_cast<size_t>(i)];
    require(id >= 0 && id < c.vocabulary, "token ids hold {}, expected 0 to {} (the vocabulary)",
            id, c.vocabulary - 1);
    tokens_.decode(id, narrow.data() + i * c.embedding_width);
  }
  if (c.embedding_scale != 1)
    for (float& value : narrow) value *= static_cast<float>(c.embedding_scale);
  if (project_in_.defined()) {
    Input in(narrow.data(), batch, c.embedding_width, options.arithmetic, threads);
    project_in_.apply(in, x);
  } else {
    std::copy(narrow.begin(), narrow.end(), x);
  }
  if (!positions_.defined()) return;
  Floats position(static_cast<size_t>(c.width));
  for (int64_t i = 0; i < batch; ++i) {
    positions_.decode(c.position_offset + first + i, position.data());
    for (int64_t j = 0; j < c.width; ++j) x[i * c.width + j] += position[static_cast<size_t>(j)];
  }
}

void Network::attend(int64_t index, int64_t batch, const Turn& turn, Cache& cache, const float* x,
                     float* y, ThreadPool& threads) const {
  const auto& c = config();
  const auto& a = layers[static_cast<size_t>(index)].attention;
  const int64_t d = c.head_width, q_width = c.heads * d, k_width = c.kv_heads * d;
  Input in(x, batch, c.width, options.arithmetic, threads);
  auto q = room(batch, q_width), k = room(batch, k_width), v = room(batch, k_width);
  if (a.fused.defined()) {
    auto all = room(batch, 3 * q_width);
    a.fused.apply(in, all.data());
    for (int64_t row = 0; row < batch * c.heads; ++row) {
      const float* from = all.data() + row * 3 * d;
      std::copy_n(from, d, q.data() + row * d);
      std::copy_n(from + d, d, k.data() + row * d);
      std::copy_n(from + 2 * d, d, v.data() + row * d);
    }
  } else {
    const Product products[] = {{a.query, q.data()}, {a.key, k.data()}, {a.value, v.data()}};
    engine::apply(products, in);
  }
  if (c.query_key_norm) {
    normalise(a.query_norm, q.data(), batch * c.heads, d, q.data());
    normalise(a.key_norm, k.data(), batch * c.kv_heads, d, k.data());
  }
  const int64_t window = c.window[static_cast<size_t>(index)];
  if (c.positions == lm::Positions::rotary) {
    const auto& rotation = turn.local.pairs > 0 && window > 0 ? turn.local : turn.global;
    rotation.turn(q.data(), batch, c.heads, d, q_width);
    rotation.turn(k.data(), batch, c.kv_heads, d, k_width);
  }
  const auto& kept = cache.layer(index);
  store(kept.keys, turn.first, batch, k.data(), k_width);
  store(kept.values, turn.first, batch, v.data(), k_width);
  const AttentionOptions how{
      .heads = c.heads,
      .scale = static_cast<float>(c.score_scale / (c.scale_by_inverse_layer ? index + 1.0 : 1.0)),
      .cap = static_cast<float>(c.score_cap),
      .window = window};
  auto z = room(batch, q_width);
  cajal::attend(q.data(), turn.first, batch, q_width, kept.keys, kept.values, how, z.data(),
                threads);
  Input out(z.data(), batch, q_width, options.arithmetic, threads);
  a.output.apply(out, y);
}

void Network::run_layer(int64_t index, int64_t batch, const Turn& turn, Cache& cache, float* stream,
                        ThreadPool& threads) const {
  const auto& c = config();
  const auto& layer = layers[static_cast<size_t>(index)];
  const auto count = static_cast<size_t>(batch * c.width);
  Floats normed(count), attended(count), fed(count);
  const auto settle = [&](const Floats& delta) {
    for (size_t i = 0; i < count; ++i) stream[i] += delta[i];
  };
  const auto feed = [&](const float* x) {
    Input in(x, batch, c.width, options.arithmetic, threads);
    layer.feed_forward ? layer.feed_forward(in, fed.data()) : layer.stored->apply(in, fed.data());
  };
  if (c.norm_place == lm::NormPlace::post) {
    attend(index, batch, turn, cache, stream, attended.data(), threads);
    settle(attended);
    normalise(layer.norm1, stream, batch, c.width, stream);
    feed(stream);
    settle(fed);
    return normalise(layer.norm2, stream, batch, c.width, stream);
  }
  const bool both = c.norm_place == lm::NormPlace::both;
  normalise(layer.norm1, stream, batch, c.width, normed.data());
  attend(index, batch, turn, cache, normed.data(), attended.data(), threads);
  if (both) normalise(layer.norm1_after, attended.data(), batch, c.width, attended.data());
  if (!c.parallel_residual) settle(attended);
  normalise(layer.norm2, stream, batch, c.width, normed.data());
  feed(normed.data());
  if (both) normalise(layer.norm2_after, fed.data(), batch, c.width, fed.data());
  if (c.parallel_residual) add(attended, fed);
  settle(fed);
}

void Network::run_chunk(std::span<const int32_t> ids, int64_t total, int64_t wanted, Cache& cache,
                        float* logits, ThreadPool& threads) const {
  const auto& c = config();
  const auto batch = static_cast<int64_t>(ids.size());
  Turn turn{.first = cache.tokens(), .global = {}, .local = {}};
  if (c.positions == lm::Positions::rotary) turn.global = {c.rope, turn.first, batch, total};
  if (!c.local_rope.inverse_frequency.empty())
    turn.local = {c.local_rope, turn.first, batch, total};
  auto stream = room(batch, c.width);
  embed(ids, turn.first, stream.data(), threads);
  for (int64_t index = 0; index < c.layers; ++index)
    run_layer(index, batch, turn, cache, stream.data(), threads);
  cache.advance(batch);
  if (wanted == 0) return;
  float* x = stream.data() + (batch - wanted) * c.width;
  if (c.final_norm) normalise(norm_, x, wanted, c.width, x);
  Floats narrow;
  if (project_out_.defined()) {
    narrow = room(wanted, c.embedding_width);
    Input in(x, wanted, c.width, options.arithmetic, threads);
    project_out_.apply(in, narrow.data());
    x = narrow.data();
  }
  Input in(x, wanted, c.embedding_width, options.arithmetic, threads);
  (vocabulary_ ? *vocabulary_ : tokens_).apply(in, logits);
  if (c.logit_cap > 0) cap(static_cast<float>(c.logit_cap), logits, wanted * c.vocabulary);
}

std::vector<float> Network::forward(std::span<const int32_t> ids, int64_t wanted, Cache& cache,
                                    ThreadPool& threads) const {
  const auto count = static_cast<int64_t>(ids.size()), total = cache.tokens() + count;
  require(count > 0, "a network reads at least one token");
  require(wanted >= 0 && wanted <= count, "logits of {} tokens, expected 0 to {}", wanted, count);
  require(total <= cache.capacity(), "{} tokens are more than the cache of {} has room for", total,
          cache.capacity());
  auto logits = room(wanted, config().vocabulary);
  for (int64_t begin = 0; begin < count; begin += Cache::kChunk) {
    const int64_t end = std::min(count, begin + Cache::kChunk);
    // Of the last `wanted` tokens, those in this chunk.
    const int64_t here = std::clamp<int64_t>(end - (count - wanted), 0, end - begin);
    run_chunk(ids.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)), total,
              here, cache, logits.data() + (end - here - (count - wanted)) * config().vocabulary,
              threads);
  }
  return logits;
}

}  // namespace cajal::engine
