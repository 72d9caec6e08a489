#include "cajal/engine/families.h"

#include <cmath>

#include "cajal/engine/rope.h"
#include "cajal/kernels/formats/half.h"

namespace cajal::lm {
namespace {

constexpr int64_t kMostLayers = 4096;

Activation law(const Fields& f, std::string_view key, std::string_view otherwise) {
  return activation_from_hf(f.get<std::string>(key, std::string(otherwise)), f.at(key));
}

// Heads that divide the width among themselves, keys and values alike.
void read_even_heads(const Fields& f, Config& c, std::string_view heads_key) {
  c.heads = c.kv_heads = f.size(heads_key);
  require(c.width % c.heads == 0, "{}: {} heads do not divide a width of {}", f.at(heads_key),
          c.heads, c.width);
  c.head_width = c.width / c.heads;
  c.score_scale = 1 / std::sqrt(static_cast<double>(c.head_width));
}

void read_gpt2(const Fields& f, Config& c) {
  c.width = f.size("n_embd");
  c.layers = f.size("n_layer", {}, kMostLayers);
  read_even_heads(f, c, "n_head");
  c.neurons = f.size("n_inner", 4 * c.width);
  c.context = f.has("n_positions") ? f.size("n_positions") : f.size("n_ctx");
  c.law = law(f, "activation_function", "gelu_new");
  c.epsilon = f.get<double>("layer_norm_epsilon", 1e-5);
  c.query_bias = c.output_bias = c.ffn_bias = true;
  c.positions = Positions::learned;
  if (!f.get<bool>("scale_attn_weights", true)) c.score_scale = 1;
  c.scale_by_inverse_layer = f.get<bool>("scale_attn_by_inverse_layer_idx", false);
  c.tied = f.get<bool>("tie_word_embeddings", true);
}

void read_opt(const Fields& f, Config& c) {
  c.width = f.size("hidden_size");
  c.layers = f.size("num_hidden_layers", {}, kMostLayers);
  read_even_heads(f, c, "num_attention_heads");
  c.neurons = f.size("ffn_dim");
  c.context = f.size("max_position_embeddings");
  c.embedding_width = f.size("word_embed_proj_dim", c.width);
  c.law = law(f, "activation_function", "relu");
  c.query_bias = c.output_bias = c.ffn_bias = f.get<bool>("enable_bias", true);
  const bool before = f.get<bool>("do_layer_norm_before", true);
  c.norm_place = before ? NormPlace::pre : NormPlace::post;
  c.norm_affine = f.get<bool>("layer_norm_elementwise_affine", true);
  c.final_norm = before && !f.get<bool>("_remove_final_layer_norm", false);
  c.positions = Positions::learned;
  c.position_rule = PositionRule::unmasked;
  c.position_offset = 2;
  c.tied = f.get<bool>("tie_word_embeddings", true);
}

void read_gpt_neox(const Fields& f, Config& c) {
  c.width = f.size("hidden_size");
  c.layers = f.size("num_hidden_layers", {}, kMostLayers);
  read_even_heads(f, c, "num_attention_heads");
  c.neurons = f.size("intermediate_size");
  c.context = f.size("max_position_embeddings");
  c.law = law(f, "hidden_act", "gelu");
  c.epsilon = f.get<double>("layer_norm_eps", 1e-5);
  c.query_bias = c.output_bias = f.get<bool>("attention_bias", true);
  c.ffn_bias = true;
  c.parallel_residual = f.get<bool>("use_parallel_residual", true);
  c.rope = make_rope(rope_settings(f, 10000, ""), c.head_width, 0.25, c.context, f.where());
  c.tied = f.get<bool>("tie_word_embeddings", false);
}

// Which layers see a window: `layer_types` where there is one, else `sliding(layer)`.
template <class Rule>
void read_windows(const Fields& f, Config& c, int64_t window, Rule sliding) {
  c.window.assign(static_cast<size_t>(c.layers), 0);
  const auto types = f.find<std::vector<std::string>>("layer_types");
  require(!types || static_cast<int64_t>(types->size()) == c.layers,
          "{} has {} entries, expected {} (num_hidden_layers)", f.at("layer_types"),
          types ? types->size() : 0, c.layers);
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    const auto at = static_cast<size_t>(layer);
    if (types)
      require((*types)[at] == "full_attention" || (*types)[at] == "sliding_attention",
              "{}: '{}' is not one of full_attention, sliding_attention", f.at("layer_types"),
              (*types)[at]);
    if (types ? (*types)[at] == "sliding_attention" : sliding(layer)) c.window[at] = window;
  }
}

// Key absent: the class's default; null: none.
int64_t window_size(const Fields& f, int64_t otherwise) {
  if (!f.json().contains("sliding_window")) return otherwise;
  return f.has("sliding_window") ? f.size("sliding_window", {}, int64_t{1} << 40) : 0;
}

void read_llama_sizes(const Fields& f, Config& c) {
  c.width = f.size("hidden_size");
  c.layers = f.size("num_hidden_layers", {}, kMostLayers);
  c.heads = f.size("num_attention_heads");
  c.kv_heads = f.size("num_key_value_heads", c.heads);
  const bool gemma =
      c.family == Family::gemma || c.family == Family::gemma2 || c.family == Family::gemma3;
  const int64_t usual = gemma ? 256 : c.family == Family::qwen3 ? 128 : 0;
  if (f.has("head_dim") || usual > 0) {
    c.head_width = f.size("head_dim", usual);
  } else {
    require(c.width % c.heads == 0, "{}: {} heads do not divide a hidden_size of {}",
            f.at("num_attention_heads"), c.heads, c.width);
    c.head_width = c.width / c.heads;
  }
  c.score_scale = 1 / std::sqrt(static_cast<double>(c.head_width));
  c.neurons = f.size("intermediate_size");
  c.context = f.size("max_position_embeddings", 2048);
  c.epsilon = f.get<double>("rms_norm_eps", 1e-6);
  c.gated = true;
  c.norm = NormKind::rms;
  c.law = law(f, "hidden_act", "silu");
  c.tied = f.get<bool>("tie_word_embeddings", false);
}

void read_gemma(const Fields& f, Config& c) {
  c.norm = NormKind::rms_one_plus;
  const auto key =
      f.has("hidden_activation") || !f.has("hidden_act") ? "hidden_activation" : "hidden_act";
  c.law = law(f, key, "gelu_pytorch_tanh");
  c.tied = f.get<bool>("tie_word_embeddings", true);
  c.query_bias = c.output_bias = f.get<bool>("attention_bias", false);
  require(!f.get<bool>("use_bidirectional_attention", false),
          "{}: attention in both directions is not supported", f.at("use_bidirectional_attention"));
  const auto dtype = f.get<std::string>(f.has("dtype") ? "dtype" : "torch_dtype", "float32");
  const auto root = static_cast<float>(std::sqrt(static_cast<double>(c.width)));
  c.embedding_scale = dtype == "bfloat16"  ? bf16_to_float(float_to_bf16(root))
                      : dtype == "float16" ? half_to_float(float_to_half(root))
                                           : root;
  if (c.family == Family::gemma) return;

  c.norm_place = NormPlace::both;
  c.score_scale = 1 / std::sqrt(f.positive("query_pre_attn_scalar", 256));
  const bool second = c.family == Family::gemma2;
  const auto cap = [&](const char* key, double usual) {
    return f.json().contains(key) ? f.get<double>(key, 0) : second ? usual : 0;
  };
  c.score_cap = cap("attn_logit_softcapping", 50);
  c.logit_cap = cap("final_logit_softcapping", 30);
  c.query_key_norm = !second;
  const auto named = f.find<int64_t>("sliding_window_pattern");
  const int64_t pattern =
      named ? *named : f.get<int64_t>("_sliding_window_pattern", second ? 2 : 6);
  require(pattern >= 1, "{}: sliding_window_pattern is {}, expected at least 1", f.where(),
          pattern);
  read_windows(f, c, window_size(f, 4096), [&](int64_t l) { return (l + 1) % pattern != 0; });
}

void read_llama(const Fields& f, Config& c) {
  read_llama_sizes(f, c);
  double theta = 10000;
  switch (c.family) {
    case Family::mistral:
      read_windows(f, c, window_size(f, 4096), [](int64_t) { return true; });
      break;
    case Family::phi3:
      read_windows(f, c, window_size(f, 0), [](int64_t) { return true; });
      break;
    case Family::qwen2:
    case Family::qwen3: {
      const bool sliding = f.get<bool>("use_sliding_window", false);
      const int64_t first = f.get<int64_t>("max_window_layers", 28);
      read_windows(f, c, sliding ? window_size(f, 4096) : 0,
                   [&](int64_t layer) { return layer >= first; });
      c.query_key_norm = c.family == Family::qwen3;
      c.query_bias = c.family == Family::qwen2 || f.get<bool>("attention_bias", false);
      c.output_bias = c.family == Family::qwen3 && c.query_bias;
      break;
    }
    case Family::gemma:
    case Family::gemma2:
    case Family::gemma3:
      read_gemma(f, c);
      if (c.family == Family::gemma3) theta = 1e6;
      break;
    default:
      c.query_bias = c.output_bias = f.get<bool>("attention_bias", false);
      c.ffn_bias = f.get<bool>("mlp_bias", false);
  }
  c.rope =
      make_rope(rope_settings(f, theta, "full_attention"), c.head_width, 1, c.context, f.where());
  if (c.family != Family::gemma3) return;
  // Layers with a window turn by their own base, and are never stretched.
  auto local = Json::object();
  local["rope_theta"] = f.get<double>("rope_local_base_freq", 10000);
  if (f.has("rope_parameters") && f.json().at("rope_parameters").contains("sliding_attention"))
    local = rope_settings(f, 10000, "sliding_attention");
  c.local_rope = make_rope(local, c.head_width, 1, c.context, f.where());
}

void read_encoder_sizes(const Fields& f, Config& c) {
  c.width = f.size("hidden_size");
  c.layers = f.size("num_hidden_layers", {}, kMostLayers);
  read_even_heads(f, c, "num_attention_heads");
  c.neurons = f.size("intermediate_size");
  c.law = law(f, "hidden_act", "gelu");
  c.epsilon = f.get<double>("layer_norm_eps", 1e-12);
  c.causal = false;
  c.query_bias = c.output_bias = c.ffn_bias = true;
  c.positions = Positions::learned;
}

void read_bert(const Fields& f, Config& c) {
  read_encoder_sizes(f, c);
  require(!f.get<bool>("is_decoder", false), "{}: decoders of this family are not supported",
          f.at("is_decoder"));
  const auto kind = f.get<std::string>("position_embedding_type", "absolute");
  require(kind == "absolute", "{} is '{}', expected 'absolute'", f.at("position_embedding_type"),
          kind);
  c.context = f.size("max_position_embeddings", 512);
  c.norm_place = NormPlace::post;
  c.embedding_norm = true;
  c.final_norm = false;
  c.token_types = f.size("type_vocab_size", 2);
  c.tied = f.get<bool>("tie_word_embeddings", true);
  if (c.family != Family::roberta) return;
  c.position_rule = PositionRule::not_padding;
  c.padding_id = f.get<int64_t>("pad_token_id", 1);
  c.position_offset = c.padding_id + 1;
  c.context -= c.position_offset;
  require(c.padding_id >= 0 && c.context > 0, "{}: {} leaves no position beside pad_token_id {}",
          f.where(), f.at("max_position_embeddings"), c.padding_id);
}

// timm names its models and leaves their sizes to the name.
Json timm_settings(const Fields& f) {
  const auto name = f.get<std::string>("architecture", "");
  struct Sizes {
    const char* word;
    int64_t width, layers, heads;
  };
  static constexpr Sizes kSizes[] = {{"_tiny_", 192, 12, 3},
                                     {"_small_", 384, 12, 6},
                                     {"_base_", 768, 12, 12},
                                     {"_large_", 1024, 24, 16},
                                     {"_huge_", 1280, 32, 16}};
  for (const auto& [word, width, layers, heads] : kSizes) {
    if (name.find(word) == std::string::npos) continue;
    const auto patch = name.find("patch");
    require(patch != std::string::npos, "{}: '{}' names no patch size", f.at("architecture"), name);
    int64_t sizes[2] = {0, 224};
    std::sscanf(name.c_str() + patch, "patch%ld_%ld", &sizes[0], &sizes[1]);
    return {{"hidden_size", width},         {"num_hidden_layers", layers},
            {"num_attention_heads", heads}, {"intermediate_size", 4 * width},
            {"patch_size", sizes[0]},       {"image_size", sizes[1]},
            {"layer_norm_eps", 1e-6},       {"architecture", name}};
  }
  fail("{}: '{}' is not known; sizes are tiny, small, base, large, huge", f.at("architecture"),
       name);
}

void read_vit(const Fields& given, Config& c) {
  const bool timm = !given.has("hidden_size") && given.has("architecture");
  const Json settings = timm ? timm_settings(given) : given.json();
  const Fields f(settings, given.where());
  read_encoder_sizes(f, c);
  c.image_size = f.size("image_size", 224, 1 << 14);
  c.patch_size = f.size("patch_size", 16, 1 << 14);
  c.channels = f.size("num_channels", 3, 1 << 10);
  require(c.image_size % c.patch_size == 0, "{}: patches of {} do not divide images of {}",
          f.at("patch_size"), c.patch_size, c.image_size);
  c.query_bias = f.get<bool>("qkv_bias", true);
  c.vocabulary = 0;
  c.distillation_token =
      timm ? given.get<std::string>("architecture", "").find("distilled") != std::string::npos
           : c.family == Family::deit;
  c.distillation_head = timm && c.distillation_token;
  if (timm) c.family = c.distillation_token ? Family::deit : Family::vit;
  c.tied = false;
  c.context = c.image_tokens();
}

}  // namespace

void read_family(const Fields& f, Config& c) {
  switch (c.family) {
    case Family::gpt2:
      read_gpt2(f, c);
      break;
    case Family::opt:
      read_opt(f, c);
      break;
    case Family::gpt_neox:
      read_gpt_neox(f, c);
      break;
    case Family::bert:
    case Family::roberta:
      read_bert(f, c);
      break;
    case Family::vit:
    case Family::deit:
      read_vit(f, c);
      break;
    default:
      read_llama(f, c);
  }
  if (!c.vision()) c.vocabulary = f.size("vocab_size");
  if (c.embedding_width == 0) c.embedding_width = c.width;
  if (c.window.empty()) c.window.assign(static_cast<size_t>(c.layers), 0);
}

}  // namespace cajal::lm
