#include "cajal/engine/gguf_names.h"

#include <cctype>
#include <charconv>
#include <span>

#include "cajal/core/error.h"

namespace cajal::lm {
namespace {

constexpr GgufFamily kFamilies[] = {
    {"llama", Family::llama}, {"qwen2", Family::qwen2},   {"qwen3", Family::qwen3},
    {"gemma", Family::gemma}, {"gemma2", Family::gemma2}, {"gemma3", Family::gemma3},
    {"phi3", Family::phi3},   {"gpt2", Family::gpt2},     {"gptneox", Family::gpt_neox}};

// Names after "blk.N." and before ".weight" or ".bias".
constexpr NameRule kCommon[] = {
    {"embedding.tokens", "token_embd"},
    {"output.norm", "output_norm"},
    {"output.vocabulary", "output"},
    {"blocks.*.norm1", "blk.*.attn_norm"},
    {"blocks.*.attention.query", "blk.*.attn_q"},
    {"blocks.*.attention.key", "blk.*.attn_k"},
    {"blocks.*.attention.value", "blk.*.attn_v"},
    {"blocks.*.attention.output", "blk.*.attn_output"},
    {"blocks.*.attention.query_norm", "blk.*.attn_q_norm"},
    {"blocks.*.attention.key_norm", "blk.*.attn_k_norm"},
    {"blocks.*.norm2", "blk.*.ffn_norm"},
    {"blocks.*.ffn.gate", "blk.*.ffn_gate"},
    {"blocks.*.ffn.key", "blk.*.ffn_up"},
    {"blocks.*.ffn.value", "blk.*.ffn_down"},
    {"blocks.*.norm1_after", "blk.*.post_attention_norm"},
    {"blocks.*.norm2_after", "blk.*.post_ffw_norm"},
};

constexpr NameRule kFused[] = {
    {"embedding.tokens", "token_embd"},
    {"embedding.positions", "position_embd"},
    {"output.norm", "output_norm"},
    {"output.vocabulary", "output"},
    {"blocks.*.norm1", "blk.*.attn_norm"},
    {"blocks.*.attention.fused", "blk.*.attn_qkv"},
    {"blocks.*.attention.output", "blk.*.attn_output"},
    {"blocks.*.norm2", "blk.*.ffn_norm"},
    {"blocks.*.ffn.key", "blk.*.ffn_up"},
    {"blocks.*.ffn.value", "blk.*.ffn_down"},
};

constexpr NameRule kGgufPhi3[] = {
    {"embedding.tokens", "token_embd"},
    {"output.norm", "output_norm"},
    {"output.vocabulary", "output"},
    {"blocks.*.norm1", "blk.*.attn_norm"},
    {"blocks.*.attention.fused", "blk.*.attn_qkv"},
    {"blocks.*.attention.output", "blk.*.attn_output"},
    {"blocks.*.norm2", "blk.*.ffn_norm"},
    {"blocks.*.ffn.gate_key", "blk.*.ffn_up"},
    {"blocks.*.ffn.value", "blk.*.ffn_down"},
};

std::span<const NameRule> rules(Family family) {
  if (family == Family::phi3) return kGgufPhi3;
  if (family == Family::gpt2 || family == Family::gpt_neox) return kFused;
  return kCommon;
}

struct Parts {
  std::string general, layer;  // "blk.*.attn_q", "3"
  std::string_view ending;     // ".weight" or ".bias"
};

// `name` with its layer, after `front`, made "*" and its ending cut off.
Parts take_apart(std::string_view name, std::string_view front) {
  Parts parts;
  for (const std::string_view ending : {".weight", ".bias"})
    if (name.ends_with(ending)) {
      parts.ending = ending;
      name.remove_suffix(ending.size());
    }
  parts.general = name;
  if (!name.starts_with(front)) return parts;
  const auto end = std::min(name.find('.', front.size()), name.size());
  parts.layer = name.substr(front.size(), end - front.size());
  int64_t layer = -1;
  const auto [stop, error] =
      std::from_chars(parts.layer.data(), parts.layer.data() + parts.layer.size(), layer);
  if (error != std::errc() || *stop != '\0' || layer < 0 || std::to_string(layer) != parts.layer)
    return {};
  parts.general = fmt::format("{}*{}", front, name.substr(end));
  return parts;
}

std::string put_together(std::string_view general, const Parts& parts) {
  std::string name(general);
  if (const auto star = name.find('*'); star != name.npos) name.replace(star, 1, parts.layer);
  return name.append(parts.ending);
}

}  // namespace

const GgufFamily& gguf_family(std::string_view architecture, const std::string& where) {
  std::string known;
  for (const auto& family : kFamilies) {
    if (family.architecture == architecture) return family;
    known += (known.empty() ? "" : ", ") + std::string(family.architecture);
  }
  fail("{}: '{}' is not one of {}", where, architecture, known);
}

std::string_view gguf_architecture(Family family, const std::string& where) {
  if (family == Family::mistral) family = Family::llama;
  for (const auto& known : kFamilies)
    if (known.family == family) return known.architecture;
  fail("{}: models of the family {} are not written as GGUF", where, to_name(family));
}

std::string gguf_our_name(Family family, std::string_view name) {
  const auto parts = take_apart(name, "blk.");
  if (parts.ending.empty()) return "";
  for (const auto& rule : rules(family))
    if (rule.theirs == parts.general) return put_together(rule.ours, parts);
  return "";
}

std::string gguf_name(Family family, std::string_view ours) {
  const auto parts = take_apart(ours, "blocks.");
  for (const auto& rule : rules(family))
    if (rule.ours == parts.general) return put_together(rule.theirs, parts);
  return "";
}

Naming gguf_naming(Family family) {
  const auto& map = name_maps(family).back();
  return {&map, map.prefixes[0]};
}

bool gguf_takes_pairs_apart(const Gguf& gguf) {
  return gguf.text("general.architecture") == "llama";
}

Format gguf_format(const GgufType& type, const std::string& where) {
  std::string name(type.name);
  if (const auto mark = name.find('K'); mark == name.npos)
    for (auto& letter : name) letter = static_cast<char>(std::tolower(letter));
  name[0] = static_cast<char>(std::tolower(name[0]));
  return from_name<Format>(name, where);
}

const GgufType& gguf_type_of(Format format) {
  auto name = to_name(format);
  for (auto& letter : name) letter = static_cast<char>(std::toupper(letter));
  return gguf_type(name, "GGUF");
}

}  // namespace cajal::lm
