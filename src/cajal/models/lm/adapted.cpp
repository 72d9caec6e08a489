#include "cajal/models/lm/adapted.h"

#include <algorithm>
#include <cmath>

#include "cajal/core/error.h"
#include "cajal/core/timing.h"
#include "cajal/layers/ffn/balancing.h"
#include "cajal/layers/mixers/chunked_attention.h"
#include "cajal/layers/ops.h"
#include "cajal/models/lm/block.h"
#include "cajal/models/lm/training.h"

namespace cajal::lm {
namespace {

constexpr int64_t kFittedRows = 4096;  // of queries and of keys, to start codebooks from

torch::Tensor by_output(const Matrix& matrix) {
  return matrix.major() == Major::output ? matrix.stored() : matrix.stored().t();
}

void check(const AdapterOptions& o, const Config& c) {
  require(o.rank >= 0 && o.alpha >= 0, "adapters: rank {} and alpha {}, expected 0 or more", o.rank,
          o.alpha);
  require(o.blocks >= 0 && (o.blocks == 0 || c.neurons % o.blocks == 0),
          "adapters.blocks: the {} neurons of a layer do not divide into {} blocks", c.neurons,
          o.blocks);
  require(o.blocks == 0 || o.rank > 0, "adapters.rank: a routed FFN needs one, got 0");
  require(o.active >= 0 && o.active <= o.blocks, "adapters.active: {}, expected 0 to {} (blocks)",
          o.active, o.blocks);
  require(o.keys >= 0 && o.keys <= c.context, "adapters.keys: {}, expected 0 to {} (context)",
          o.keys, c.context);
  require(o.quantiser_weight >= 0 && o.balance >= 0,
          "adapters: quantiser_weight and balance must not be negative");
  require(o.quantiser_every > 0 && o.quantiser_rounds >= 0,
          "adapters: quantiser_every {} must be positive and quantiser_rounds {} not negative",
          o.quantiser_every, o.quantiser_rounds);
  const bool quantises =
      o.attention == AdaptedAttention::quantised || o.attention == AdaptedAttention::sparse;
  require(!o.recompute || (!quantises && o.balance == 0),
          "adapters.recompute: blocks made anew lose the losses of quantisers and routers");
  require(!quantises || c.head_width % 8 == 0,
          "adapters.attention: heads of {} features do not divide into sub-spaces of 8",
          c.head_width);
}

}  // namespace

AdaptedImpl::AdaptedImpl(Transformer model, const AdapterOptions& o, uint64_t seed)
    : options(o), model_(std::move(model)) {
  const Config& c = model_->config;
  check(o, c);
  require(TrainingLoss(model_).direct(), "adapters: models like this {} are not taken yet",
          to_name(c.family));
  seed_everything(seed);
  if (o.alpha > 0) scale_ = o.alpha / static_cast<double>(std::max<int64_t>(1, o.rank));
  for (auto& parameter : model_->parameters()) parameter.set_requires_grad(full());
  for (int64_t layer = 0; layer < c.layers; ++layer) make_layer(layer);
  if (o.embedding && o.rank > 0) {
    embedding_ = correction(*this, "embedding", c.vocabulary, c.width);
    vocabulary_ = correction(*this, "vocabulary", c.width, c.vocabulary);
  }
  if (c.rope.inverse_frequency.empty()) return;
  const auto frequency = torch::tensor(c.rope.inverse_frequency, torch::kDouble).to(torch::kFloat);
  const auto angle = torch::arange(c.context, torch::kFloat).unsqueeze(1) * frequency;
  cosine_ = angle.cos() * c.rope.attention_factor, sine_ = angle.sin() * c.rope.attention_factor;
}

bool AdaptedImpl::full() const { return options.rank == 0 && options.blocks == 0; }

LowRank AdaptedImpl::correction(torch::nn::Module& at, const std::string& name, int64_t inputs,
                                int64_t outputs) {
  if (options.rank == 0) return {};
  const auto made = make_low_rank(inputs, outputs, options.rank, options.alpha > 0);
  return {at.register_parameter(name + "_left", made.left),
          at.register_parameter(name + "_right", made.right)};
}

void AdaptedImpl::make_layer(int64_t index) {
  const Config& c = model_->config;
  const Block& block = model_->blocks[static_cast<size_t>(index)];
  auto at = std::make_shared<torch::nn::Module>("layer");
  Layer layer;
  const auto linear = [&](const char* name, const Linear& of) {
    return of.defined() ? correction(*at, name, of.weight.inputs(), of.weight.outputs())
                        : LowRank();
  };
  const Attention& a = block.attention;
  layer.fused = linear("fused", a.fused), layer.query = linear("query", a.query);
  layer.key = linear("key", a.key), layer.value = linear("value", a.value);
  layer.output = linear("output", a.output);

  const NeuronGroup& group = block.ffn.groups[0];
  auto& n = layer.neurons;
  n.key = by_output(group.key), n.value = by_output(group.value).t();
  n.bias_key = group.key_bias, n.bias_gate = group.gate_bias, n.bias_value = block.ffn.value_bias;
  n.lora_key = correction(*at, "ffn_key", c.width, c.neurons);
  n.lora_value = correction(*at, "ffn_value", c.neurons, c.width);
  n.lora_scale = scale_;
  if (group.gate.defined()) {
    n.gate = by_output(group.gate);
    n.lora_gate = correction(*at, "ffn_gate", c.width, c.neurons);
  }
  if (options.blocks > 0) {
    const double bound = 1 / std::sqrt(static_cast<double>(c.width));
    layer.router = at->register_parameter(
        "router", torch::empty({options.blocks, c.width}).uniform_(-bound, bound));
    layer.router_bias = at->register_parameter("router_bias", torch::zeros({options.blocks}));
  }
  if (options.attention == AdaptedAttention::quantised ||
      options.attention == AdaptedAttention::sparse) {
    const double by_layer = c.scale_by_inverse_layer ? static_cast<double>(index + 1) : 1.0;
    layer.attention = SparseAttention(SparseAttentionOptions{
        .head_width = c.head_width,
        .keys = options.keys,
        .search = options.attention == AdaptedAttention::sparse ? options.search : KeySearch::all,
        .keep_diagonal = options.keep_diagonal,
        .sink = options.sink,
        .clamp = options.attention == AdaptedAttention::sparse ? options.clamp : 0,
        .scale = c.score_scale / by_layer,
        .stop_gradient = options.stop_gradient});
    at->register_parameter("codebooks", layer.attention->quantizer->codebooks);
  }
  register_module(fmt::format("layers_{}", index), at);
  layers_.push_back(std::move(layer));
}

torch::Tensor AdaptedImpl::project(const Linear& linear, const LowRank& correction,
                                   const torch::Tensor& x) const {
  const auto weight = by_output(linear.weight).t();
  auto y = linear.bias.defined() ? torch::addmm(linear.bias, x, weight) : torch::mm(x, weight);
  // In place: a product needs its inputs for backward, not its result.
  if (correction.defined())
    y = y.addmm_(torch::mm(x, correction.left), correction.right.t(), 1, scale_);
  return y;
}

torch::Tensor AdaptedImpl::rotate(const torch::Tensor& x) const {
  if (!cosine_.defined()) return x;
  const int64_t half = cosine_.size(1), tokens = x.size(2), width = x.size(3);
  const auto cos = cosine_.narrow(0, 0, tokens), sin = sine_.narrow(0, 0, tokens);
  const auto a = x.narrow(-1, 0, half), b = x.narrow(-1, half, half);
  std::vector<torch::Tensor> parts{a * cos - b * sin, b * cos + a * sin};
  if (2 * half < width) parts.push_back(x.narrow(-1, 2 * half, width - 2 * half));
  return torch::cat(parts, -1);
}

torch::Tensor AdaptedImpl::attend(int64_t index, const torch::Tensor& x) {
  const Config& c = model_->config;
  const Attention& a = model_->blocks[static_cast<size_t>(index)].attention;
  Layer& layer = layers_[static_cast<size_t>(index)];
  const int64_t batch = x.size(0), tokens = x.size(1), d = c.head_width;
  const auto rows = x.flatten(0, 1);
  torch::Tensor q, k, v;
  if (a.fused.defined()) {
    const auto parts = project(a.fused, layer.fused, rows)
                           .split_with_sizes({c.heads * d, c.kv_heads * d, c.kv_heads * d}, -1);
    q = parts[0], k = parts[1], v = parts[2];
  } else {
    q = project(a.query, layer.query, rows), k = project(a.key, layer.key, rows);
    v = project(a.value, layer.value, rows);
  }
  const auto heads = [&](const torch::Tensor& t) {
    return t.reshape({batch, tokens, -1, d}).transpose(1, 2);
  };
  const int64_t share = c.heads / c.kv_heads;
  q = rotate(heads(q)), k = repeat_heads(rotate(heads(k)), share);
  v = repeat_heads(heads(v), share);
  if (watch) watch(index, q, k);
  torch::Tensor y;
  const double scale =
      c.score_scale / (c.scale_by_inverse_layer ? static_cast<double>(index + 1) : 1.0);
  if (layer.attention) {
    auto& quantizer = *layer.attention->quantizer;
    if (is_training() && !started_ && options.quantiser_rounds > 0) {
      const auto all = torch::cat({q, k}).detach().reshape({-1, d});
      const auto some = torch::randperm(all.size(0)).slice(0, 0, 2 * kFittedRows);
      quantizer.fit(all.index_select(0, some), options.quantiser_rounds,
                    static_cast<uint64_t>(index));
    }
    if (quantise_now_) {
      const auto loss = layer.attention->quantisation_loss(q, k) * options.quantiser_weight;
      extra_ = extra_.defined() ? extra_ + loss : loss;
    }
  }
  if (options.attention == AdaptedAttention::sparse) {
    y = std::get<0>(layer.attention->forward(q, k, v));
  } else if (options.attention == AdaptedAttention::chunked) {
    y = mixers::chunked_attention(q.contiguous(), k.contiguous(), v.contiguous(), scale);
  } else {
    y = attention(q, k, v, {}, /*causal=*/true, scale);
  }
  return project(a.output, layer.output, y.transpose(1, 2).reshape({batch * tokens, -1}))
      .view(x.sizes());
}

torch::Tensor AdaptedImpl::feed_forward(int64_t index, const torch::Tensor& x) {
  const Layer& layer = layers_[static_cast<size_t>(index)];
  const auto rows = x.flatten(0, 1);
  const Activation law = model_->config.law;
  if (options.blocks == 0)
    return routed_forward(rows, layer.neurons, 1, {}, {}, law, RoutedForm::grouped).view(x.sizes());
  const int64_t active =
      options.active > 0 ? options.active : std::max<int64_t>(1, options.blocks / 2);
  const auto choice = choose_blocks(rows, layer.router, layer.router_bias, active);
  if (options.balance > 0 && is_training()) {
    const auto soft = choice.probability / choice.probability.sum(-1, /*keepdim=*/true);
    const auto loss = balancing::load_balance(soft, choice.chosen) * options.balance;
    extra_ = extra_.defined() ? extra_ + loss : loss;
  }
  return routed_forward(rows, layer.neurons, options.blocks, choice.chosen, choice.c, law,
                        RoutedForm::grouped)
      .view(x.sizes());
}

torch::Tensor AdaptedImpl::run_layer(int64_t index, const torch::Tensor& x) {
  const Config& c = model_->config;
  const Block& block = model_->blocks[static_cast<size_t>(index)];
  const auto norm = [&](const torch::Tensor& t, const Norm& n) {
    return ops::norm(t, c.norm, n.weight, n.bias, c.epsilon);
  };
  const auto mid = x + attend(index, norm(x, block.norm1));
  return mid + feed_forward(index, norm(mid, block.norm2));
}

torch::Tensor AdaptedImpl::forward(const torch::Tensor& ids) {
  const Config& c = model_->config;
  require(ids.dim() == 2 && ids.size(1) <= c.context,
          "adapters: ids {}, expected [batch, tokens] with at most {} tokens",
          shape_text(ids.sizes()), c.context);
  extra_.reset();
  auto x = torch::embedding(model_->embedding.tokens.stored(), ids);
  if (embedding_.defined())
    x = x + torch::matmul(torch::embedding(embedding_.left, ids), embedding_.right.t()) * scale_;
  if (c.embedding_scale != 1) x = x * c.embedding_scale;
  if (c.positions == Positions::learned)
    x = x + model_->embedding.positions.stored().narrow(0, c.position_offset, ids.size(1));
  const auto parameters = options.recompute ? trainable() : std::vector<torch::Tensor>();
  for (int64_t layer = 0; layer < c.layers; ++layer)
    x = options.recompute
            ? mixers::recomputed(
                  [this, layer](const torch::Tensor& t) { return run_layer(layer, t); }, x,
                  parameters.front())
            : run_layer(layer, x);
  if (is_training()) started_ = true;
  x = ops::norm(x, c.norm, model_->output.norm.weight, model_->output.norm.bias, c.epsilon);
  return project(model_->output.vocabulary, vocabulary_, x.flatten(0, 1));
}

torch::Tensor AdaptedImpl::loss(const torch::Tensor& ids, const torch::Tensor& targets) {
  quantise_now_ = is_training() && options.quantiser_weight > 0 && layers_[0].attention &&
                  steps_ % options.quantiser_every == 0;
  if (is_training()) ++steps_;
  const auto main = ops::cross_entropy(forward(ids), targets.reshape({-1}));
  quantise_now_ = false;
  return extra_.defined() ? main + extra_ : main;
}

std::vector<torch::Tensor> AdaptedImpl::trainable() const {
  auto out = parameters();
  if (full())
    for (const auto& parameter : model_->parameters()) out.push_back(parameter);
  return out;
}

bool AdaptedImpl::merges() const {
  return options.blocks == 0 && options.attention != AdaptedAttention::sparse;
}

Transformer AdaptedImpl::merged() const {
  require(merges(),
          "adapters: routed FFNs and sparse attention are no plain model; only corrections fold "
          "into the weights");
  const torch::NoGradGuard no_grad;
  Transformer out(model_->config);
  out->embedding = model_->embedding, out->blocks = model_->blocks, out->output = model_->output;
  const auto fold = [&](Matrix& matrix, const LowRank& l) {
    if (!l.defined()) return;
    const auto delta = torch::mm(l.left, l.right.t()) * scale_;  // [inputs, outputs]
    matrix = Matrix::dense(matrix.stored() + (matrix.major() == Major::input ? delta : delta.t()),
                           matrix.major());
  };
  for (size_t i = 0; i < layers_.size(); ++i) {
    Attention& a = out->blocks[i].attention;
    fold(a.fused.weight, layers_[i].fused), fold(a.query.weight, layers_[i].query);
    fold(a.key.weight, layers_[i].key), fold(a.value.weight, layers_[i].value);
    fold(a.output.weight, layers_[i].output);
    NeuronGroup& group = out->blocks[i].ffn.groups[0];
    fold(group.key, layers_[i].neurons.lora_key), fold(group.gate, layers_[i].neurons.lora_gate);
    fold(group.value, layers_[i].neurons.lora_value);
  }
  if (embedding_.defined()) {
    out->config.tied = false;  // input and output change each in its own way
    out->embedding.tokens = Matrix::dense(
        out->embedding.tokens.stored() + torch::mm(embedding_.left, embedding_.right.t()) * scale_);
    fold(out->output.vocabulary.weight, vocabulary_);
  }
  out->eval();
  return out;
}

Evaluation evaluate(Adapted& model, std::span<const int32_t> ids, int64_t bytes, int64_t context,
                    int64_t batch) {
  require(ids.size() >= 2 && context > 0 && batch > 0,
          "evaluate: {} ids in windows of {}, {} at a time", ids.size(), context, batch);
  const torch::NoGradGuard no_grad;
  const Stopwatch clock;
  Evaluation out{.tokens = std::ssize(ids) - 1, .bytes = bytes};
  const auto all = torch::tensor(std::vector<int32_t>(ids.begin(), ids.end())).to(torch::kLong);
  const bool training = model->is_training();
  model->eval();
  for (int64_t begin = 0; begin < out.tokens;) {
    const int64_t whole = (out.tokens - begin) / context;
    const int64_t windows = std::clamp<int64_t>(whole, 1, batch);
    const int64_t length = whole > 0 ? context : out.tokens - begin;
    const auto window = [&](int64_t shift) {
      return all.narrow(0, begin + shift, windows * length).view({windows, length});
    };
    out.nats +=
        model->loss(window(0), window(1)).item<double>() * static_cast<double>(windows * length);
    begin += windows * length;
  }
  model->train(training);
  out.seconds = clock.seconds();
  return out;
}

}  // namespace cajal::lm
