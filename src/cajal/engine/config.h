#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cajal/core/json.h"
#include "cajal/core/options.h"
#include "cajal/kernels/activation.h"

namespace cajal::lm {

using cajal::NormKind;

enum class Family {
  gpt2,
  opt,
  gpt_neox,
  llama,
  mistral,
  qwen2,
  qwen3,
  gemma,
  gemma2,
  gemma3,
  phi3,
  bert,
  roberta,
  vit,
  deit,
};

enum class NormPlace { pre, post, both };  // both: Gemma 2 and 3 norm what a block reads and writes
enum class Positions { learned, rotary };
enum class Head { language, masked, classes, none };

/// What the position of a token counts.
enum class PositionRule {
  index,       // tokens before it
  unmasked,    // tokens before it that the mask keeps (OPT)
  not_padding  // tokens before it that are not the padding id (RoBERTa)
};

/// Rotary positions: pair i of a head turns by position x inverse_frequency[i].
struct Rope {
  double base = 10000;
  int64_t width = 0;                           // rotated dimensions of a head; the rest pass
  std::vector<double> inverse_frequency;       // [width / 2], scaling applied
  std::vector<double> long_inverse_frequency;  // longrope: for passes that reach past
  int64_t original_context = 0;                // `original_context`; else empty
  double attention_factor = 1;                 // multiplies cos and sin (yarn, longrope)
};

/// What a transformer is, in one vocabulary for all families. Only flags and sizes: the forward
/// pass never asks for the family. Source: dossier _language-model.
struct Config {
  Family family = Family::llama;
  int64_t width = 0, layers = 0, heads = 0, kv_heads = 0, head_width = 0;
  int64_t neurons = 0;          // of one FFN
  int64_t vocabulary = 0;       // 0 for vision
  int64_t context = 0;          // positions
  int64_t embedding_width = 0;  // OPT: word_embed_proj_dim, else width
  bool causal = true;
  bool gated = false;
  Activation law = Activation::gelu;

  bool query_bias = false;   // of query, key and value
  bool output_bias = false;  // of the attention's output
  bool ffn_bias = false;

  NormKind norm = NormKind::layer;
  NormPlace norm_place = NormPlace::pre;
  double epsilon = 1e-5;
  bool norm_affine = true;  // norms have weights, and biases if they are layer norms
  bool final_norm = true;
  bool embedding_norm = false;     // BERT
  bool parallel_residual = false;  // GPT-NeoX
  bool query_key_norm = false;     // Qwen3, Gemma 3: RMS per head before RoPE

  Positions positions = Positions::rotary;
  PositionRule position_rule = PositionRule::index;
  int64_t position_offset = 0;  // first row of the table: OPT 2, RoBERTa padding id + 1
  int64_t padding_id = -1;
  Rope rope, local_rope;        // local_rope: layers with a window, where it has frequencies
  std::vector<int64_t> window;  // [layers], keys a query sees, itself included; 0 = all

  double score_scale = 0;  // multiplies q k
  bool scale_by_inverse_layer = false;
  double score_cap = 0, logit_cap = 0;  // Gemma 2: cap tanh(x / cap); 0 = none
  double embedding_scale = 1;           // Gemma: sqrt(width), rounded to the checkpoint's dtype

  bool tied = true;
  Head head = Head::language;
  bool head_named = true;  // config.json says which head; else the tensors do
  bool pooler = false;     // BERT: tanh of a linear map of the first token
  bool next_sentence = false;
  int64_t classes = 0, token_types = 0, image_size = 0, patch_size = 0, channels = 3;
  bool distillation_token = false, distillation_head = false;  // DeiT

  std::vector<int64_t> end_ids;  // generation stops at these
  int64_t begin_id = -1;
  Json source;  // config.json as it was read

  bool vision() const { return image_size > 0; }
  /// Patches and the tokens before them.
  int64_t image_tokens() const {
    return (image_size / patch_size) * (image_size / patch_size) + 1 + distillation_token;
  }
};

/// Reads config.json's content; both forms of rope settings (`rope_theta` + `rope_scaling`, or
/// `rope_parameters`). Throws Error naming the field for unknown families, laws, rope types and for
/// sizes that do not fit together.
Config config_from_json(const Json& json, const std::string& where);
/// The config.json that the family's Hugging Face class would write; keys of `config.source` that
/// are not about the architecture are kept.
Json config_to_json(const Config& config);
/// Reads `folder`/config.json (and generation_config.json for end ids, where there is one).
Config read_config(const std::filesystem::path& folder);

}  // namespace cajal::lm

CAJAL_ENUM(cajal::lm::Family, {cajal::lm::Family::gpt2, "gpt2"}, {cajal::lm::Family::opt, "opt"},
           {cajal::lm::Family::gpt_neox, "gpt_neox"}, {cajal::lm::Family::llama, "llama"},
           {cajal::lm::Family::mistral, "mistral"}, {cajal::lm::Family::qwen2, "qwen2"},
           {cajal::lm::Family::qwen3, "qwen3"}, {cajal::lm::Family::gemma, "gemma"},
           {cajal::lm::Family::gemma2, "gemma2"}, {cajal::lm::Family::gemma3, "gemma3_text"},
           {cajal::lm::Family::phi3, "phi3"}, {cajal::lm::Family::bert, "bert"},
           {cajal::lm::Family::roberta, "roberta"}, {cajal::lm::Family::vit, "vit"},
           {cajal::lm::Family::deit, "deit"})
