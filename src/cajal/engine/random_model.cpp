#include "cajal/engine/random_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/engine/names.h"
#include "cajal/kernels/memory.h"

namespace cajal::lm {
namespace {

// Encoding is slow beside copying: so many different rows take turns.
constexpr int64_t kDifferentRows = 61;

class Maker {
 public:
  Maker(Checkpoint& to, Format format, uint64_t seed)
      : to_(to), c_(to.config), format_(format), random_(seed), map_(name_maps(c_.family)[0]) {}

  StoredTensors run() {
    matrix("embedding.tokens", c_.vocabulary, c_.embedding_width);
    if (c_.positions == Positions::learned)
      matrix("embedding.positions", c_.context + c_.position_offset, c_.width);
    for (int64_t i = 0; i < c_.layers; ++i) block(fmt::format("blocks.{}.", i));
    norm("output.norm", c_.width);
    if (!c_.tied) matrix("output.vocabulary", c_.vocabulary, c_.embedding_width);
    return std::move(out_);
  }

 private:
  void block(const std::string& at) {
    const int64_t queries = c_.heads * c_.head_width, keys = c_.kv_heads * c_.head_width;
    norm(at + "norm1", c_.width);
    linear(at + "attention.query", queries, c_.width, c_.query_bias);
    linear(at + "attention.key", keys, c_.width, c_.query_bias);
    linear(at + "attention.value", keys, c_.width, c_.query_bias);
    linear(at + "attention.output", c_.width, queries, c_.output_bias);
    norm(at + "norm2", c_.width);
    if (c_.gated) linear(at + "ffn.gate", c_.neurons, c_.width, c_.ffn_bias);
    linear(at + "ffn.key", c_.neurons, c_.width, c_.ffn_bias);
    linear(at + "ffn.value", c_.width, c_.neurons, c_.ffn_bias);
  }

  std::string name(const std::string& ours) const {
    return stored_name(map_, map_.prefixes[0], ours);
  }

  void add(const std::string& ours, Dtype dtype, std::vector<int64_t> shape, WeightMemory memory) {
    StoredTensor tensor;
    tensor.dtype = dtype;
    tensor.shape = std::move(shape);
    tensor.bytes = {memory.data(), tensor_bytes(dtype, tensor.shape, ours)};
    out_.tensors.emplace(name(ours), std::move(tensor));
    to_.memory.push_back(std::move(memory));
  }

  void vector(const std::string& ours, int64_t size, float value) {
    WeightMemory memory(static_cast<size_t>(size) * 4);
    std::fill_n(reinterpret_cast<float*>(memory.data()), size, value);
    add(ours, Dtype::f32, {size}, std::move(memory));
  }

  void norm(const std::string& ours, int64_t size) {
    vector(ours + ".weight", size, c_.norm == NormKind::rms_one_plus ? 0.0f : 1.0f);
    if (c_.norm == NormKind::layer) vector(ours + ".bias", size, 0);
  }

  void linear(const std::string& ours, int64_t outputs, int64_t inputs, bool bias) {
    matrix(ours, outputs, inputs);
    if (bias) vector(ours + ".bias", outputs, 0);
  }

  void matrix(const std::string& ours, int64_t outputs, int64_t inputs) {
    require_row(format_, inputs, ours);
    const int64_t stride = row_bytes(format_, inputs);
    const float scale = 1 / std::sqrt(static_cast<float>(inputs));
    std::vector<float> values(static_cast<size_t>(inputs));
    WeightMemory memory(static_cast<size_t>(outputs * stride));
    for (int64_t row = 0; row < outputs; ++row) {
      auto* const at = memory.data() + row * stride;
      if (row >= kDifferentRows) {
        std::memcpy(at, at - kDifferentRows * stride, static_cast<size_t>(stride));
        continue;
      }
      for (float& value : values) value = scale * static_cast<float>(random_.normal());
      encode_row(format_, values.data(), inputs, at);
    }
    const auto dtype = format_ == Format::f32    ? Dtype::f32
                       : format_ == Format::f16  ? Dtype::f16
                       : format_ == Format::bf16 ? Dtype::bf16
                                                 : Dtype::u8;
    if (dtype == Dtype::u8) to_.layout.tensors[name(ours + ".weight")] = format_;
    add(ours + ".weight", dtype, {outputs, dtype == Dtype::u8 ? stride : inputs},
        std::move(memory));
  }

  Checkpoint& to_;
  const Config& c_;
  const Format format_;
  Random random_;
  const NameMap& map_;
  StoredTensors out_;
};

}  // namespace

Checkpoint random_model(const Json& config, Format format, uint64_t seed) {
  Checkpoint out;
  out.path = "random weights";
  out.config = config_from_json(config, "shape");
  require(!has_part(name_maps(out.config.family)[0], "blocks.*.attention.fused"),
          "random weights: models of the family {} are not made", to_name(out.config.family));
  auto tensors = Maker(out, format, seed).run();
  out.file = std::make_shared<const TensorFile>(TensorFile::adopt(nullptr, std::move(tensors)));
  return out;
}

Json shape_config(const std::string& name) {
  const auto llama = [](int64_t width, int64_t neurons, int64_t layers, int64_t heads,
                        int64_t kv_heads, int64_t vocabulary, int64_t context) {
    return Json{{"model_type", "llama"},        {"hidden_size", width},
                {"intermediate_size", neurons}, {"num_hidden_layers", layers},
                {"num_attention_heads", heads}, {"num_key_value_heads", kv_heads},
                {"vocab_size", vocabulary},     {"max_position_embeddings", context},
                {"rope_theta", 500000.0},       {"rms_norm_eps", 1e-5},
                {"tie_word_embeddings", true}};
  };
  if (name == "1B") return llama(2048, 8192, 16, 32, 8, 128256, 131072);
  if (name == "tiny") return llama(256, 512, 2, 4, 2, 512, 128);
  if (name == "100M")
    return {{"model_type", "opt"},
            {"hidden_size", 768},
            {"ffn_dim", 3072},
            {"num_hidden_layers", 12},
            {"num_attention_heads", 12},
            {"vocab_size", 8192},
            {"max_position_embeddings", 2048},
            {"tie_word_embeddings", true}};
  fail("--shape '{}' is not one of 1B, 100M, tiny", name);
}

}  // namespace cajal::lm
