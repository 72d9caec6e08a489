#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cajal/core/json.h"
#include "cajal/core/options.h"
#include "cajal/layers/ops.h"
#include "cajal/neurons/activation.h"

namespace cajal::lm {

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

using ops::NormKind;
enum class NormPlace { pre, post, both };  // both: Gemma 2 and 3 norm what a block reads and writes
enum class Positions { learned, rotary };
enum class Head { language, masked, classes, none };

struct Rope {
  double base = 10000;
  int64_t width = 0;  // rotated dimensions of a head; the rest pass
  std::vector<double>
      inverse_frequency;  // [width / 2], scaling (llama3, linear, yarn, longrope) applied
  std::vector<double> long_inverse_frequency;  // longrope: used past `original_context`, else empty
  int64_t original_context = 0;
  double attention_factor = 1;  // multiplies cos and sin (yarn, longrope)
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
  NormKind norm = NormKind::layer;
  NormPlace norm_place = NormPlace::pre;
  double epsilon = 1e-5;
  bool final_norm = true;
  bool embedding_norm = false;     // BERT
  bool parallel_residual = false;  // GPT-NeoX
  bool query_key_norm = false;     // Qwen3, Gemma 3: RMS per head before RoPE
  Positions positions = Positions::rotary;
  int64_t position_offset = 0;  // OPT and RoBERTa: 2
  Rope rope, local_rope;        // local_rope: sliding layers of Gemma 3
  std::vector<int64_t> window;  // [layers], keys a query sees; 0 = all
  double score_scale = 0;       // multiplies q k
  bool scale_by_inverse_layer = false;
  double score_cap = 0, logit_cap = 0;  // Gemma 2: cap tanh(x / cap); 0 = none
  double embedding_scale = 1;           // Gemma: sqrt(width), rounded to the checkpoint's dtype
  bool tied = true;
  Head head = Head::language;
  int64_t classes = 0, token_types = 0, image_size = 0, patch_size = 0, channels = 3;
  bool distilled = false;        // DeiT with a distillation token
  std::vector<int64_t> end_ids;  // generation stops at these
  int64_t begin_id = -1;
  Json source;  // config.json as it was read

  bool vision() const { return image_size > 0; }
};

/// Reads config.json's content; both forms of rope settings (`rope_theta` + `rope_scaling`, or
/// `rope_parameters`). Throws Error naming the field for unknown families, laws, rope types and for
/// sizes that do not fit together.
Config config_from_json(const Json& json, const std::string& where);
/// Reads `folder`/config.json (and generation_config.json for end ids, where there is one).
Config read_config(const std::filesystem::path& folder);

}  // namespace cajal::lm
