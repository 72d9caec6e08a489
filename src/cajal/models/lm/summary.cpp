#include "cajal/models/lm/summary.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <set>

#include "cajal/core/error.h"
#include "cajal/core/threads.h"
#include "cajal/models/lm/weights.h"

namespace cajal::lm {
namespace {

constexpr int64_t kScanBytes =
    1 << 20;  // a thread's portion, large against the cost of a hand-over

int64_t values_of(const Matrix& m) { return m.rows() * m.columns(); }

// Whether an element of `bits` (as an integer) has all bits of the exponent set.
template <class Word>
bool any_special(std::span<const std::byte> bytes, Word exponent) {
  uint64_t found = 0;
  for (size_t i = 0; i + sizeof(Word) <= bytes.size(); i += sizeof(Word)) {
    Word word;
    std::memcpy(&word, bytes.data() + i, sizeof word);
    found |= (word & exponent) == exponent;
  }
  return found != 0;
}

bool any_special(Dtype dtype, std::span<const std::byte> bytes) {
  switch (dtype) {
    case Dtype::f64:
      return any_special<uint64_t>(bytes, 0x7ff0000000000000);
    case Dtype::f32:
      return any_special<uint32_t>(bytes, 0x7f800000);
    case Dtype::f16:
      return any_special<uint16_t>(bytes, 0x7c00);
    case Dtype::bf16:
      return any_special<uint16_t>(bytes, 0x7f80);
    default:
      return false;  // integers, and blocks, whose scales are looked at below
  }
}

bool packed_is_finite(const Matrix& m) {
  std::vector<float> row(static_cast<size_t>(m.columns()));
  const auto* bytes = static_cast<const std::byte*>(m.stored().data_ptr());
  for (int64_t r = 0; r < m.rows(); ++r) {
    decode_row(m.format(), bytes + r * m.stored().size(1), m.columns(), row.data());
    if (!std::all_of(row.begin(), row.end(), [](float x) { return std::isfinite(x); }))
      return false;
  }
  return true;
}

// The map that the model's own file follows does not matter here: only ours is asked.
std::vector<WeightSlot> slots_of(TransformerImpl& m) {
  const auto& map = name_maps(m.config.family)[0];
  return weight_slots(m, map, written_prefix(map, m.config));
}

// What a token reads of a matrix: of an FFN with experts its share, all keys where an oracle
// chooses.
int64_t read_of_experts(const TransformerImpl& m, std::string_view name, int64_t bytes) {
  const auto at = name.find(".ffn.");
  if (!m.layout.experts || at == std::string_view::npos) return bytes;
  const auto& layout = *m.layout.experts;
  if (layout.router == RouterKind::oracle && name.find("value") == std::string_view::npos)
    return bytes;
  const auto layer = std::stoul(std::string(name.substr(7, at - 7)));
  return bytes * layout.active.at(layer) / layout.count;
}

}  // namespace

Summary summarise(Transformer& model) {
  auto& m = *model;
  Summary s;
  std::set<std::string> formats;
  const auto count = [&](std::string_view name, int64_t values, int64_t bytes, int64_t read) {
    s.parameters += values;
    s.stored_bytes += bytes;
    s.bytes_per_token += read;
    if (name.find(".ffn.") != std::string_view::npos) s.ffn_parameters += values;
  };
  for (const auto& slot : slots_of(m)) {
    for (const auto& [name, vector] : slot.vectors) {
      if (!vector->defined()) continue;
      const auto bytes = static_cast<int64_t>(vector->nbytes());
      count(name, vector->numel(), bytes, bytes);
    }
    for (const auto& [name, matrix] : slot.matrices) {
      if (!matrix->defined()) continue;
      const bool tied_copy = slot.optional && m.config.tied;
      if (tied_copy) continue;
      const bool table = name.starts_with("embedding.") && name != "embedding.project.weight" &&
                         name != "embedding.patch.weight";
      const bool read_whole = !table || (m.config.tied && name == "embedding.tokens.weight");
      const int64_t bytes = matrix->stored_bytes();
      count(name, values_of(*matrix), bytes,
            read_whole ? read_of_experts(m, name, bytes) : bytes / matrix->rows());
      formats.insert(to_name(matrix->format()));
    }
  }
  for (const auto& block : m.blocks)
    if (block.ffn.experts)
      for (const auto& part : {block.ffn.experts->first, block.ffn.experts->second})
        if (part.defined()) {
          const auto bytes = static_cast<int64_t>(part.nbytes());
          count("router", part.numel(), bytes, bytes);
        }
  s.formats.assign(formats.begin(), formats.end());
  return s;
}

Json describe(Transformer& model) {
  const Config& c = model->config;
  const Summary s = summarise(model);
  static constexpr std::pair<Head, const char*> kHeads[] = {{Head::language, "next token"},
                                                            {Head::masked, "masked token"},
                                                            {Head::classes, "classes"},
                                                            {Head::none, "none"}};
  Json json = {{"family", to_name(c.family)}};
  for (const auto& [head, name] : kHeads)
    if (head == c.head) json["head"] = name;
  json["layers"] = c.layers;
  json["width"] = c.width;
  json["heads"] = c.heads;
  json["kv_heads"] = c.kv_heads;
  json["head_width"] = c.head_width;
  json["neurons"] = c.neurons;
  json["law"] = to_name(c.law);
  json["gated"] = c.gated;
  if (c.vision()) {
    json["image_size"] = c.image_size;
    json["patch_size"] = c.patch_size;
  } else {
    json["vocabulary"] = c.vocabulary;
    json["context"] = c.context;
    json["tied"] = c.tied;
  }
  const auto widest = *std::max_element(c.window.begin(), c.window.end());
  if (widest > 0) json["window"] = widest;
  if (c.head == Head::classes) json["classes"] = c.classes;
  json["parameters"] = s.parameters;
  json["ffn_parameters"] = s.ffn_parameters;
  json["ffn_share"] = s.ffn_share();
  json["formats"] = s.formats;
  json["stored_bytes"] = s.stored_bytes;
  json["bytes_per_token"] = s.bytes_per_token;
  if (!model->layout.split.empty()) {
    size_t groups = 0;
    for (const auto& layer : model->layout.split) groups = std::max(groups, layer.size());
    json["neuron_groups"] = groups;
  }
  return json;
}

std::vector<std::string> not_finite(Transformer& model) {
  auto& m = *model;
  std::vector<std::string> bad;
  ThreadPool threads;
  if (m.file)
    for (const auto& [name, stored] : m.file->tensors()) {
      std::atomic<bool> any = false;
      threads.parallel_for(
          static_cast<int64_t>(stored.bytes.size()), kScanBytes, [&](int64_t begin, int64_t end) {
            const auto part =
                stored.bytes.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
            if (any_special(stored.dtype, part)) any = true;
          });
      if (any) bad.push_back(name);
      if (stored.file) stored.file->forget(stored.bytes);
    }
  for (const auto& slot : slots_of(m))
    for (const auto& [name, matrix] : slot.matrices)
      if (matrix->defined() && is_quantised(matrix->format()) && !packed_is_finite(*matrix))
        bad.push_back(name);
  return bad;
}

}  // namespace cajal::lm
