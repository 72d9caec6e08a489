#include "cajal/engine/config.h"

#include "tiny.h"

namespace cajal::lm {
namespace {

using namespace testing;

TEST(Config, ReadsBothFormsOfRopeSettingsAlike) {
  Json old = tiny_llama();
  old.update({{"rope_theta", 500000.0},
              {"max_position_embeddings", 256},
              {"rope_scaling",
               {{"type", "llama3"},
                {"factor", 8.0},
                {"low_freq_factor", 1.0},
                {"high_freq_factor", 4.0},
                {"original_max_position_embeddings", 32}}}});
  Json today = tiny_llama();
  today.erase("rope_theta");
  today["max_position_embeddings"] = 256;
  today["rope_parameters"] = {{"rope_type", "llama3"},   {"rope_theta", 500000.0},
                              {"factor", 8.0},           {"low_freq_factor", 1.0},
                              {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 32}};
  EXPECT_EQ(tiny(old).rope.inverse_frequency, tiny(today).rope.inverse_frequency);
  EXPECT_NE(tiny(old).rope.inverse_frequency, tiny(tiny_llama()).rope.inverse_frequency);
}

TEST(Config, Gemma3WindowsFollowThePatternOrTheListOfTypes) {
  Json json = tiny_gemma3();
  EXPECT_EQ(tiny(json).window, (std::vector<int64_t>{6, 0, 6}));
  json["layer_types"] = {"full_attention", "sliding_attention", "full_attention"};
  EXPECT_EQ(tiny(json).window, (std::vector<int64_t>{0, 6, 0}));
}

TEST(Config, Gemma3LayersWithAWindowTurnByTheirOwnBase) {
  Json json = tiny_gemma3();
  json.update({{"rope_theta", 1e6}, {"rope_local_base_freq", 1e4}});
  const auto old = tiny(json);
  EXPECT_NE(old.rope.inverse_frequency, old.local_rope.inverse_frequency);
  json.erase("rope_theta");
  json.erase("rope_local_base_freq");
  json["rope_parameters"] = {
      {"full_attention", {{"rope_theta", 1e6}, {"rope_type", "default"}}},
      {"sliding_attention", {{"rope_theta", 1e4}, {"rope_type", "default"}}}};
  EXPECT_EQ(tiny(json).rope.inverse_frequency, old.rope.inverse_frequency);
  EXPECT_EQ(tiny(json).local_rope.inverse_frequency, old.local_rope.inverse_frequency);
}

TEST(Config, QwenWindowsBeginAtMaxWindowLayers) {
  Json json = tiny_llama();
  json.update({{"model_type", "qwen2"}, {"sliding_window", 8}, {"max_window_layers", 1}});
  EXPECT_EQ(tiny(json).window, (std::vector<int64_t>{0, 0}));
  json["use_sliding_window"] = true;
  EXPECT_EQ(tiny(json).window, (std::vector<int64_t>{0, 8}));
}

TEST(Config, RotaryPairsOfGptNeoxAreAShareOfTheHead) {
  EXPECT_EQ(tiny(tiny_gpt_neox()).rope.width, 4);
}

TEST(Config, SurvivesARoundTripThroughJson) {
  for (const auto& json : {tiny_llama(), tiny_gpt2(), tiny_opt(), tiny_gpt_neox(), tiny_bert()}) {
    auto config = tiny(json);
    config.source = Json();  // as of a config that was made, not read
    const auto again = config_from_json(config_to_json(config), "again");
    EXPECT_EQ(again.width, config.width);
    EXPECT_EQ(again.neurons, config.neurons);
    EXPECT_EQ(again.law, config.law);
    EXPECT_EQ(again.tied, config.tied);
    EXPECT_EQ(again.head, config.head);
    EXPECT_EQ(again.context, config.context);
    EXPECT_EQ(again.norm_place, config.norm_place);
    EXPECT_EQ(again.rope.inverse_frequency, config.rope.inverse_frequency);
  }
}

std::string said(const char* key, const Json& value, Json json = tiny_llama()) {
  json[key] = value;
  return message([&] { tiny(json); });
}

TEST(Config, RefusesWhatItDoesNotKnowNamingTheField) {
  EXPECT_EQ(said("model_type", "mamba"),
            "config.json: model_type: 'mamba' is not one of gpt2, opt, gpt_neox, llama, mistral, "
            "qwen2, qwen3, gemma, gemma2, gemma3_text, phi3, bert, roberta, vit, deit");
  EXPECT_NE(said("hidden_act", "gleu").find("config.json: hidden_act: 'gleu'"), std::string::npos);
  EXPECT_NE(said("rope_scaling", {{"type", "spiral"}}).find("rope_type 'spiral' is not known"),
            std::string::npos);
  EXPECT_NE(said("architectures", {"LlamaForTokenClassification"})
                .find("config.json: architectures: 'LlamaForTokenClassification' is not supported"),
            std::string::npos);
}

TEST(Config, RefusesSizesThatDoNotFit) {
  EXPECT_EQ(said("num_attention_heads", 5),
            "config.json: num_attention_heads: 5 heads do not divide a hidden_size of 32");
  EXPECT_EQ(said("num_key_value_heads", 3),
            "config.json: 4 attention heads cannot share 3 key and value heads");
  EXPECT_EQ(said("hidden_size", -1), "config.json: hidden_size is -1, expected 1 to 16777216");
  EXPECT_EQ(said("hidden_size", 1.5), "config.json: hidden_size: expected an integer, got 1.5");
  EXPECT_EQ(said("hidden_size", nullptr), "config.json: field 'hidden_size' is missing");
  EXPECT_EQ(said("layer_types", {"full_attention"}, tiny_mistral()),
            "config.json: layer_types has 1 entries, expected 2 (num_hidden_layers)");
}

}  // namespace
}  // namespace cajal::lm
