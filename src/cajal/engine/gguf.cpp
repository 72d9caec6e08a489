// A GGUF file seen as a Hugging Face checkpoint.
#include "cajal/core/gguf.h"

#include <cmath>
#include <cstring>
#include <set>

#include "cajal/core/error.h"
#include "cajal/engine/checkpoint.h"
#include "cajal/engine/gguf_names.h"
#include "cajal/text/gguf_tokenizer.h"

namespace cajal::lm {
namespace {

constexpr int64_t kMostBlocks = 4096;

/// The settings of one architecture, "llama.block_count" asked for as "block_count".
class Settings {
 public:
  Settings(const Gguf& gguf, std::string architecture)
      : gguf_(gguf), architecture_(std::move(architecture)) {}

  std::string key(std::string_view name) const { return fmt::format("{}.{}", architecture_, name); }
  bool has(std::string_view name) const { return gguf_.has(key(name)); }

  /// A size in [1, limit]. One that is given for each layer must be the same for all.
  int64_t size(std::string_view name, std::optional<int64_t> otherwise = {},
               int64_t limit = int64_t{1} << 24) const {
    auto value = otherwise;
    if (gguf_.is_array(key(name))) {
      const auto each = gguf_.integers(key(name));
      for (const auto one : each)
        require(one == each[0], "{}: {} differs from layer to layer, which is not supported",
                gguf_.where(), key(name));
      if (!each.empty()) value = each[0];
    } else if (has(name)) {
      value = gguf_.integer(key(name));
    }
    require(value.has_value(), "{}: {} is missing", gguf_.where(), key(name));
    require(*value >= 1 && *value <= limit, "{}: {} is {}, expected 1 to {}", gguf_.where(),
            key(name), *value, limit);
    return *value;
  }
  double positive(std::string_view name, std::optional<double> otherwise = {}) const {
    const auto given = gguf_.number(key(name));
    const auto value = given ? given : otherwise;
    require(value.has_value(), "{}: {} is missing", gguf_.where(), key(name));
    require(*value > 0, "{}: {} is {}, expected more than 0", gguf_.where(), key(name), *value);
    return *value;
  }
  std::optional<double> number(std::string_view name) const { return gguf_.number(key(name)); }
  std::optional<bool> flag(std::string_view name) const { return gguf_.flag(key(name)); }
  std::optional<std::string_view> text(std::string_view name) const {
    return gguf_.text(key(name));
  }

 private:
  const Gguf& gguf_;
  std::string architecture_;
};

Json floats_of(const Gguf& gguf, const GgufTensor& tensor, const char* name) {
  require(tensor.type->name == "F32" && tensor.shape.size() == 1, "{}: tensor '{}' is not F32 [n]",
          gguf.where(), name);
  Json values = Json::array();
  for (int64_t i = 0; i < tensor.shape[0]; ++i) {
    float value;
    std::memcpy(&value, tensor.bytes.data() + i * 4, sizeof value);
    require(std::isfinite(value) && value > 0, "{}: tensor '{}' holds {}, expected values above 0",
            gguf.where(), name, value);
    values.push_back(value);
  }
  return values;
}

/// The key `rope_scaling` of config.json, or null.
Json rope_scaling(const Gguf& gguf, const Settings& s, int64_t context) {
  // A factor for every pair: LongRoPE with one set of them for short and long texts.
  if (const auto* one = gguf.find_tensor("rope_freqs.weight")) {
    const Json factors = floats_of(gguf, *one, "rope_freqs.weight");
    return {{"rope_type", "longrope"},
            {"short_factor", factors},
            {"long_factor", factors},
            {"attention_factor", 1.0},
            {"original_max_position_embeddings", context}};
  }
  const auto* near = gguf.find_tensor("rope_factors_short.weight");
  const auto* far = gguf.find_tensor("rope_factors_long.weight");
  if (near && far) {
    Json scaling = {{"rope_type", "longrope"},
                    {"short_factor", floats_of(gguf, *near, "rope_factors_short.weight")},
                    {"long_factor", floats_of(gguf, *far, "rope_factors_long.weight")},
                    {"original_max_position_embeddings",
                     s.size("rope.scaling.original_context_length", context)}};
    if (const auto factor = s.number("rope.scaling.attn_factor"))
      scaling["attention_factor"] = *factor;
    return scaling;
  }
  const auto type = s.text("rope.scaling.type")
                        .value_or(s.has("rope.scale_linear") ? std::string_view("linear")
                                                             : std::string_view("none"));
  const double factor =
      s.number("rope.scaling.factor").value_or(s.number("rope.scale_linear").value_or(1));
  if (type == "none" || factor == 0 || (type == "linear" && factor == 1)) return nullptr;
  require(type == "linear" || type == "yarn", "{}: {} is '{}', expected none, linear or yarn",
          gguf.where(), s.key("rope.scaling.type"), type);
  Json scaling = {{"rope_type", std::string(type)}, {"factor", factor}};
  if (type == "yarn")
    scaling["original_max_position_embeddings"] =
        s.size("rope.scaling.original_context_length", context);
  return scaling;
}

// What all architectures with rotary positions and RMS norms say alike.
Json llama_json(const Gguf& gguf, const Settings& s) {
  const int64_t width = s.size("embedding_length"), heads = s.size("attention.head_count");
  const int64_t context = s.size("context_length", {}, int64_t{1} << 30);
  int64_t head = s.has("attention.key_length") ? s.size("attention.key_length") : 0;
  if (head == 0) {
    require(width % heads == 0, "{}: {} of {} do not divide a width of {}", gguf.where(),
            s.key("attention.head_count"), heads, width);
    head = width / heads;
  }
  require(s.size("attention.value_length", head) == head,
          "{}: {} is {}, expected {} as the keys have", gguf.where(),
          s.key("attention.value_length"), s.size("attention.value_length", head), head);
  const int64_t turned = s.size("rope.dimension_count", head);
  require(turned <= head && turned % 2 == 0, "{}: {} is {}, expected an even number up to {}",
          gguf.where(), s.key("rope.dimension_count"), turned, head);
  require(!s.has("expert_count") || gguf.integer(s.key("expert_count")) == 0,
          "{}: {} is {}: mixtures of experts are not supported", gguf.where(),
          s.key("expert_count"), gguf.integer(s.key("expert_count")).value_or(0));
  Json json = {{"hidden_size", width},
               {"num_hidden_layers", s.size("block_count", {}, kMostBlocks)},
               {"num_attention_heads", heads},
               {"num_key_value_heads", s.size("attention.head_count_kv", heads)},
               {"head_dim", head},
               {"intermediate_size", s.size("feed_forward_length")},
               {"max_position_embeddings", context},
               {"rms_norm_eps", s.positive("attention.layer_norm_rms_epsilon")},
               {"rope_theta", s.positive("rope.freq_base", 10000)},
               {"hidden_act", "silu"}};
  if (turned != head)
    json["partial_rotary_factor"] = static_cast<double>(turned) / static_cast<double>(head);
  if (auto scaling = rope_scaling(gguf, s, context); !scaling.is_null())
    json["rope_scaling"] = std::move(scaling);
  return json;
}

void add_gemma(const Settings& s, int version, Json& json) {
  const int64_t layers = json["num_hidden_layers"], head = json["head_dim"];
  json.erase("hidden_act");
  json["hidden_activation"] = "gelu_pytorch_tanh";
  if (version == 1) return;
  // The largest of each version scales scores by the width a head would have by its share.
  const bool largest = version == 2 ? layers == 46 : layers == 62;
  json["query_pre_attn_scalar"] =
      largest ? json["hidden_size"].get<int64_t>() / json["num_attention_heads"].get<int64_t>()
              : head;
  json["sliding_window"] = s.size("attention.sliding_window", version == 2 ? 4096 : 1024);
  if (version == 2) {
    json["attn_logit_softcapping"] = s.positive("attn_logit_softcapping", 50);
    json["final_logit_softcapping"] = s.positive("final_logit_softcapping", 30);
  } else {
    json["attn_logit_softcapping"] = nullptr;
    json["final_logit_softcapping"] = nullptr;
    json["rope_local_base_freq"] = 10000.0;
  }
}

Json gpt2_json(const Settings& s) {
  return {{"n_embd", s.size("embedding_length")},
          {"n_layer", s.size("block_count", {}, kMostBlocks)},
          {"n_head", s.size("attention.head_count")},
          {"n_inner", s.size("feed_forward_length")},
          {"n_positions", s.size("context_length")},
          {"activation_function", "gelu_new"},
          {"layer_norm_epsilon", s.positive("attention.layer_norm_epsilon")}};
}

Json gpt_neox_json(const Gguf& gguf, const Settings& s) {
  const int64_t width = s.size("embedding_length"), heads = s.size("attention.head_count");
  require(width % heads == 0, "{}: {} of {} do not divide a width of {}", gguf.where(),
          s.key("attention.head_count"), heads, width);
  const int64_t head = width / heads, turned = s.size("rope.dimension_count", head);
  return {{"hidden_size", width},
          {"num_hidden_layers", s.size("block_count", {}, kMostBlocks)},
          {"num_attention_heads", heads},
          {"intermediate_size", s.size("feed_forward_length")},
          {"max_position_embeddings", s.size("context_length")},
          {"layer_norm_eps", s.positive("attention.layer_norm_epsilon")},
          {"rotary_pct", static_cast<double>(turned) / static_cast<double>(head)},
          {"rotary_emb_base", s.positive("rope.freq_base", 10000)},
          {"use_parallel_residual", s.flag("use_parallel_residual").value_or(true)},
          {"hidden_act", "gelu"}};
}

/// The config.json that the file's settings amount to.
Json config_json(const Gguf& gguf) {
  const auto architecture = gguf.text("general.architecture");
  require(architecture.has_value(), "{}: general.architecture is missing", gguf.where());
  const Settings s(gguf, std::string(*architecture));
  const auto& family = gguf_family(*architecture, gguf.where() + ": general.architecture");
  const auto holds = [&](const char* name) { return gguf.find_tensor(name) != nullptr; };
  Json json;
  switch (family.family) {
    case Family::gpt2:
      json = gpt2_json(s);
      break;
    case Family::gpt_neox:
      json = gpt_neox_json(gguf, s);
      break;
    default:
      json = llama_json(gguf, s);
  }
  auto type = to_name(family.family);
  if (family.family == Family::llama) {
    const bool query = holds("blk.0.attn_q.bias"), output = holds("blk.0.attn_output.bias");
    json["attention_bias"] = query;
    json["mlp_bias"] = holds("blk.0.ffn_up.bias");
    if (query && !output) type = "qwen2";  // the same network with biases on q, k and v alone
  }
  if (family.family == Family::llama && type == "llama" && s.has("attention.sliding_window")) {
    type = "mistral";
    json["sliding_window"] = s.size("attention.sliding_window", {}, int64_t{1} << 40);
  }
  if (family.family == Family::gemma) add_gemma(s, 1, json);
  if (family.family == Family::gemma2) add_gemma(s, 2, json);
  if (family.family == Family::gemma3) add_gemma(s, 3, json);
  if (family.family == Family::phi3 && s.has("attention.sliding_window") &&
      gguf.integer(s.key("attention.sliding_window")) != 0)
    json["sliding_window"] = s.size("attention.sliding_window", {}, int64_t{1} << 40);
  const auto* words = gguf.find_tensor("token_embd.weight");
  require(words && words->shape.size() == 2,
          "{}: tensor 'token_embd.weight' is missing or no matrix", gguf.where());
  json["vocab_size"] = words->shape[0];
  json["tie_word_embeddings"] = !holds("output.weight");
  json["model_type"] = type;
  const auto ids = text::gguf_special_ids(gguf);
  if (ids.bos >= 0) json["bos_token_id"] = ids.bos;
  if (ids.stops.size() == 1) json["eos_token_id"] = ids.stops[0];
  if (ids.stops.size() > 1) json["eos_token_id"] = ids.stops;
  return json;
}

Dtype dtype_of(const GgufType& type) {
  if (type.name == "F32") return Dtype::f32;
  if (type.name == "F16") return Dtype::f16;
  return type.name == "BF16" ? Dtype::bf16 : Dtype::u8;
}

StoredTensor stored(const GgufTensor& tensor, const Gguf& gguf) {
  StoredTensor out;
  out.dtype = dtype_of(*tensor.type);
  out.shape = tensor.shape;
  if (out.dtype == Dtype::u8)
    out.shape.back() = out.shape.back() / tensor.type->values * tensor.type->bytes;
  out.bytes = tensor.bytes;
  out.file = gguf.file().get();
  return out;
}

using Bytes = std::vector<std::byte>;

/// The rows of a tensor (values of a vector) in another order: row i of the result is row order(i).
template <class Order>
std::shared_ptr<const Bytes> reordered(const StoredTensor& tensor, const Order& order) {
  auto copy = std::make_shared<Bytes>(tensor.bytes.size());
  const auto rows = static_cast<size_t>(tensor.shape[0]);
  const size_t stride = tensor.bytes.size() / rows;
  for (size_t row = 0; row < rows; ++row)
    std::memcpy(copy->data() + row * stride, tensor.bytes.data() + order(row) * stride, stride);
  if (tensor.file) tensor.file->forget(tensor.bytes);
  return copy;
}

/// Gemma's files hold 1 + w where Hugging Face's hold w.
std::shared_ptr<const Bytes> less_one(const StoredTensor& tensor, const std::string& where) {
  require(tensor.dtype == Dtype::f32, "{} is {}, expected F32", where, dtype_name(tensor.dtype));
  auto copy = std::make_shared<Bytes>(tensor.bytes.begin(), tensor.bytes.end());
  for (size_t at = 0; at < copy->size(); at += 4) {
    float value;
    std::memcpy(&value, copy->data() + at, 4);
    value -= 1;
    std::memcpy(copy->data() + at, &value, 4);
  }
  return copy;
}

/// The checkpoint's tensors as they come out of the file's, one after the other.
class Importer {
 public:
  Importer(const Gguf& gguf, const Config& config, PackedLayout& layout)
      : gguf_(gguf), c_(config), layout_(layout), map_(gguf_naming(config.family)) {}

  StoredTensors run() {
    for (const auto& [name, tensor] : gguf_.tensors()) add(name, tensor);
    return std::move(out_);
  }

 private:
  void add(const std::string& name, const GgufTensor& tensor) {
    if (name.starts_with("rope_f") && name.ends_with(".weight")) return;  // read with the settings
    const auto where = fmt::format("{}: tensor '{}'", gguf_.where(), name);
    const auto ours = gguf_our_name(c_.family, name);
    require(!ours.empty(), "{} has no place in a {} model", where, to_name(c_.family));
    const auto theirs = map_.of(ours);
    auto value = stored(tensor, gguf_);
    const auto heads = ours.find(".attention.query.") != ours.npos ? c_.heads
                       : ours.find(".attention.key.") != ours.npos ? c_.kv_heads
                                                                   : 0;
    if (heads > 0 && gguf_takes_pairs_apart(gguf_)) keep(value, pairs_apart(value, heads, where));
    if (c_.family == Family::gpt_neox && ours.find(".attention.fused.") != ours.npos)
      keep(value, by_head(value, where));
    if (c_.norm == NormKind::rms_one_plus && ours.find("norm") != ours.npos)
      keep(value, less_one(value, where));
    if (value.dtype == Dtype::u8) {
      require(tensor.shape.size() == 2, "{} is {} and no matrix", where, tensor.type->name);
      layout_.tensors[theirs] = gguf_format(*tensor.type, where);
    }
    require(out_.tensors.emplace(theirs, std::move(value)).second, "{} has the place of another",
            where);
  }

  void keep(StoredTensor& tensor, std::shared_ptr<const Bytes> bytes) {
    tensor.bytes = *bytes;
    tensor.file = nullptr;
    out_.copies.push_back(std::move(bytes));
  }

  // Rows 2 i and 2 i + 1 of a head become rows i and i + half.
  std::shared_ptr<const Bytes> pairs_apart(const StoredTensor& tensor, int64_t heads,
                                           const std::string& where) const {
    const auto d = static_cast<size_t>(c_.head_width), half = d / 2;
    require(tensor.shape[0] == heads * c_.head_width && d % 2 == 0,
            "{} has {} rows, expected {} heads of {}", where, tensor.shape[0], heads,
            c_.head_width);
    return reordered(tensor, [=](size_t row) {
      const size_t head = row / d, i = row % d;
      return head * d + (i < half ? 2 * i : 2 * (i - half) + 1);
    });
  }

  // All queries, all keys, all values become queries, keys and values of one head after another.
  std::shared_ptr<const Bytes> by_head(const StoredTensor& tensor, const std::string& where) const {
    const auto d = static_cast<size_t>(c_.head_width), heads = static_cast<size_t>(c_.heads);
    require(tensor.shape[0] == 3 * c_.heads * c_.head_width,
            "{} has {} rows, expected 3 x {} heads of {}", where, tensor.shape[0], heads, d);
    return reordered(tensor, [=](size_t row) {
      const size_t head = row / (3 * d), part = row / d % 3;
      return (part * heads + head) * d + row % d;
    });
  }

  const Gguf& gguf_;
  const Config& c_;
  PackedLayout& layout_;
  const Naming map_;
  StoredTensors out_;
};

}  // namespace

Checkpoint open_gguf(const std::filesystem::path& path) {
  const auto gguf = Gguf::open(path);
  require(gguf.integer("split.count").value_or(1) <= 1,
          "{}: split.count is {}: a model in several files is not supported", path.string(),
          gguf.integer("split.count").value_or(1));
  Checkpoint out;
  out.path = path;
  out.config = config_from_json(config_json(gguf), path.string());
  auto found = Importer(gguf, out.config, out.layout).run();
  out.config.source["cajal"] = packed_layout_to_json(out.layout);
  if (out.layout.empty()) out.config.source.erase("cajal");
  out.file = std::make_shared<const TensorFile>(TensorFile::adopt(gguf.file(), std::move(found)));
  return out;
}

}  // namespace cajal::lm
