#include "cajal/engine/gguf_export.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "cajal/core/error.h"
#include "cajal/core/gguf.h"
#include "cajal/core/threads.h"
#include "cajal/engine/gguf_names.h"
#include "cajal/text/gguf_tokenizer.h"

namespace cajal::lm {
namespace {

using Metadata = std::vector<std::pair<std::string, GgufSetting>>;
using Bytes = std::vector<std::byte>;
using Floats = std::vector<float>;

uint32_t size32(int64_t value) { return static_cast<uint32_t>(value); }

/// What a pair's frequency is divided by against base^(-2i / width); empty where that is 1.
Floats frequency_factors(const Rope& rope) {
  Floats factors;
  bool plain = true;
  for (size_t i = 0; i < rope.inverse_frequency.size(); ++i) {
    const float power = std::pow(static_cast<float>(rope.base),
                                 static_cast<float>(2 * i) / static_cast<float>(rope.width));
    factors.push_back(static_cast<float>(1 / power / rope.inverse_frequency[i]));
    plain = plain && std::fabs(factors.back() - 1) < 1e-6f;
  }
  return plain ? Floats() : factors;
}

/// What rows that do not fill the blocks of a format are kept in, as llama.cpp has it.
Format format_for(Format wanted, int64_t width) {
  if (width % block_values(wanted) == 0) return wanted;
  if (width % 32 != 0) return Format::f16;
  switch (wanted) {
    case Format::q4_K:
      return Format::q5_0;
    case Format::q5_K:
      return Format::q5_1;
    default:
      return Format::q8_0;
  }
}

/// One checkpoint on its way into a GGUF file.
class Exporter {
 public:
  Exporter(const Checkpoint& checkpoint, Format format, const std::filesystem::path& output)
      : from_(checkpoint),
        c_(checkpoint.config),
        format_(format),
        output_(output),
        naming_(find_naming(c_, *checkpoint.file)),
        architecture_(gguf_architecture(c_.family, checkpoint.path.string())) {
    const auto refuse = [&](bool condition, const char* what) {
      require(!condition, "{}: {} cannot be written as GGUF", checkpoint.path.string(), what);
    };
    refuse(c_.head != Head::language, "a model without a language head");
    refuse(!checkpoint.layout.split.empty(), "a split model");
    refuse(!checkpoint.layout.shared_ffn.empty(), "a model with shared FFNs");
    refuse(checkpoint.layout.experts.has_value(), "a model with experts");
    refuse(c_.scale_by_inverse_layer, "scale_attn_by_inverse_layer_idx");
    refuse(!c_.rope.long_inverse_frequency.empty() &&
               c_.rope.long_inverse_frequency != c_.rope.inverse_frequency,
           "longrope");
    refuse(c_.rope.attention_factor != 1, "an attention factor of its rotation");
    windowed_ = std::any_of(c_.window.begin(), c_.window.end(), [](int64_t w) { return w > 0; });
    refuse(windowed_ && (c_.family == Family::qwen2 || c_.family == Family::qwen3),
           "a sliding window of this family");
    if (c_.family == Family::gemma2 || c_.family == Family::gemma3)
      refuse(!as_gguf_has_gemma(),
             "a query_pre_attn_scalar, sliding_window_pattern or rope_local_base_freq of its own");
  }

  void run() {
    auto settings = describe();
    for (auto& setting : text::settings_of_tokenizer(from_.path))
      settings.push_back(std::move(setting));
    collect();
    write_gguf(output_, settings, tensors_);
  }

 private:
  // What Gemma's files leave to the architecture: see add_gemma of the reader.
  bool as_gguf_has_gemma() const {
    const bool second = c_.family == Family::gemma2;
    const bool largest = c_.layers == (second ? 46 : 62);
    const auto scalar = static_cast<double>(largest ? c_.width / c_.heads : c_.head_width);
    for (int64_t layer = 0; layer < c_.layers; ++layer)
      if ((c_.window[static_cast<size_t>(layer)] > 0) != ((layer + 1) % (second ? 2 : 6) != 0))
        return false;
    return std::fabs(c_.score_scale - 1 / std::sqrt(scalar)) < 1e-6 &&
           (second || c_.local_rope.base == 10000);
  }

  Metadata describe() const {
    Metadata out;
    const auto put = [&](const char* name, GgufSetting value) {
      out.emplace_back(fmt::format("{}.{}", architecture_, name), std::move(value));
    };
    auto name = from_.path.has_filename() ? from_.path : from_.path.parent_path();
    out.emplace_back("general.architecture", std::string(architecture_));
    out.emplace_back("general.type", std::string("model"));
    out.emplace_back("general.name", name.stem().string());
    put("block_count", size32(c_.layers));
    put("context_length", size32(c_.context));
    put("embedding_length", size32(c_.width));
    put("feed_forward_length", size32(c_.neurons));
    put("attention.head_count", size32(c_.heads));
    put("vocab_size", size32(c_.vocabulary));
    put(c_.norm == NormKind::layer ? "attention.layer_norm_epsilon"
                                   : "attention.layer_norm_rms_epsilon",
        static_cast<float>(c_.epsilon));
    if (c_.positions != Positions::rotary) return out;
    put("rope.dimension_count", size32(c_.rope.width));
    put("rope.freq_base", static_cast<float>(c_.rope.base));
    if (c_.family == Family::gpt_neox) {
      put("use_parallel_residual", c_.parallel_residual);
      return out;
    }
    put("attention.head_count_kv", size32(c_.kv_heads));
    put("attention.key_length", size32(c_.head_width));
    put("attention.value_length", size32(c_.head_width));
    if (windowed_)
      put("attention.sliding_window",
          size32(*std::max_element(c_.window.begin(), c_.window.end())));
    if (c_.score_cap > 0) put("attn_logit_softcapping", static_cast<float>(c_.score_cap));
    if (c_.logit_cap > 0) put("final_logit_softcapping", static_cast<float>(c_.logit_cap));
    return out;
  }

  // Our names in the order in which they are written; a file has some of them.
  std::vector<std::string> names() const {
    std::vector<std::string> modules = {"embedding.tokens", "embedding.positions"};
    for (int64_t layer = 0; layer < c_.layers; ++layer)
      for (const char* part :
           {"norm1", "attention.query", "attention.key", "attention.value", "attention.fused",
            "attention.query_norm", "attention.key_norm", "attention.output", "norm1_after",
            "norm2", "ffn.gate", "ffn.key", "ffn.gate_key", "ffn.value", "norm2_after"})
        modules.push_back(fmt::format("blocks.{}.{}", layer, part));
    modules.insert(modules.end(), {"output.norm", "output.vocabulary"});
    std::vector<std::string> all;
    for (const auto& module : modules)
      for (const char* ending : {".weight", ".bias"}) all.push_back(module + ending);
    return all;
  }

  void collect() {
    std::set<std::string, std::less<>> used;
    for (const auto& ours : names()) {
      const auto theirs = naming_.of(ours);
      const auto stored = from_.file->tensors().find(theirs);
      if (stored == from_.file->tensors().end()) continue;
      const auto name = gguf_name(c_.family, ours);
      require(!name.empty(), "{}: tensor '{}' has no place in a GGUF file", from_.path.string(),
              theirs);
      used.insert(theirs);
      add(name, ours, theirs, stored->second);
    }
    for (const auto& [theirs, stored] : from_.file->tensors())
      require(used.count(theirs) || is_ignorable(theirs, c_),
              "{}: tensor '{}' has no place in a GGUF file", from_.path.string(), theirs);
    if (const auto factors = frequency_factors(c_.rope); !factors.empty()) {
      const auto bytes = std::as_bytes(std::span(factors));
      tensors_.push_back({"rope_freqs.weight",
                          &gguf_type_of(Format::f32),
                          {static_cast<int64_t>(factors.size())},
                          [copy = Bytes(bytes.begin(), bytes.end())] { return copy; }});
    }
  }

  Format source_format(const std::string& theirs, const StoredTensor& stored) const {
    if (const auto it = from_.layout.tensors.find(theirs); it != from_.layout.tensors.end())
      return it->second;
    const auto dtype = stored.dtype;
    require(dtype == Dtype::f32 || dtype == Dtype::f16 || dtype == Dtype::bf16,
            "{}: tensor '{}' is {}, expected F32, F16 or BF16", from_.path.string(), theirs,
            dtype_name(dtype));
    return dtype == Dtype::f32 ? Format::f32 : dtype == Dtype::f16 ? Format::f16 : Format::bf16;
  }

  void add(const std::string& name, const std::string& ours, const std::string& theirs,
           const StoredTensor& stored) {
    const auto source = source_format(theirs, stored);
    auto shape = stored.shape;
    require(shape.size() <= 2 && !shape.empty() && stored.bytes.size() > 0,
            "{}: tensor '{}' is {}, expected one or two axes", from_.path.string(), theirs, shape);
    if (is_quantised(source))
      shape.back() = shape.back() / block_bytes(source) * block_values(source);
    const bool matrix = shape.size() == 2;
    const bool turned = matrix && naming_.map->conv1d && ours.starts_with("blocks.");
    if (turned) std::swap(shape[0], shape[1]);
    const auto format = matrix && !ours.starts_with("embedding.positions")
                            ? format_for(format_, shape.back())
                            : Format::f32;
    tensors_.push_back({name, &gguf_type_of(format), shape, [=, this, &stored] {
                          return encoded(ours, stored, source, shape, turned, format);
                        }});
  }

  // Which row of the source is row `row` of the file.
  int64_t source_row(const std::string& ours, int64_t row) const {
    const int64_t d = c_.head_width;
    const bool paired = architecture_ == "llama" && (ours.find(".attention.query.") != ours.npos ||
                                                     ours.find(".attention.key.") != ours.npos);
    if (paired) return row / d * d + row % d / 2 + (row % 2) * (d / 2);
    if (c_.family == Family::gpt_neox && ours.find(".attention.fused.") != ours.npos)
      return (row / d % c_.heads * 3 + row / d / c_.heads) * d + row % d;
    return row;
  }

  Bytes encoded(const std::string& ours, const StoredTensor& stored, Format source,
                const std::vector<int64_t>& shape, bool turned, Format format) const {
    const int64_t width = shape.size() == 2 ? shape[1] : 1;
    const int64_t rows = shape[0], stride = row_bytes(format, width);
    const auto* from = reinterpret_cast<const uint8_t*>(stored.bytes.data());
    const bool one_more = c_.norm == NormKind::rms_one_plus && ours.find("norm") != ours.npos;
    const int64_t value_bytes = block_bytes(source);
    Bytes out(static_cast<size_t>(rows * stride));
    ThreadPool threads;
    threads.parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
      Floats values(static_cast<size_t>(width));
      for (int64_t row = begin; row < end; ++row) {
        const int64_t at = source_row(ours, row);
        auto* to = out.data() + row * stride;
        if (turned) {
          for (int64_t i = 0; i < width; ++i)
            decode_row(source, from + (i * rows + at) * value_bytes, 1,
                       &values[static_cast<size_t>(i)]);
        } else if (source == format && !one_more) {
          std::copy_n(from + at * stride, stride, reinterpret_cast<uint8_t*>(to));
          continue;
        } else {
          decode_row(source, from + at * row_bytes(source, width), width, values.data());
        }
        if (one_more) values[0] += 1;
        encode_row(format, values.data(), width, to);
      }
    });
    if (stored.file) stored.file->forget(stored.bytes);
    return out;
  }

  const Checkpoint& from_;
  const Config& c_;
  const Format format_;
  const std::filesystem::path output_;
  const Naming naming_;
  const std::string architecture_;
  bool windowed_ = false;
  std::vector<GgufTensorToWrite> tensors_;
};

}  // namespace

void write_gguf_model(const Checkpoint& checkpoint, Format format,
                      const std::filesystem::path& output) {
  Exporter(checkpoint, format, output).run();
}

}  // namespace cajal::lm
