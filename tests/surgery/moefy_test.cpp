#include "cajal/surgery/moefy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "cajal/atlas/measure.h"
#include "cajal/engine/network.h"
#include "cajal/layers/ffn/experts.h"
#include "cajal/models/lm/summary.h"
#include "cajal/surgery/selection.h"
#include "cajal/surgery/share.h"
#include "cajal/surgery/split.h"
#include "cajal/surgery/write.h"
#include "models/tiny.h"

namespace cajal::surgery {
namespace {

using lm::testing::difference;
using lm::testing::message;

std::vector<int32_t> text(int64_t tokens = 640) {
  std::vector<int32_t> out;
  for (int64_t i = 0; i < tokens; ++i) out.push_back(static_cast<int32_t>((i * i + 3 * i) % 50));
  return out;
}

Json relu_opt() {
  auto json = lm::testing::tiny_opt();
  json["do_layer_norm_before"] = true;
  return json;
}

torch::Tensor logits(lm::Transformer& model, int64_t tokens = 8) {
  const torch::NoGradGuard no_grad;
  return model->forward(lm::testing::some_ids(1, tokens));
}

/// What the engine says of the same tokens, `at_a_time` of them in a pass.
torch::Tensor engine_logits(const std::filesystem::path& folder, int64_t tokens,
                            int64_t at_a_time) {
  const auto network = engine::Network::open(folder, {.arithmetic = engine::Arithmetic::exact});
  ThreadPool threads(2);
  engine::Cache cache(network.config(), tokens, CacheFormat::f32);
  const auto ids = lm::testing::some_ids(1, tokens).to(torch::kInt).contiguous();
  std::vector<float> all;
  for (int64_t at = 0; at < tokens; at += at_a_time) {
    const auto out = network.forward({ids.data_ptr<int32_t>() + at, static_cast<size_t>(at_a_time)},
                                     at_a_time, cache, threads);
    all.insert(all.end(), out.begin(), out.end());
  }
  return torch::tensor(all).view({1, tokens, -1});
}

TEST(Moefy, ClusteredNeuronsComputeWhatTheyDid) {
  for (const auto& json : {relu_opt(), lm::testing::tiny_llama(), lm::testing::tiny_gpt2()}) {
    auto model = lm::testing::tiny_model(json);
    const auto before = logits(model);
    auto sorted = clustered(model, 4);
    EXPECT_LT(difference(logits(sorted), before), 1e-4);
    EXPECT_FALSE(
        neuron_rows(sorted->blocks[0].ffn).key.equal(neuron_rows(model->blocks[0].ffn).key));
    EXPECT_THROW(clustered(model, 7), Error);
  }
}

TEST(Moefy, AllExpertsAreTheDenseModel) {
  for (const auto& json :
       {relu_opt(), lm::testing::tiny_llama(), lm::testing::tiny_gpt2(), lm::testing::tiny_phi3()})
    for (const auto split : {ExpertSplit::kmeans, ExpertSplit::coactivation, ExpertSplit::activity,
                             ExpertSplit::random}) {
      auto model = lm::testing::tiny_model(json);
      const auto dense = logits(model);
      moefy(model, text(), {.experts = 8, .ratio = 1, .split = split, .training = {.epochs = 1}});
      EXPECT_LT(difference(logits(model), dense), 1e-4);
    }
}

TEST(Moefy, AWrittenModelIsTheOneInMemoryInLibtorchAndInTheEngine) {
  const lm::testing::Folder folder;
  for (const auto& json : {relu_opt(), lm::testing::tiny_llama()})
    for (const int64_t experts : {2, 4, 8})  // of 32, 16 and 8 neurons
      for (const auto router : {RouterKind::mlp, RouterKind::similarity, RouterKind::oracle}) {
        const auto path =
            folder.path() / fmt::format("{}-{}-{}", json["model_type"].get<std::string>(), experts,
                                        to_name(router));
        auto model = lm::testing::tiny_model(json);
        lm::save(model, folder.path() / "source", Dtype::f32);
        moefy(model, text(), {.experts = experts, .active = 1, .router = router});
        const auto expected = logits(model);
        write(model, folder.path() / "source", path);
        auto read = lm::load(path);
        EXPECT_LT(difference(logits(read), expected), 1e-4);
        for (const int64_t at_a_time : {1, 8})
          EXPECT_LT(difference(engine_logits(path, 8, at_a_time), expected), 1e-3)
              << path << " " << at_a_time;
      }
}

TEST(Moefy, LeavesOutWhatTheUnchosenExpertsWrite) {
  auto model = lm::testing::tiny_model(relu_opt());
  moefy(model, text(), {.experts = 8, .active = 2});
  lm::Hooks hooks;
  int points = 0;
  hooks.add("blocks.*.mlp.hook_post", [&](std::string_view, const torch::Tensor& post) {
    const auto used = (post.view({1, 8, 8, 8}) != 0).any(-1).sum(-1);
    EXPECT_LE(used.max().item<int64_t>(), 2);
    ++points;
    return torch::Tensor();
  });
  lm::Pass pass;
  pass.hooks = &hooks;
  const torch::NoGradGuard no_grad;
  const auto hooked = model->forward(lm::testing::some_ids(1, 8), pass);
  EXPECT_EQ(points, 2);
  EXPECT_LT(difference(hooked, logits(model)), 1e-4);
}

TEST(Moefy, CanBeQuantisedAfterwards) {
  const lm::testing::Folder folder;
  auto model = lm::testing::tiny_model(relu_opt());
  lm::save(model, folder.path() / "source", Dtype::f32);
  moefy(model, text(), {.experts = 2, .active = 1});
  const auto census = atlas::blank(model);
  split(model, make_plan("all=q8_0", census), census);
  const auto expected = logits(model);
  write(model, folder.path() / "source", folder.path() / "out");
  auto read = lm::load(folder.path() / "out");
  EXPECT_LT(difference(logits(read), expected), 1e-4);
  EXPECT_LT(difference(engine_logits(folder.path() / "out", 8, 1), expected), 0.2);
  EXPECT_NE(message([&] {
              split(model, make_plan("heavy=q8_0,rest=q4_0", census), census);
            }).find("keep their places"),
            std::string::npos);
}

TEST(Moefy, ReadsItsShareOfTheFfnForAToken) {
  auto model = lm::testing::tiny_model(relu_opt());
  const auto before = lm::summarise(model);
  moefy(model, text(), {.experts = 4, .active = 1});
  const auto after = lm::summarise(model);
  const int64_t matrices = 2 * 2 * 64 * 32 * 4, routers = 2 * (4 * 32 + 4 * 4) * 2;
  EXPECT_EQ(after.bytes_per_token, before.bytes_per_token - matrices * 3 / 4 + routers);
}

TEST(Moefy, TuningKeepsTheExperts) {
  const lm::testing::Folder folder;
  auto model = lm::testing::tiny_model(relu_opt());
  lm::save(model, folder.path() / "source", Dtype::f32);
  moefy(model, text(), {.experts = 4, .active = 2});
  tune(model, SharePlan::own(2), text(), {.steps = 2, .batch = 2, .context = 16});
  const auto expected = logits(model);
  write(model, folder.path() / "source", folder.path() / "out");
  auto read = lm::load(folder.path() / "out");
  EXPECT_TRUE(read->blocks[0].ffn.experts);
  EXPECT_LT(difference(logits(read), expected), 1e-4);
}

TEST(Moefy, CompensationAddsTheMeanOfWhatIsLeftOut) {
  auto model = lm::testing::tiny_model(relu_opt()), other = lm::testing::tiny_model(relu_opt());
  moefy(model, text(), {.experts = 8, .active = 1});
  moefy(other, text(), {.experts = 8, .active = 1, .compensate = true});
  EXPECT_GT(difference(model->blocks[0].ffn.value_bias, other->blocks[0].ffn.value_bias), 1e-3);
  auto llama = lm::testing::tiny_model(lm::testing::tiny_llama());
  EXPECT_NE(message([&] {
              moefy(llama, text(), {.experts = 8, .compensate = true});
            }).find("the FFNs of this model have none"),
            std::string::npos);
}

TEST(Moefy, SpreadsAsManyExpertsOverTheLayersWhereTheyDoMost) {
  // Layer 0: one expert does everything; layer 1: all four alike.
  const auto one = torch::tensor({{1.f, 0.f, 0.f, 0.f}, {0.f, 0.f, 2.f, 0.f}});
  const auto alike = torch::ones({2, 4});
  EXPECT_EQ(spread({one, alike}, 4), (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(spread({alike, one}, 2), (std::vector<int64_t>{1, 1}));
  EXPECT_EQ(spread({one, one}, 8), (std::vector<int64_t>{4, 4}));
  EXPECT_THROW(spread({one, alike}, 1), Error);
  EXPECT_THROW(spread({one, alike}, 9), Error);
}

TEST(Moefy, SharesByGainsKeepTheTotal) {
  auto model = lm::testing::tiny_model(relu_opt());
  moefy(model, text(), {.experts = 8, .active = 3, .shares = LayerShares::by_gains});
  int64_t total = 0;
  for (size_t l = 0; l < model->blocks.size(); ++l) {
    EXPECT_EQ(model->blocks[l].ffn.experts->active, model->layout.experts->active[l]);
    total += model->layout.experts->active[l];
  }
  EXPECT_EQ(total, 3 * std::ssize(model->blocks));
}

TEST(ExpertOrder, ByActivityFindsNeuronsThatFireTogetherWhateverTheirKeys) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(1);
  const auto together = torch::rand({200, 4}) < 0.2;  // 4 hidden experts of 8 neurons
  const auto place = torch::randperm(32, torch::kLong);
  const auto writes = (together.index_select(1, torch::arange(32).remainder(4)).to(torch::kFloat) *
                       (1 + 0.2 * torch::rand({200, 32})))
                          .index_select(1, place);
  const auto order =
      expert_order(ExpertSplit::activity, torch::randn({32, 16}), writes, 4, 1).order;
  for (size_t i = 0; i < order.size(); ++i)
    EXPECT_EQ(place[order[i]].item<int64_t>() % 4, place[order[i / 8 * 8]].item<int64_t>() % 4);
}

TEST(Selection, ChoosesOtherNumbersByOtherRouters) {
  auto model = lm::testing::tiny_model(relu_opt());
  const auto dense = logits(model);
  EXPECT_THROW(Selection{model}, Error);
  moefy(model, text(), {.experts = 8, .active = 2});
  const Selection selection(model);
  selection.use(model, RouterKind::oracle, 1);
  EXPECT_LT(difference(logits(model), dense), 1e-4);
  selection.use(model, RouterKind::similarity);
  EXPECT_EQ(model->blocks[1].ffn.experts->active, 2);
  lm::Hooks hooks;
  selection.use_random(model, 0.25, hooks);
  EXPECT_FALSE(model->blocks[0].ffn.experts);
  EXPECT_FALSE(hooks.empty());
}

TEST(Moefy, RefusesExpertsAndSharesThatDoNotFit) {
  const auto refuses = [](MoefyOptions options, const std::string& words) {
    auto model = lm::testing::tiny_model(relu_opt());
    const auto said = message([&] { moefy(model, text(), options); });
    EXPECT_NE(said.find(words), std::string::npos) << said;
    EXPECT_FALSE(model->layout.experts);
  };
  refuses({.experts = 7}, "7 experts do not divide 64 neurons");
  refuses({.experts = 65}, "65 experts do not divide 64 neurons");
  refuses({.experts = -1}, "-1 experts, expected 1 to 64");
  refuses({.experts = 8, .ratio = 0}, "ratio is 0, expected above 0 and at most 1");
  refuses({.experts = 8, .ratio = 1.5}, "ratio is 1.5, expected above 0 and at most 1");
  refuses({.experts = 8, .ratio = NAN}, "ratio is nan");
  refuses({.experts = 8, .active = 9}, "9 active of 8 experts, expected 1 to 8");
  refuses({.experts = 8, .active = -1}, "-1 active of 8 experts, expected 1 to 8");
}

TEST(Moefy, ARatioIsRoundedUpToWholeExperts) {
  EXPECT_EQ(expert_counts({.experts = 40, .ratio = 0.25}, 1280).active, 10);
  EXPECT_EQ(expert_counts({.experts = 38, .ratio = 0.25}, 1216).active, 10);
  EXPECT_EQ(expert_counts({.experts = 8, .ratio = 1e-6}, 64).active, 1);
  EXPECT_EQ(expert_counts({.ratio = 1}, 1216).experts, 38);
  EXPECT_EQ(expert_counts({.ratio = 1}, 640).experts, 40);
}

TEST(Moefy, RefusesTextThatIsEmptyOrTooShort) {
  auto model = lm::testing::tiny_model(relu_opt());
  EXPECT_NE(message([&] { moefy(model, {}, {.experts = 8}); }).find("has 0 tokens"),
            std::string::npos);
  EXPECT_NE(message([&] { moefy(model, text(1), {.experts = 8}); }).find("has 1 tokens"),
            std::string::npos);
}

TEST(Moefy, NamesTheLayerWhoseActivationsAreNotFinite) {
  auto model = lm::testing::tiny_model(relu_opt());
  {
    const torch::NoGradGuard no_grad;
    model->blocks[1].ffn.groups[0].key.stored()[3][2] = NAN;
  }
  EXPECT_EQ(message([&] { moefy(model, text(), {.experts = 8}); }),
            "moefy: the activations of layer 1 are not finite");
  EXPECT_FALSE(model->layout.experts);
}

TEST(Moefy, RefusesAModelThatIsCutAlready) {
  auto model = lm::testing::tiny_model(relu_opt());
  moefy(model, text(), {.experts = 8});
  EXPECT_EQ(message([&] { moefy(model, text(), {.experts = 8}); }),
            "moefy: this model is cut into experts already");
}

TEST(Share, NamesActivationsThatAreNotFinite) {
  auto model = lm::testing::tiny_model(lm::testing::tiny_llama());
  {
    const torch::NoGradGuard no_grad;
    model->blocks[0].ffn.groups[0].key.stored()[3][2] = NAN;
  }
  EXPECT_NE(message([&] { ffn_likeness(model, text(), 256); }).find("finite"), std::string::npos);
  EXPECT_NE(message([&] { ffn_likeness(model, {}, 256); }).find("0 tokens"), std::string::npos);
}

TEST(Share, TheEngineRunsASharedModel) {
  const lm::testing::Folder folder;
  auto model = lm::testing::tiny_model(lm::testing::tiny_llama());
  lm::save(model, folder.path() / "source", Dtype::f32);
  auto form = shared(model, SharePlan::parse("shared:a,shared:a", 2));
  write(form, folder.path() / "source", folder.path() / "out");
  EXPECT_LT(difference(engine_logits(folder.path() / "out", 8, 8), logits(form)), 1e-3);
}

TEST(TrainRouter, AnMlpCapturesMoreThanItsStart) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(1);
  const auto x = torch::randn({600, 16}), hidden = torch::randn({8, 16});
  const auto gains = torch::relu(x.mm(hidden.t()));
  const auto centres = torch::randn({8, 16});
  const auto before = train_router(RouterKind::similarity, centres, x, gains, 2);
  const auto after = train_router(RouterKind::mlp, centres, x, gains, 2, {.batch = 64});
  EXPECT_GT(after.captured, before.captured + 0.2);
  EXPECT_EQ(train_router(RouterKind::oracle, centres, x, gains, 2).captured, 1);
}

TEST(Relufy, LeavesANetworkOfReluNeurons) {
  auto json = lm::testing::tiny_gpt2();
  auto model = lm::testing::tiny_model(json);
  relufy(model, text(), 2);
  EXPECT_EQ(model->config.law, Activation::relu);
  EXPECT_FALSE(model->blocks[0].ffn.groups[0].key.stored().requires_grad());
  EXPECT_NE(message([&] { relufy(model, text(), 0); }).find("0 steps"), std::string::npos);
}

}  // namespace
}  // namespace cajal::surgery
