#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <string>

#include "cajal/core/files.h"
#include "cajal/core/torch_tensors.h"
#include "cajal/models/lm/checkpoint.h"

namespace cajal::lm::testing {

namespace fs = std::filesystem;

/// Configs of models small enough to run in milliseconds, one for each way a family differs.
inline Json tiny_llama() {
  return {{"model_type", "llama"},    {"architectures", {"LlamaForCausalLM"}},
          {"hidden_size", 32},        {"intermediate_size", 64},
          {"num_hidden_layers", 2},   {"num_attention_heads", 4},
          {"num_key_value_heads", 2}, {"vocab_size", 50},
          {"rms_norm_eps", 1e-6},     {"max_position_embeddings", 64},
          {"rope_theta", 10000.0},    {"tie_word_embeddings", false}};
}

inline Json tiny_mistral() {
  Json json = tiny_llama();
  json["model_type"] = "mistral";
  json["architectures"] = {"MistralForCausalLM"};
  json["sliding_window"] = 8;
  return json;
}

inline Json tiny_gemma3() {
  Json json = tiny_llama();
  json.update({{"model_type", "gemma3_text"},
               {"architectures", {"Gemma3ForCausalLM"}},
               {"head_dim", 16},
               {"query_pre_attn_scalar", 12},
               {"sliding_window", 6},
               {"sliding_window_pattern", 2},
               {"num_hidden_layers", 3},
               {"tie_word_embeddings", true}});
  return json;
}

inline Json tiny_gemma2() {
  Json json = tiny_gemma3();
  json.update({{"model_type", "gemma2"},
               {"architectures", {"Gemma2ForCausalLM"}},
               {"attn_logit_softcapping", 5.0},
               {"final_logit_softcapping", 3.0}});
  return json;
}

inline Json tiny_gpt2() {
  return {{"model_type", "gpt2"}, {"architectures", {"GPT2LMHeadModel"}},
          {"n_embd", 32},         {"n_layer", 2},
          {"n_head", 4},          {"n_positions", 64},
          {"vocab_size", 50}};
}

inline Json tiny_opt() {
  return {{"model_type", "opt"},
          {"architectures", {"OPTForCausalLM"}},
          {"hidden_size", 32},
          {"ffn_dim", 64},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"vocab_size", 50},
          {"max_position_embeddings", 64},
          {"word_embed_proj_dim", 24},
          {"do_layer_norm_before", false},
          {"activation_function", "relu"}};
}

inline Json tiny_gpt_neox() {
  return {{"model_type", "gpt_neox"}, {"architectures", {"GPTNeoXForCausalLM"}},
          {"hidden_size", 32},        {"intermediate_size", 64},
          {"num_hidden_layers", 2},   {"num_attention_heads", 4},
          {"vocab_size", 50},         {"max_position_embeddings", 64},
          {"rotary_pct", 0.5}};
}

inline Json tiny_phi3() {
  Json json = tiny_llama();
  json["model_type"] = "phi3";
  json["architectures"] = {"Phi3ForCausalLM"};
  return json;
}

inline Json tiny_bert() {
  return {{"model_type", "bert"},   {"architectures", {"BertForMaskedLM"}},
          {"hidden_size", 32},      {"intermediate_size", 64},
          {"num_hidden_layers", 2}, {"num_attention_heads", 4},
          {"vocab_size", 50},       {"max_position_embeddings", 64}};
}

inline Json tiny_vit() {
  return {{"model_type", "vit"},    {"architectures", {"ViTForImageClassification"}},
          {"hidden_size", 32},      {"intermediate_size", 64},
          {"num_hidden_layers", 2}, {"num_attention_heads", 4},
          {"image_size", 16},       {"patch_size", 8},
          {"num_labels", 5}};
}

inline Config tiny(const Json& json) { return config_from_json(json, "config.json"); }

/// Weights large enough that every part of the model shows in the logits.
inline Transformer tiny_model(const Json& json, uint64_t seed = 1) {
  auto model = initialise(tiny(json), seed, 0.3);
  const torch::NoGradGuard no_grad;
  torch::manual_seed(static_cast<int64_t>(seed));
  for (auto& parameter : model->parameters())
    if (parameter.dim() == 1) parameter.add_(torch::randn_like(parameter) * 0.1);
  model->eval();
  return model;
}

inline torch::Tensor some_ids(int64_t batch, int64_t tokens, int64_t vocabulary = 50) {
  torch::manual_seed(5);
  return torch::randint(vocabulary, {batch, tokens}, torch::kLong);
}

/// A folder of its own for a test, removed with it.
class Folder {
 public:
  Folder() {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    path_ = fs::temp_directory_path() /
            fmt::format("cajal_{}_{}_{}", test->test_suite_name(), test->name(), ::getpid());
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

/// What an Error says, or "" when nothing is thrown.
inline std::string message(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

inline double difference(const torch::Tensor& a, const torch::Tensor& b) {
  return a.sizes() == b.sizes() ? (a - b).abs().max().item<double>() : INFINITY;
}

}  // namespace cajal::lm::testing
