#include "cajal/surgery/plan.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace cajal::surgery {
namespace {

// Neuron i of 128 is active with strength (i * 37 mod 128) + 1.
atlas::Census census_of(int layers = 2) {
  ThreadPool threads(1);
  atlas::Census census;
  for (int l = 0; l < layers; ++l) {
    atlas::LayerCensus layer(std::vector<float>(128, 1), std::vector<float>(128, 1), false);
    std::vector<float> a(128);
    for (int i = 0; i < 128; ++i) a[i] = static_cast<float>(i * 37 % 128 + 1);
    layer.add(a, 0, threads);
    census.layers.push_back(std::move(layer));
  }
  return census;
}

std::string error_of(std::string_view words) {
  try {
    make_plan(words, census_of());
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Plan, PutsTheHeavyHittersFirst) {
  const auto plan = make_plan("heavy=q8_0,rest=q4_0", census_of(), {.score = Score::energy});
  ASSERT_EQ(plan.layers.size(), 2u);
  const auto& layer = plan.layers[0];
  ASSERT_EQ(layer.groups.size(), 2u);
  EXPECT_EQ(layer.groups[0].neurons, 32);
  EXPECT_EQ(layer.groups[1].neurons, 96);
  EXPECT_EQ(layer.groups[1].value.format, Format::q4_0);
  for (size_t k = 0; k < 128; ++k) EXPECT_EQ(layer.order[k] * 37 % 128, 127 - static_cast<int>(k));
}

TEST(Plan, InverseIsTheOppositeOrder) {
  auto heavy = make_plan("heavy=q8_0,rest=q4_0", census_of(), {.score = Score::energy});
  const auto inverse = make_plan("inverse=q8_0,rest=q4_0", census_of(), {.score = Score::energy});
  std::reverse(heavy.layers[0].order.begin(), heavy.layers[0].order.end());
  EXPECT_EQ(heavy.layers[0].order, inverse.layers[0].order);
}

TEST(Plan, RandomSetsDifferBetweenLayersAndSeeds) {
  const auto a = make_plan("random=q8_0,rest=q4_0", census_of(), {.seed = 1});
  const auto b = make_plan("random=q8_0,rest=q4_0", census_of(), {.seed = 20});
  EXPECT_NE(a.layers[0].order, a.layers[1].order);
  EXPECT_NE(a.layers[0].order, b.layers[0].order);
}

TEST(Plan, RatiosOfNoneAndAllLeaveOneGroup) {
  for (const double ratio : {0.0, 1.0}) {
    const auto plan = make_plan("heavy=q8_0,rest=q4_0", census_of(), {.ratio = ratio});
    ASSERT_EQ(plan.layers[0].groups.size(), 1u);
    EXPECT_EQ(plan.layers[0].groups[0].key.format, ratio > 0 ? Format::q8_0 : Format::q4_0);
  }
}

TEST(Plan, TakesKeysAndValuesInDifferentFormats) {
  const auto plan = make_plan("all=q8_0/q4_0", census_of());
  EXPECT_EQ(plan.layers[0].groups[0].key.format, Format::q8_0);
  EXPECT_EQ(plan.layers[0].groups[0].value.format, Format::q4_0);
}

TEST(Plan, ASplitOfAQuarterTiesWithFiveBitsInBytes) {
  const auto census = census_of();
  EXPECT_EQ(plan_bytes(make_plan("heavy=q8_0,rest=q4_0", census), 64, false),
            plan_bytes(make_plan("all=q5_0", census), 64, false));
  EXPECT_DOUBLE_EQ(plan_bits(make_plan("all=q5_0", census), 64, true), 5.5);
}

TEST(Plan, SaysWhatIsWrongWithTheWords) {
  EXPECT_NE(error_of("heavy=q8_0").find("expected all=F, heavy=F,rest=G"), std::string::npos);
  EXPECT_NE(error_of("").find("plan ''"), std::string::npos);
  EXPECT_NE(error_of("heavy=q9,rest=q4_0").find("'q9' is not one of"), std::string::npos);
  EXPECT_NE(error_of("light=q8_0,rest=q4_0").find("'light' is not a set"), std::string::npos);
  EXPECT_NE(error_of("all=drop").find("drops every neuron"), std::string::npos);
  EXPECT_NE(error_of("heavy=drop,rest=q8_0").find("only the rest"), std::string::npos);
  EXPECT_NE(error_of("all=svd:2"), "");
  EXPECT_NE(error_of("all=q8_0/drop"), "");
}

TEST(Plan, GoesThroughJsonUnchanged) {
  const auto plan = make_plan("heavy=q8_0/q5_0,rest=svd:0.25", census_of());
  EXPECT_EQ(Plan::from_json(plan.json(), {128, 128}, "p.json"), plan);
}

TEST(Plan, RefusesJsonThatIsNoPlan) {
  const auto good = make_plan("heavy=q8_0,rest=q4_0", census_of()).json();
  const auto error = [&](const std::function<void(Json&)>& change) -> std::string {
    Json json = good;
    change(json);
    try {
      Plan::from_json(json, {128, 128}, "p.json");
    } catch (const Error& caught) {
      return caught.what();
    }
    return "";
  };
  EXPECT_NE(error([](Json& j) {
              j["layers"][1]["order"][0] = j["layers"][1]["order"][1];
            }).find("p.json.layers[1].order"),
            std::string::npos);
  EXPECT_NE(error([](Json& j) {
              j["layers"][0]["groups"][0]["neurons"] = 31;
            }).find("127 neurons in all, expected 128"),
            std::string::npos);
  EXPECT_NE(error([](Json& j) { j["layers"][0]["groups"][0]["neurons"] = INT64_MAX; }), "");
  EXPECT_NE(error([](Json& j) { j["layers"].erase(0); }).find("the model has 2"),
            std::string::npos);
  EXPECT_NE(error([](Json& j) { j["layers"][0]["groups"][1]["key"] = "q3"; }), "");
  EXPECT_NE(error([](Json& j) { j["layers"][0]["groups"] = Json::array(); }), "");
  EXPECT_NE(error([](Json& j) { j["layres"] = 1; }), "");
  EXPECT_EQ(error([](Json&) {}), "");
}

TEST(Forecast, NeedsTheShareThatTheDossierGives) {
  const auto census = census_of();
  const auto at = [&](double ratio) {
    return forecast(census.layers[0], Score::energy, ratio, Format::q8_0, Format::q4_0);
  };
  EXPECT_NEAR(at(0.25).needed, 0.75, 0.01);
  EXPECT_NEAR(at(0.5).needed, 0.94, 0.01);
  EXPECT_DOUBLE_EQ(at(0.25).ratio, 0.25);
}

TEST(Forecast, AWinIsMoreEnergyThanNeeded) {
  ThreadPool threads(1);
  atlas::LayerCensus layer(std::vector<float>(128, 1), std::vector<float>(128, 1), false);
  std::vector<float> a(128, 0.1f);
  std::fill(a.begin(), a.begin() + 32, 10.0f);
  layer.add(a, 0, threads);
  EXPECT_TRUE(forecast(layer, Score::hits, 0.25, Format::q8_0, Format::q4_0).wins());
  std::fill(a.begin(), a.end(), 1.0f);
  atlas::LayerCensus flat(std::vector<float>(128, 1), std::vector<float>(128, 1), false);
  flat.add(a, 0, threads);
  EXPECT_FALSE(forecast(flat, Score::hits, 0.25, Format::q8_0, Format::q4_0).wins());
}

TEST(HeavyCount, IsAMultipleOf32OrEveryNeuron) {
  EXPECT_EQ(heavy_count(1280, 0.25), 320);
  EXPECT_EQ(heavy_count(1280, 0.26), 352);
  EXPECT_EQ(heavy_count(100, 0.99), 100);
  EXPECT_EQ(heavy_count(100, 0), 0);
  EXPECT_THROW(heavy_count(100, 1.5), Error);
}

TEST(Jaccard, IsSharedOverEither) {
  EXPECT_DOUBLE_EQ(jaccard({1, 2, 3}, {3, 2, 9}), 0.5);
  EXPECT_DOUBLE_EQ(jaccard({}, {}), 1);
}

TEST(Plan, AMixGivesHalfOfTheLayersBetterValues) {
  const auto plan = make_plan("mix=q5_0,values=q8_0", census_of(8));
  std::string better;
  for (const auto& layer : plan.layers) {
    ASSERT_EQ(layer.groups.size(), 1u);
    EXPECT_TRUE(layer.order.empty());
    EXPECT_EQ(layer.groups[0].key.format, Format::q5_0);
    better += layer.groups[0].value.format == Format::q8_0 ? '1' : '0';
  }
  EXPECT_EQ(better, "10010011");
}

TEST(Plan, TheUsualMixFitsTheRows) {
  EXPECT_EQ(usual_mix(512), "mix=q4_K,values=q6_K");
  EXPECT_EQ(usual_mix(320), "mix=q5_0,values=q8_0");
  EXPECT_NE(error_of("mix=q4_0,rest=q8_0").find("should be values=G"), std::string::npos);
}

TEST(Plan, WeightedLowRanksTakeTheBytesOfPlainOnes) {
  const auto census = census_of();
  EXPECT_EQ(plan_bytes(make_plan("heavy=f16,rest=asvd:0.25", census), 64, false),
            plan_bytes(make_plan("heavy=f16,rest=svd:0.25", census), 64, false));
  EXPECT_EQ(Storage::parse("asvd:0.25", "").text(), "asvd:0.25");
  EXPECT_NE(error_of("all=asvd:0").find("asvd:SHARE"), std::string::npos);
}

}  // namespace
}  // namespace cajal::surgery
