#include "cajal/engine/names.h"

#include <algorithm>

#include "cajal/core/error.h"

namespace cajal::lm {
namespace {

constexpr NameRule kGpt2[] = {
    {"embedding.tokens", "@wte"},
    {"embedding.positions", "@wpe"},
    {"blocks.*.norm1", "@h.*.ln_1"},
    {"blocks.*.attention.fused", "@h.*.attn.c_attn"},
    {"blocks.*.attention.output", "@h.*.attn.c_proj"},
    {"blocks.*.norm2", "@h.*.ln_2"},
    {"blocks.*.ffn.key", "@h.*.mlp.c_fc"},
    {"blocks.*.ffn.value", "@h.*.mlp.c_proj"},
    {"output.norm", "@ln_f"},
    {"output.vocabulary", "lm_head"},
};

constexpr NameRule kOpt[] = {
    {"embedding.tokens", "@embed_tokens"},
    {"embedding.positions", "@embed_positions"},
    {"embedding.project", "@project_in"},
    {"blocks.*.attention.query", "@layers.*.self_attn.q_proj"},
    {"blocks.*.attention.key", "@layers.*.self_attn.k_proj"},
    {"blocks.*.attention.value", "@layers.*.self_attn.v_proj"},
    {"blocks.*.attention.output", "@layers.*.self_attn.out_proj"},
    {"blocks.*.norm1", "@layers.*.self_attn_layer_norm"},
    {"blocks.*.ffn.key", "@layers.*.fc1"},
    {"blocks.*.ffn.value", "@layers.*.fc2"},
    {"blocks.*.norm2", "@layers.*.final_layer_norm"},
    {"output.norm", "@final_layer_norm"},
    {"output.project", "@project_out"},
    {"output.vocabulary", "lm_head"},
};

constexpr NameRule kGptNeox[] = {
    {"embedding.tokens", "@embed_in"},
    {"blocks.*.norm1", "@layers.*.input_layernorm"},
    {"blocks.*.norm2", "@layers.*.post_attention_layernorm"},
    {"blocks.*.attention.fused", "@layers.*.attention.query_key_value"},
    {"blocks.*.attention.output", "@layers.*.attention.dense"},
    {"blocks.*.ffn.key", "@layers.*.mlp.dense_h_to_4h"},
    {"blocks.*.ffn.value", "@layers.*.mlp.dense_4h_to_h"},
    {"output.norm", "@final_layer_norm"},
    {"output.vocabulary", "embed_out"},
};

constexpr NameRule kLlama[] = {
    {"embedding.tokens", "@embed_tokens"},
    {"blocks.*.norm1", "@layers.*.input_layernorm"},
    {"blocks.*.attention.query", "@layers.*.self_attn.q_proj"},
    {"blocks.*.attention.key", "@layers.*.self_attn.k_proj"},
    {"blocks.*.attention.value", "@layers.*.self_attn.v_proj"},
    {"blocks.*.attention.output", "@layers.*.self_attn.o_proj"},
    {"blocks.*.attention.query_norm", "@layers.*.self_attn.q_norm"},
    {"blocks.*.attention.key_norm", "@layers.*.self_attn.k_norm"},
    {"blocks.*.norm2", "@layers.*.post_attention_layernorm"},
    {"blocks.*.ffn.gate", "@layers.*.mlp.gate_proj"},
    {"blocks.*.ffn.key", "@layers.*.mlp.up_proj"},
    {"blocks.*.ffn.value", "@layers.*.mlp.down_proj"},
    {"output.norm", "@norm"},
    {"output.vocabulary", "lm_head"},
};

// Gemma 2 and 3 norm what a block reads and what it writes.
constexpr NameRule kGemma2[] = {
    {"embedding.tokens", "@embed_tokens"},
    {"blocks.*.norm1", "@layers.*.input_layernorm"},
    {"blocks.*.attention.query", "@layers.*.self_attn.q_proj"},
    {"blocks.*.attention.key", "@layers.*.self_attn.k_proj"},
    {"blocks.*.attention.value", "@layers.*.self_attn.v_proj"},
    {"blocks.*.attention.output", "@layers.*.self_attn.o_proj"},
    {"blocks.*.attention.query_norm", "@layers.*.self_attn.q_norm"},
    {"blocks.*.attention.key_norm", "@layers.*.self_attn.k_norm"},
    {"blocks.*.norm1_after", "@layers.*.post_attention_layernorm"},
    {"blocks.*.norm2", "@layers.*.pre_feedforward_layernorm"},
    {"blocks.*.ffn.gate", "@layers.*.mlp.gate_proj"},
    {"blocks.*.ffn.key", "@layers.*.mlp.up_proj"},
    {"blocks.*.ffn.value", "@layers.*.mlp.down_proj"},
    {"blocks.*.norm2_after", "@layers.*.post_feedforward_layernorm"},
    {"output.norm", "@norm"},
    {"output.vocabulary", "lm_head"},
};

constexpr NameRule kPhi3[] = {
    {"embedding.tokens", "@embed_tokens"},
    {"blocks.*.norm1", "@layers.*.input_layernorm"},
    {"blocks.*.attention.fused", "@layers.*.self_attn.qkv_proj"},
    {"blocks.*.attention.output", "@layers.*.self_attn.o_proj"},
    {"blocks.*.norm2", "@layers.*.post_attention_layernorm"},
    {"blocks.*.ffn.gate_key", "@layers.*.mlp.gate_up_proj"},
    {"blocks.*.ffn.value", "@layers.*.mlp.down_proj"},
    {"output.norm", "@norm"},
    {"output.vocabulary", "lm_head"},
};

constexpr NameRule kBert[] = {
    {"embedding.tokens", "@embeddings.word_embeddings"},
    {"embedding.positions", "@embeddings.position_embeddings"},
    {"embedding.token_types", "@embeddings.token_type_embeddings"},
    {"embedding.norm", "@embeddings.LayerNorm"},
    {"blocks.*.attention.query", "@encoder.layer.*.attention.self.query"},
    {"blocks.*.attention.key", "@encoder.layer.*.attention.self.key"},
    {"blocks.*.attention.value", "@encoder.layer.*.attention.self.value"},
    {"blocks.*.attention.output", "@encoder.layer.*.attention.output.dense"},
    {"blocks.*.norm1", "@encoder.layer.*.attention.output.LayerNorm"},
    {"blocks.*.ffn.key", "@encoder.layer.*.intermediate.dense"},
    {"blocks.*.ffn.value", "@encoder.layer.*.output.dense"},
    {"blocks.*.norm2", "@encoder.layer.*.output.LayerNorm"},
    {"output.pooler", "@pooler.dense"},
    {"output.transform", "cls.predictions.transform.dense"},
    {"output.transform_norm", "cls.predictions.transform.LayerNorm"},
    {"output.vocabulary.bias", "cls.predictions.bias"},
    {"output.vocabulary.weight", "cls.predictions.decoder.weight"},
    {"output.next_sentence", "cls.seq_relationship"},
    {"output.classes", "classifier"},
};

constexpr NameRule kRoberta[] = {
    {"embedding.tokens", "@embeddings.word_embeddings"},
    {"embedding.positions", "@embeddings.position_embeddings"},
    {"embedding.token_types", "@embeddings.token_type_embeddings"},
    {"embedding.norm", "@embeddings.LayerNorm"},
    {"blocks.*.attention.query", "@encoder.layer.*.attention.self.query"},
    {"blocks.*.attention.key", "@encoder.layer.*.attention.self.key"},
    {"blocks.*.attention.value", "@encoder.layer.*.attention.self.value"},
    {"blocks.*.attention.output", "@encoder.layer.*.attention.output.dense"},
    {"blocks.*.norm1", "@encoder.layer.*.attention.output.LayerNorm"},
    {"blocks.*.ffn.key", "@encoder.layer.*.intermediate.dense"},
    {"blocks.*.ffn.value", "@encoder.layer.*.output.dense"},
    {"blocks.*.norm2", "@encoder.layer.*.output.LayerNorm"},
    {"output.pooler", "@pooler.dense"},
    {"output.class_pooler", "classifier.dense"},
    {"output.transform", "lm_head.dense"},
    {"output.transform_norm", "lm_head.layer_norm"},
    {"output.vocabulary.bias", "lm_head.bias"},
    {"output.vocabulary.weight", "lm_head.decoder.weight"},
    {"output.classes", "classifier.out_proj"},
};

constexpr NameRule kVit[] = {
    {"embedding.class_token", "@embeddings.cls_token"},
    {"embedding.distillation_token", "@embeddings.distillation_token"},
    {"embedding.positions.weight", "@embeddings.position_embeddings"},
    {"embedding.patch", "@embeddings.patch_embeddings.projection"},
    {"blocks.*.norm1", "@encoder.layer.*.layernorm_before"},
    {"blocks.*.attention.query", "@encoder.layer.*.attention.attention.query"},
    {"blocks.*.attention.key", "@encoder.layer.*.attention.attention.key"},
    {"blocks.*.attention.value", "@encoder.layer.*.attention.attention.value"},
    {"blocks.*.attention.output", "@encoder.layer.*.attention.output.dense"},
    {"blocks.*.norm2", "@encoder.layer.*.layernorm_after"},
    {"blocks.*.ffn.key", "@encoder.layer.*.intermediate.dense"},
    {"blocks.*.ffn.value", "@encoder.layer.*.output.dense"},
    {"output.norm", "@layernorm"},
    {"output.pooler", "@pooler.dense"},
    {"output.classes", "classifier"},
    {"output.student_classes", "cls_classifier"},
    {"output.distillation_classes", "distillation_classifier"},
};

constexpr NameRule kTimm[] = {
    {"embedding.class_token", "@cls_token"},
    {"embedding.distillation_token", "@dist_token"},
    {"embedding.positions.weight", "@pos_embed"},
    {"embedding.patch", "@patch_embed.proj"},
    {"blocks.*.norm1", "@blocks.*.norm1"},
    {"blocks.*.attention.query_key_value", "@blocks.*.attn.qkv"},
    {"blocks.*.attention.output", "@blocks.*.attn.proj"},
    {"blocks.*.norm2", "@blocks.*.norm2"},
    {"blocks.*.ffn.key", "@blocks.*.mlp.fc1"},
    {"blocks.*.ffn.value", "@blocks.*.mlp.fc2"},
    {"output.norm", "@norm"},
    {"output.classes", "head"},
    {"output.distillation_classes", "head_dist"},
};

// Quantised rows cannot be turned: from GGUF files GPT-2's matrices come as [outputs, inputs].
const NameMap kGpt2Maps[] = {{kGpt2, {"transformer.", ""}, /*conv1d=*/true}, {kGpt2, {"linear."}}};

const NameMap kMaps[] = {
    {kOpt, {"model.decoder.", "decoder.", ""}},
    {kGptNeox, {"gpt_neox.", ""}, false, /*fused_by_head=*/true},
    {kLlama, {"model.", ""}},
    {kGemma2, {"model.", "", "language_model.model.", "model.language_model."}},
    {kPhi3, {"model.", ""}},
    {kBert, {"bert.", ""}},
    {kRoberta, {"roberta.", ""}},
};

const NameMap kVitMaps[] = {{kVit, {"vit.", "deit.", ""}}, {kTimm, {""}}};
const NameMap kDeitMaps[] = {{kVit, {"deit.", "vit.", ""}}, {kTimm, {""}}};

bool same_or_below(std::string_view rule, std::string_view name) {
  return name.starts_with(rule) && (name.size() == rule.size() || name[rule.size()] == '.');
}

const NameRule* find_rule(const NameMap& map, std::string_view ours) {
  const NameRule* module = nullptr;
  for (const auto& rule : map.rules) {
    if (rule.ours == ours) return &rule;
    if (same_or_below(rule.ours, ours)) module = &rule;
  }
  return module;
}

}  // namespace

std::span<const NameMap> name_maps(Family family) {
  const auto one = [](size_t index) { return std::span(kMaps).subspan(index, 1); };
  switch (family) {
    case Family::gpt2:
      return kGpt2Maps;
    case Family::opt:
      return one(0);
    case Family::gpt_neox:
      return one(1);
    case Family::gemma2:
    case Family::gemma3:
      return one(3);
    case Family::phi3:
      return one(4);
    case Family::bert:
      return one(5);
    case Family::roberta:
      return one(6);
    case Family::vit:
      return kVitMaps;
    case Family::deit:
      return kDeitMaps;
    default:
      return one(2);
  }
}

std::string stored_name(const NameMap& map, std::string_view prefix, std::string_view ours) {
  // "blocks.12.norm1.weight" is looked up as "blocks.*.norm1.weight".
  std::string layer, general(ours);
  if (ours.starts_with("blocks.")) {
    const auto end = ours.find('.', 7);
    layer = ours.substr(7, end - 7);
    general = "blocks.*" + std::string(ours.substr(std::min(end, ours.size())));
  }
  const NameRule* rule = find_rule(map, general);
  if (!rule) return "";
  std::string theirs(rule->theirs);
  if (const auto star = theirs.find('*'); star != std::string::npos) theirs.replace(star, 1, layer);
  if (theirs.starts_with('@')) theirs.replace(0, 1, prefix);
  return theirs + general.substr(rule->ours.size());
}

bool has_part(const NameMap& map, std::string_view ours) { return find_rule(map, ours); }

Naming find_naming(const Config& config, const TensorFile& file) {
  const auto maps = name_maps(config.family);
  const auto* probe = config.vision() ? "embedding.class_token" : "embedding.tokens.weight";
  for (const auto& map : maps)
    for (const auto prefix : map.prefixes)
      if (file.tensors().count(stored_name(map, prefix, probe))) return {&map, prefix};
  return {&maps[0], maps[0].prefixes[0]};
}

std::string_view written_prefix(const NameMap& map, const Config& config) {
  return config.head == Head::none ? "" : map.prefixes[0];
}

std::string ffn_module(const NameMap& map, std::string_view prefix, int64_t layer) {
  const auto path = fmt::format("blocks.{}.ffn.", layer);
  const auto key = has_part(map, "blocks.*.ffn.key") ? "key" : "gate_key";
  const auto a = stored_name(map, prefix, path + key), b = stored_name(map, prefix, path + "value");
  const auto differ = std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first;
  const std::string common(a.begin(), differ);
  return common.substr(0, common.rfind('.'));
}

bool matches(std::string_view pattern, std::string_view name) {
  size_t p = 0, n = 0, star = std::string_view::npos, resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p, ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool is_ignorable(std::string_view name, const Config& c) {
  const auto any = [&](std::initializer_list<std::string_view> patterns) {
    return std::any_of(patterns.begin(), patterns.end(),
                       [&](std::string_view pattern) { return matches(pattern, name); });
  };
  // Causal masks, frequencies and positions 0, 1, 2 ... that old versions wrote.
  if (any({"*.attn.bias", "*.attn.masked_bias", "*.attention.bias", "*.attention.masked_bias",
           "*rotary_emb.inv_freq", "*embeddings.position_ids", "*embeddings.token_type_ids",
           "*embeddings.mask_token"}))
    return true;
  // Copies of tied weights.
  if (c.tied && any({"cls.predictions.decoder.*", "lm_head.decoder.*"})) return true;
  // Parts that this model does not use: another head's, or the eyes of a multimodal one.
  const bool vocabulary = c.head == Head::language || c.head == Head::masked;
  return (!vocabulary && any({"lm_head.*", "embed_out.*", "cls.predictions.*"})) ||
         (!c.next_sentence && any({"cls.seq_relationship.*"})) ||
         (!c.pooler && any({"*pooler.dense.*"})) ||
         (c.head != Head::classes && any({"classifier.*"})) ||
         any({"vision_tower.*", "model.vision_tower.*", "multi_modal_projector.*",
              "model.multi_modal_projector.*"});
}

}  // namespace cajal::lm
