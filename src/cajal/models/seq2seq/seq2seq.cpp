#include "cajal/models/seq2seq/seq2seq.h"

#include <cmath>
#include <set>

#include "cajal/layers/init.h"

namespace cajal::seq2seq {
namespace {

torch::Tensor xavier(int64_t outputs, int64_t inputs) {
  const double bound = std::sqrt(6.0 / static_cast<double>(outputs + inputs));
  return torch::empty({outputs, inputs}).uniform_(-bound, bound);
}

torch::Tensor sinusoids(int64_t context, int64_t width) {
  const auto position = torch::arange(context, torch::kFloat).unsqueeze(1);
  const auto rate = torch::exp(torch::arange(0, width, 2, torch::kFloat) *
                               (-std::log(1e4) / static_cast<double>(width)));
  return torch::stack({torch::sin(position * rate), torch::cos(position * rate)}, -1).flatten(1);
}

torch::Tensor norm(const torch::Tensor& x, const Norm& n) {
  return torch::layer_norm(x, {x.size(-1)}, n.weight, n.bias);
}

}  // namespace

void DecoderCache::select(const torch::Tensor& order) {
  for (auto* pairs : {&self, &cross})
    for (auto& [k, v] : *pairs) k = k.index_select(0, order), v = v.index_select(0, order);
}

Seq2SeqImpl::Seq2SeqImpl(const Seq2SeqOptions& o) : options(o) {
  require(
      o.vocabulary > 3 && o.width > 0 && o.heads > 0 && o.width % o.heads == 0 && o.width % 2 == 0,
      "seq2seq: expected a vocabulary of more than 3 and a width that {} heads divide, got {} and "
      "{}",
      o.heads, o.vocabulary, o.width);
  require(!o.encoder.empty() && !o.decoder.empty() && o.context > 0,
          "seq2seq: both stacks need at least one layer, and the context a word");
  require(o.dropout >= 0 && o.dropout < 1, "seq2seq: dropout is {}, expected 0 or more, below 1",
          o.dropout);
  bank_ = register_module("bank", FfnBank(o.width, o.neurons, o.shared_neurons, Activation::relu));
  embedding_ = register_parameter(
      "embedding", torch::randn({o.vocabulary, o.width}) / std::sqrt(static_cast<double>(o.width)));
  positions_ = register_buffer("positions", sinusoids(o.context, o.width));
  const auto stack = [&](const FfnPlan& plan, bool decoder, std::vector<Layer>& layers) {
    for (size_t i = 0; i < plan.size(); ++i)
      layers.push_back(o.share_layers && i > 0
                           ? layers[0]
                           : make_layer(fmt::format("{}_{}", decoder ? "decoder" : "encoder", i),
                                        plan[i], decoder));
  };
  stack(o.encoder, false, encoder_), stack(o.decoder, true, decoder_);
  const auto final_norm = [&](const std::string& name) {
    return Norm{register_parameter(name + "_weight", torch::ones({o.width})),
                register_parameter(name + "_bias", torch::zeros({o.width}))};
  };
  encoder_norm_ = final_norm("encoder_norm"), decoder_norm_ = final_norm("decoder_norm");
  const torch::NoGradGuard no_grad;
  for (const auto& child : bank_->named_children()) {
    auto& ffn = dynamic_cast<DenseFeedForwardImpl&>(*child.value());
    const int64_t neurons = ffn.options.neurons;
    ffn.key.copy_(xavier(neurons, o.width)), ffn.value.copy_(xavier(neurons, o.width));
    ffn.bias_key.zero_(), ffn.bias_value.zero_();
    if (o.scale_wide && child.key().starts_with("shared_"))
      ffn.value.mul_(std::sqrt(static_cast<double>(o.neurons) / static_cast<double>(neurons)));
  }
}

Layer Seq2SeqImpl::make_layer(const std::string& name, const std::string& entry, bool decoder) {
  const int64_t d = options.width;
  auto module = register_module(name, std::make_shared<torch::nn::Module>(name));
  const auto make_norm = [&](const std::string& part) {
    return Norm{module->register_parameter(part + "_weight", torch::ones({d})),
                module->register_parameter(part + "_bias", torch::zeros({d}))};
  };
  const auto make_attention = [&](const std::string& part) {
    Attention a;
    for (auto [to, what] : {std::pair{&a.query, "_query"},
                            {&a.key, "_key"},
                            {&a.value, "_value"},
                            {&a.output, "_output"}})
      *to = module->register_parameter(part + what, xavier(d, d));
    for (auto [to, what] : {std::pair{&a.query_bias, "_query_bias"},
                            {&a.key_bias, "_key_bias"},
                            {&a.value_bias, "_value_bias"},
                            {&a.output_bias, "_output_bias"}})
      *to = module->register_parameter(part + what, torch::zeros({d}));
    return a;
  };
  Layer layer;
  layer.self_norm = make_norm("self_norm"), layer.self = make_attention("self");
  if (decoder) layer.cross_norm = make_norm("cross_norm"), layer.cross = make_attention("cross");
  layer.ffn = bank_->find(entry, name);
  if (layer.ffn) layer.ffn_norm = make_norm("ffn_norm");
  return layer;
}

torch::Tensor Seq2SeqImpl::drop(const torch::Tensor& x) const {
  return options.dropout > 0 && is_training() ? torch::dropout(x, options.dropout, true) : x;
}

torch::Tensor Seq2SeqImpl::embed(const torch::Tensor& ids, int64_t first) {
  require(ids.dim() == 2 && ids.numel() > 0, "seq2seq: ids are {}, expected [batch, words]",
          shape_text(ids.sizes()));
  require(first + ids.size(1) <= options.context, "seq2seq: {} words, the context holds {}",
          first + ids.size(1), options.context);
  require(ids.min().item<int64_t>() >= 0 && ids.max().item<int64_t>() < options.vocabulary,
          "seq2seq: ids hold {}, expected 0 to {}", ids.max().item<int64_t>(),
          options.vocabulary - 1);
  const auto x = torch::embedding(embedding_, ids) * std::sqrt(static_cast<double>(options.width));
  return drop(x + positions_.narrow(0, first, ids.size(1)));
}

torch::Tensor Seq2SeqImpl::sub_layer(
    const torch::Tensor& x, const Norm& n,
    const std::function<torch::Tensor(const torch::Tensor&)>& f) const {
  return options.post_norm ? norm(x + drop(f(x)), n) : x + drop(f(norm(x, n)));
}

torch::Tensor Seq2SeqImpl::heads(const torch::Tensor& x, const torch::Tensor& weight,
                                 const torch::Tensor& bias) const {
  return torch::linear(x, weight, bias)
      .view({x.size(0), x.size(1), options.heads, -1})
      .transpose(1, 2);
}

Seq2SeqImpl::KeysValues Seq2SeqImpl::keys_values(const torch::Tensor& x, const Attention& a) const {
  return {heads(x, a.key, a.key_bias), heads(x, a.value, a.value_bias)};
}

torch::Tensor Seq2SeqImpl::attend(const torch::Tensor& x, const Attention& a, const KeysValues& kv,
                                  const torch::Tensor& bias, bool causal) const {
  const auto q = heads(x, a.query, a.query_bias);
  const double scale = 1 / std::sqrt(static_cast<double>(options.width / options.heads));
  const auto y = attention(q, kv.k, kv.v, bias, causal, scale);
  return torch::linear(y.transpose(1, 2).flatten(2), a.output, a.output_bias);
}

Memory Seq2SeqImpl::encode(const torch::Tensor& source) {
  auto x = embed(source, 0);
  const auto bias = torch::zeros(source.sizes(), x.options())
                        .masked_fill(source.eq(0), -INFINITY)
                        .view({source.size(0), 1, 1, -1});
  for (const auto& layer : encoder_) {
    x = sub_layer(x, layer.self_norm, [&](const torch::Tensor& h) {
      return attend(h, layer.self, keys_values(h, layer.self), bias, false);
    });
    if (layer.ffn)
      x = sub_layer(x, layer.ffn_norm,
                    [&](const torch::Tensor& h) { return layer.ffn->forward(h); });
    if (taps) taps->push_back(x.detach());
  }
  return {options.post_norm ? x : norm(x, encoder_norm_), bias};
}

torch::Tensor Seq2SeqImpl::decoder_layer(const Layer& layer, const torch::Tensor& in,
                                         const Memory& memory, DecoderCache* cache,
                                         size_t index) const {
  auto x = sub_layer(in, layer.self_norm, [&](const torch::Tensor& h) {
    auto kv = keys_values(h, layer.self);
    if (!cache) return attend(h, layer.self, kv, {}, true);
    auto& [k, v] = cache->self[index];
    k = k.defined() ? torch::cat({k, kv.k}, 2) : kv.k;
    v = v.defined() ? torch::cat({v, kv.v}, 2) : kv.v;
    return attend(h, layer.self, {k, v}, {}, false);
  });
  x = sub_layer(x, layer.cross_norm, [&](const torch::Tensor& h) {
    if (!cache)
      return attend(h, layer.cross, keys_values(memory.states, layer.cross), memory.bias, false);
    auto& [k, v] = cache->cross[index];
    if (!k.defined()) {
      const auto kv = keys_values(memory.states, layer.cross);
      k = kv.k, v = kv.v;
    }
    return attend(h, layer.cross, {k, v}, memory.bias, false);
  });
  if (!layer.ffn) return x;
  return sub_layer(x, layer.ffn_norm,
                   [&](const torch::Tensor& h) { return layer.ffn->forward(h); });
}

torch::Tensor Seq2SeqImpl::answer(const torch::Tensor& x) const {
  return torch::linear(options.post_norm ? x : norm(x, decoder_norm_), embedding_);
}

torch::Tensor Seq2SeqImpl::decode(const Memory& memory, const torch::Tensor& target) {
  auto x = embed(target, 0);
  for (size_t i = 0; i < decoder_.size(); ++i) {
    x = decoder_layer(decoder_[i], x, memory, nullptr, i);
    if (taps) taps->push_back(x.detach());
  }
  return answer(x);
}

torch::Tensor Seq2SeqImpl::step(const Memory& memory, const torch::Tensor& word,
                                DecoderCache& cache) {
  cache.self.resize(decoder_.size()), cache.cross.resize(decoder_.size());
  auto x = embed(word.unsqueeze(1), cache.words);
  for (size_t i = 0; i < decoder_.size(); ++i) x = decoder_layer(decoder_[i], x, memory, &cache, i);
  ++cache.words;
  return answer(x).squeeze(1);
}

torch::Tensor Seq2SeqImpl::forward(const torch::Tensor& source, const torch::Tensor& target) {
  return decode(encode(source), target);
}

int64_t Seq2SeqImpl::parameter_count() const {
  int64_t sum = 0;
  for (const auto& parameter : parameters()) sum += parameter.numel();
  return sum;
}

int64_t Seq2SeqImpl::ffn_parameters(bool encoder) const {
  int64_t sum = 0;
  std::set<const DenseFeedForwardImpl*> seen;
  for (const auto& layer : encoder ? encoder_ : decoder_)
    if (layer.ffn && seen.insert(layer.ffn.get()).second)
      for (const auto& parameter : layer.ffn->parameters()) sum += parameter.numel();
  return sum;
}

int64_t Seq2SeqImpl::decoder_parameters() const {
  int64_t sum = embedding_.numel() + ffn_parameters(false);
  for (const auto& parameter : named_parameters())
    if (parameter.key().starts_with("decoder")) sum += parameter.value().numel();
  return sum;
}

Seq2SeqOptions planned(Seq2SeqOptions o, std::string_view name) {
  const auto fill = [](FfnPlan& plan, const char* entry) { plan.assign(plan.size(), entry); };
  const auto base = [](const Seq2SeqOptions& options) {
    return Seq2Seq(options)->parameter_count();
  };
  const auto original = o;
  bool wide = false;
  if (name == "shared_enc") {
    fill(o.encoder, "shared:enc");
  } else if (name == "shared_dec") {
    fill(o.decoder, "shared:dec");
  } else if (name == "shared_enc_shared_dec") {
    fill(o.encoder, "shared:enc"), fill(o.decoder, "shared:dec");
  } else if (name == "shared_enc_dec") {
    fill(o.encoder, "shared:all"), fill(o.decoder, "shared:all");
  } else if (name == "no_enc") {
    fill(o.encoder, "none");
  } else if (name == "no_dec") {
    fill(o.decoder, "none");
  } else if (name == "shared_enc_no_dec" || name == "one_wide") {
    fill(o.encoder, "shared:enc"), fill(o.decoder, "none");
    wide = name == "one_wide";
  } else if (name == "wide_dec") {
    fill(o.encoder, "none"), fill(o.decoder, "shared:dec");
    wide = true;
  } else if (name == "wide_enc_dec") {
    fill(o.encoder, "shared:all"), fill(o.decoder, "shared:all");
    wide = true;
  } else if (name == "small_ff") {
    const auto networks = static_cast<int64_t>(o.encoder.size() + o.decoder.size());
    const auto saved = base(o) - base(planned(o, "shared_enc_no_dec"));
    o.neurons -= std::llround(static_cast<double>(saved) /
                              static_cast<double>(networks * (2 * o.width + 1)));
  } else if (name == "deep_shallow") {
    // With neurons = 4 width a layer of the encoder costs 12 width², of the decoder 16.
    const auto cost = 12 * std::ssize(o.encoder) + 16 * std::ssize(o.decoder);
    o.decoder = {"own"};
    o.encoder.assign(static_cast<size_t>((cost - 16 + 6) / 12), "own");
  } else if (name == "shared_layers") {
    o.share_layers = true;
  } else {
    require(name == "baseline", "plan '{}' is not known", name);
  }
  if (!wide) return o;
  // What the model has beside its one network, counted with a network of one neuron.
  o.shared_neurons = 1;
  const int64_t without = base(o) - (2 * o.width + 1) - o.width;
  o.shared_neurons = wide_neurons(base(original), without, o.width);
  return o;
}

}  // namespace cajal::seq2seq
