#include "cajal/atlas/attention_map.h"

#include "cajal/atlas/integrated_law.h"
#include "models/tiny.h"

namespace cajal::atlas {
namespace {

using namespace lm::testing;

std::vector<Json> families() {
  Json pre_opt = tiny_opt(), silu = tiny_gpt2(), reglu = tiny_llama();
  pre_opt["do_layer_norm_before"] = true;
  silu["activation_function"] = "silu";
  reglu["hidden_act"] = "relu";
  return {tiny_llama(), tiny_gemma2(), tiny_gemma3(),   tiny_gpt2(), tiny_opt(), pre_opt,
          silu,         reglu,         tiny_gpt_neox(), tiny_phi3(), tiny_bert()};
}

double worst_error(const std::vector<LayerMaps>& layers) {
  double worst = 0;
  for (const auto& layer : layers)
    for (const auto& stage : layer.stages) worst = std::max(worst, stage.error);
  return worst;
}

TEST(AttentionMap, PartsSumToTheActivationAtEveryStageOfEveryFamily) {
  for (const auto& json : families())
    for (const auto mode : {BiasMode::inside, BiasMode::token})
      for (const bool rollout : {false, true}) {
        auto model = tiny_model(json);
        const AttentionMapOptions options{mode, rollout, 4};
        EXPECT_LT(worst_error(attention_maps(model, some_ids(1, 9), options)), 1e-4)
            << json["model_type"] << to_name(mode) << rollout;
        model->to(torch::kDouble);
        EXPECT_LT(worst_error(attention_maps(model, some_ids(1, 9), options)), 1e-10)
            << json["model_type"] << to_name(mode) << rollout;
      }
}

TEST(AttentionMap, OfAVisionTransformerIsCompleteToo) {
  auto model = tiny_model(tiny_vit());
  torch::manual_seed(3);
  EXPECT_LT(worst_error(attention_maps(model, torch::randn({1, 3, 16, 16}))), 1e-4);
}

TEST(AttentionMap, ShowsNothingOfMaskedTokens) {
  auto model = tiny_model(tiny_gpt2());
  for (const bool rollout : {false, true})
    for (const auto& layer : attention_maps(model, some_ids(1, 8), {.rollout = rollout}))
      for (const auto& stage : layer.stages)
        EXPECT_EQ(stage.map.triu(1).abs().max().item<float>(), 0) << stage.stage;
}

TEST(AttentionMap, DoesNotDependOnTheTile) {
  for (const auto& json : {tiny_llama(), tiny_bert()}) {
    auto model = tiny_model(json);
    const auto ids = some_ids(1, 13);
    const auto whole = attention_maps(model, ids, {.tile = 13});
    for (const int64_t tile : {1, 5}) {
      const auto tiled = attention_maps(model, ids, {.tile = tile});
      for (size_t l = 0; l < whole.size(); ++l)
        for (size_t s = 0; s < whole[l].stages.size(); ++s)
          EXPECT_TRUE(tiled[l].stages[s].map.equal(whole[l].stages[s].map));
    }
  }
}

TEST(AttentionMap, OfOneTokenIsTheActivationWithoutItsBiasPart) {
  auto model = tiny_model(tiny_bert());
  attention_maps(model, some_ids(1, 1), {},
                 [&](int64_t, std::string_view stage, int64_t, const Contributions& x) {
                   const auto expected = (x.total() - x.bias).norm(2, -1);
                   EXPECT_LT(difference(x.norms().squeeze(1), expected), 1e-5) << stage;
                 });
}

FfnWeights random_ffn(Activation law, bool gated, double bias) {
  const auto o = torch::kDouble;
  FfnWeights w{torch::randn({24, 8}, o),
               {},
               torch::randn({24, 8}, o),
               torch::randn({24}, o) * bias,
               {},
               torch::randn({8}, o) * bias,
               law,
               gated};
  if (gated) w.gate = torch::randn({24, 8}, o), w.gate_bias = torch::randn({24}, o) * bias;
  return w;
}

Contributions random_parts(double bias) {
  return {torch::randn({3, 5, 8}, torch::kDouble), torch::randn({3, 8}, torch::kDouble) * bias};
}

TEST(ThroughFfn, EqualsNumericalIntegratedGradients) {
  torch::manual_seed(1);
  for (const auto law :
       {Activation::gelu, Activation::gelu_tanh, Activation::relu, Activation::silu})
    for (const bool gated : {false, true})
      for (const auto mode : {BiasMode::inside, BiasMode::token}) {
        const auto ffn = random_ffn(law, gated, 0.5);
        const auto x = random_parts(0.5);
        const auto exact = through_ffn(x, ffn, mode);
        const auto slow = through_ffn_numerically(x, ffn, mode, 512);
        // 512 midpoints see a kink of relu to half a step.
        const double largest = exact.parts.abs().max().item<double>();
        EXPECT_LT(difference(exact.parts, slow.parts) / largest, 1e-3)
            << to_name(law) << gated << to_name(mode);
        EXPECT_LT(difference(exact.bias, slow.bias) / largest, 1e-3) << to_name(law) << gated;
      }
}

TEST(ThroughFfn, OfReluWithoutBiasIsMasking) {
  torch::manual_seed(2);
  const auto ffn = random_ffn(Activation::relu, false, 0);
  const auto x = random_parts(0);
  const auto out = through_ffn(x, ffn, BiasMode::inside);
  for (int64_t row = 0; row < 3; ++row) {
    const auto on = torch::matmul(x.total()[row], ffn.key.t()) > 0;
    const auto masked = torch::matmul(torch::matmul(x.parts[row], ffn.key.t()) * on, ffn.value);
    EXPECT_TRUE(out.parts[row].equal(masked));
  }
}

TEST(ThroughFfn, OfALinearLawIsTheLinearSplit) {
  torch::manual_seed(3);
  const auto ffn = random_ffn(Activation::identity, false, 1);
  const auto x = random_parts(1);
  const auto split = torch::matmul(torch::matmul(x.parts, ffn.key.t()), ffn.value);
  for (const auto mode : {BiasMode::inside, BiasMode::token})
    EXPECT_LT(difference(through_ffn(x, ffn, mode).parts, split), 1e-12);
}

TEST(ThroughFfn, StaysAccurateWhereThePartsCancel) {
  torch::manual_seed(4);
  for (const auto law : {Activation::gelu, Activation::silu, Activation::relu, Activation::tanh})
    for (const double size : {1e-12, 1e-7, 1e-3, 0.049, 0.051}) {
      const auto b = torch::linspace(-3, 3, 41, torch::kDouble);
      const auto y = torch::full_like(b, size);
      const auto middle = slope(law, b + size / 2);
      EXPECT_LT(difference(mean_slope(law, b, y), middle), 1e-3) << to_name(law) << size;
      EXPECT_LT(difference(mean_slope(law, b, y) * y, activate(law, b + y) - activate(law, b)),
                1e-15)
          << to_name(law) << size;
    }
}

TEST(ThroughFfn, RefusesTokenModeForALawThatIsNotZeroAtZero) {
  const auto ffn = random_ffn(Activation::sigmoid, false, 1);
  EXPECT_NE(message([&] { through_ffn(random_parts(1), ffn, BiasMode::token); }).find("sigmoid"),
            std::string::npos);
}

TEST(MapMeasures, ChangeIsOneMinusTheRankCorrelationBelowTheDiagonal) {
  const auto a = torch::tensor({{1.0, 9.0}, {2.0, 3.0}}),
             b = torch::tensor({{1.0, -5.0}, {2.0, 3.0}});
  EXPECT_NEAR(map_change(a, b, {.causal = true}), 0, 1e-12);
  EXPECT_GT(map_change(a, b, {.causal = false}), 0.5);
}

TEST(MapMeasures, RolloutMultipliesHalfAttentionAndHalfIdentity) {
  LayerMaps one, two;
  one.attention = torch::tensor({{1.0, 0.0}, {0.5, 0.5}});
  two.attention = torch::tensor({{1.0, 0.0}, {1.0, 0.0}});
  const auto out = attention_rollout({one, two});
  EXPECT_LT(difference(out[0], torch::tensor({{1.0, 0.0}, {0.25, 0.75}})), 1e-7);
  EXPECT_LT(difference(out[1], torch::tensor({{1.0, 0.0}, {0.625, 0.375}})), 1e-7);
}

TEST(MapMeasures, PairClassesFollowTheText) {
  const std::vector<std::string> tokens{" un", "happy", ",", " dog", " un"};
  EXPECT_EQ(pair_class(tokens, 1, 0), PairClass::same_word);
  EXPECT_EQ(pair_class(tokens, 4, 0), PairClass::same_token);
  EXPECT_EQ(pair_class(tokens, 3, 2), PairClass::punctuation);
  EXPECT_EQ(pair_class(tokens, 4, 3), PairClass::adjacent);
  EXPECT_EQ(pair_class(tokens, 3, 0), PairClass::other);
}

TEST(MapMeasures, WrittenMapsHoldTheNumbersAndEscapeTokens) {
  Folder folder;
  write_map(folder.path() / "map", torch::tensor({{1.0, 0.0}, {0.25, 0.5}}), {"<b>", "x"});
  const auto text = [&](const char* name) { return read_file(folder.path() / name); };
  EXPECT_EQ(text("map.csv"), "1,0\n0.25,0.5\n");
  EXPECT_EQ(text("map.pgm").size(), std::string("P5\n2 2\n255\n").size() + 4);
  EXPECT_EQ(text("map.html").find("<b>"), std::string::npos);
}

}  // namespace
}  // namespace cajal::atlas
