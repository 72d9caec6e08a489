#include "cajal/core/error.h"
#include "cajal/engine/config.h"

namespace cajal::lm {
namespace {

// The name by which Hugging Face's configs call a law.
std::string law_name(Activation law) {
  switch (law) {
    case Activation::identity:
      return "linear";
    case Activation::gelu_tanh:
      return "gelu_pytorch_tanh";
    case Activation::hard_tanh:
      return "hardtanh";
    default:
      return to_name(law);
  }
}

const char* class_name(Family family) {
  switch (family) {
    case Family::gpt2:
      return "GPT2";
    case Family::opt:
      return "OPT";
    case Family::gpt_neox:
      return "GPTNeoX";
    case Family::llama:
      return "Llama";
    case Family::mistral:
      return "Mistral";
    case Family::qwen2:
      return "Qwen2";
    case Family::qwen3:
      return "Qwen3";
    case Family::gemma:
      return "Gemma";
    case Family::gemma2:
      return "Gemma2";
    case Family::gemma3:
      return "Gemma3";
    case Family::phi3:
      return "Phi3";
    case Family::bert:
      return "Bert";
    case Family::roberta:
      return "Roberta";
    case Family::vit:
      return "ViT";
    case Family::deit:
      return "DeiT";
  }
  fail("family {} has no class", static_cast<int>(family));
}

std::string architecture(const Config& c) {
  const std::string name = class_name(c.family);
  switch (c.head) {
    case Head::language:
      return name + (c.family == Family::gpt2 ? "LMHeadModel" : "ForCausalLM");
    case Head::masked:
      return name + (c.next_sentence ? "ForPreTraining" : "ForMaskedLM");
    case Head::classes:
      return name + (!c.vision()           ? "ForSequenceClassification"
                     : c.distillation_head ? "ForImageClassificationWithTeacher"
                                           : "ForImageClassification");
    case Head::none:
      return name + (c.family == Family::gemma3 ? "TextModel" : "Model");
  }
  fail("head {} has no class", static_cast<int>(c.head));
}

Json gpt2_json(const Config& c) {
  return {{"n_embd", c.width},
          {"n_layer", c.layers},
          {"n_head", c.heads},
          {"n_inner", c.neurons},
          {"n_positions", c.context},
          {"activation_function", c.law == Activation::gelu_tanh ? "gelu_new" : law_name(c.law)},
          {"layer_norm_epsilon", c.epsilon},
          {"scale_attn_by_inverse_layer_idx", c.scale_by_inverse_layer},
          {"scale_attn_weights", c.score_scale != 1 || c.head_width == 1}};
}

Json opt_json(const Config& c) {
  return {{"hidden_size", c.width},
          {"num_hidden_layers", c.layers},
          {"num_attention_heads", c.heads},
          {"ffn_dim", c.neurons},
          {"max_position_embeddings", c.context},
          {"word_embed_proj_dim", c.embedding_width},
          {"activation_function", law_name(c.law)},
          {"do_layer_norm_before", c.norm_place == NormPlace::pre},
          {"enable_bias", c.ffn_bias},
          {"layer_norm_elementwise_affine", c.norm_affine},
          {"_remove_final_layer_norm", c.norm_place == NormPlace::pre && !c.final_norm}};
}

// The sizes that all other families call alike.
Json common_json(const Config& c) {
  Json json = {{"hidden_size", c.width},
               {"num_hidden_layers", c.layers},
               {"num_attention_heads", c.heads},
               {"intermediate_size", c.neurons}};
  const bool gemma = c.norm == NormKind::rms_one_plus && c.family != Family::gemma;
  json[gemma ? "hidden_activation" : "hidden_act"] = law_name(c.law);
  json[c.norm == NormKind::layer ? "layer_norm_eps" : "rms_norm_eps"] = c.epsilon;
  if (!c.vision())
    json["max_position_embeddings"] =
        c.context + (c.family == Family::roberta ? c.position_offset : 0);
  return json;
}

void add_rotary(const Config& c, Json& json) {
  if (c.family == Family::gpt_neox) {
    json["use_parallel_residual"] = c.parallel_residual;
    json["attention_bias"] = c.query_bias;
    json["rotary_pct"] = static_cast<double>(c.rope.width) / static_cast<double>(c.head_width);
    json["rotary_emb_base"] = c.rope.base;
    return;
  }
  json["num_key_value_heads"] = c.kv_heads;
  json["head_dim"] = c.head_width;
  json["rope_theta"] = c.rope.base;
  if (c.family == Family::llama) {
    json["attention_bias"] = c.query_bias;
    json["mlp_bias"] = c.ffn_bias;
  }
}

void add_encoder(const Config& c, Json& json) {
  if (c.vision()) {
    json["image_size"] = c.image_size;
    json["patch_size"] = c.patch_size;
    json["num_channels"] = c.channels;
    json["qkv_bias"] = c.query_bias;
  } else {
    json["type_vocab_size"] = c.token_types;
    if (c.family == Family::roberta) json["pad_token_id"] = c.padding_id;
  }
  if (c.head != Head::classes || c.source.contains("id2label")) return;
  json["id2label"] = Json::object();
  json["label2id"] = Json::object();
  for (int64_t i = 0; i < c.classes; ++i) {
    const auto label = fmt::format("LABEL_{}", i);
    json["id2label"][std::to_string(i)] = label;
    json["label2id"][label] = i;
  }
}

}  // namespace

Json config_to_json(const Config& c) {
  Json json = c.family == Family::gpt2  ? gpt2_json(c)
              : c.family == Family::opt ? opt_json(c)
                                        : common_json(c);
  if (c.positions == Positions::rotary) add_rotary(c, json);
  if (!c.causal) add_encoder(c, json);
  json["model_type"] = to_name(c.family);
  json["architectures"] = Json::array({architecture(c)});
  if (c.vocabulary > 0) {
    json["vocab_size"] = c.vocabulary;
    json["tie_word_embeddings"] = c.tied;
  }
  if (c.begin_id >= 0) json["bos_token_id"] = c.begin_id;
  if (c.end_ids.size() == 1) json["eos_token_id"] = c.end_ids[0];
  if (c.end_ids.size() > 1) json["eos_token_id"] = c.end_ids;

  // What the file said beyond that (scaled rotations, windows, labels) still holds.
  Json all = c.source.is_object() ? c.source : Json::object();
  all.erase("cajal");
  const bool scaled = all.contains("rope_parameters") || all.contains("rope_scaling");
  for (const auto& [key, value] : json.items())
    if (!(scaled && (key == "rope_theta" || key == "rotary_emb_base" || key == "rotary_pct")))
      all[key] = value;
  return all;
}

}  // namespace cajal::lm
