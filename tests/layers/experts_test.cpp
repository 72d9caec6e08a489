#include "cajal/layers/ffn/experts.h"

#include <gtest/gtest.h>

#include "cajal/layers/ffn/fff_nodes.h"
#include "cajal/layers/ffn/product_key.h"
#include "cajal/layers/ffn/shared.h"
#include "cajal/layers/layer.h"
#include "checks.h"
#include "gradcheck.h"

namespace cajal {
namespace {

using testing::difference;
using testing::message;

ExpertFeedForward network(RouterKind router, bool gated = false, int64_t active = 3,
                          MemoryPath path = MemoryPath::automatic) {
  torch::manual_seed(3);
  ExpertFeedForward out(ExpertFeedForwardOptions{.width = 6,
                                                 .neurons = 40,
                                                 .experts = 8,
                                                 .active = active,
                                                 .router = router,
                                                 .law = gated ? Activation::silu : Activation::relu,
                                                 .gated = gated,
                                                 .path = path});
  const torch::NoGradGuard no_grad;
  for (auto& p : out->parameters()) p.add_(torch::randn_like(p) * 0.3);
  out->eval();
  return out;
}

/// The dossier's words, one token and one expert at a time.
torch::Tensor naive(const ExpertFeedForwardImpl& m, const torch::Tensor& x) {
  auto y = torch::zeros_like(x);
  const int64_t size = m.options.neurons / m.options.experts;
  for (int64_t t = 0; t < x.size(0); ++t) {
    const auto key = torch::mv(m.key, x[t]) + m.bias_key;
    const auto act = m.options.gated
                         ? activate(m.options.law, torch::mv(m.gate, x[t]) + m.bias_gate) * key
                         : activate(m.options.law, key);
    torch::Tensor scores;
    if (m.options.router == RouterKind::similarity)
      scores = torch::mv(m.first, x[t]);
    else if (m.options.router == RouterKind::mlp)
      scores = torch::mv(m.second, torch::tanh(torch::mv(m.first, x[t] / x[t].norm())));
    else
      scores = (m.options.gated ? act.abs() : act.clamp_min(0)).view({-1, size}).sum(1);
    y[t] += m.bias_value;
    const auto order = scores.argsort(0, /*descending=*/true);
    for (int64_t k = 0; k < m.options.active; ++k) {
      const auto e = order[k].item<int64_t>();
      y[t] += torch::mv(m.value.slice(0, e * size, (e + 1) * size).t(),
                        act.slice(0, e * size, (e + 1) * size));
    }
  }
  return y;
}

TEST(ExpertFeedForward, EveryPathIsTheSumOverTheChosenExperts) {
  const torch::NoGradGuard no_grad;
  for (const auto router : {RouterKind::oracle, RouterKind::similarity, RouterKind::mlp})
    for (const bool gated : {false, true})
      for (const auto path :
           {MemoryPath::masked, MemoryPath::gather, MemoryPath::grouped, MemoryPath::automatic})
        for (const int64_t tokens : {1, 50}) {
          auto m = network(router, gated, 3, path);
          const auto x = torch::randn({tokens, 6});
          EXPECT_LT(difference(m->forward(x), naive(*m, x)), 1e-5);
        }
}

TEST(ExpertFeedForward, AllExpertsAreTheDenseNetwork) {
  const torch::NoGradGuard no_grad;
  for (const auto path : {MemoryPath::masked, MemoryPath::gather, MemoryPath::grouped}) {
    auto m = network(RouterKind::mlp, false, 8, path);
    const auto x = torch::randn({2, 5, 6});
    const auto dense = torch::linear(torch::relu(torch::linear(x, m->key, m->bias_key)),
                                     m->value.t(), m->bias_value);
    EXPECT_LT(difference(m->forward(x), dense), 1e-5);
  }
}

TEST(ExpertFeedForward, TheRouterStartsFromTheCentresAndTheIdentity) {
  const ExpertFeedForward m(ExpertFeedForwardOptions{.width = 4, .neurons = 6, .experts = 3});
  const auto unit = m->key / m->key.norm(2, 1, true);
  EXPECT_LT(difference(m->first, (unit.slice(0, 0, 6, 2) + unit.slice(0, 1, 6, 2)) / 2), 1e-6);
  EXPECT_EQ(difference(m->second, torch::eye(3)), 0);
}

TEST(ExpertFeedForward, HasTheGradientOfItsFunction) {
  for (const auto path : {MemoryPath::masked, MemoryPath::gather, MemoryPath::grouped}) {
    auto m = network(RouterKind::mlp, true, 3, path);
    m->to(torch::kDouble);
    const auto x = torch::randn({5, 6}, torch::kDouble);
    EXPECT_LT(testing::gradient_error([&] { return m->forward(x); },
                                      {x, m->key, m->gate, m->value, m->bias_key, m->bias_gate}),
              1e-6);
  }
}

TEST(ExpertFeedForward, ANumberThatIsNoneStaysOneAndNoTokensGiveNone) {
  for (const auto path : {MemoryPath::masked, MemoryPath::gather, MemoryPath::grouped}) {
    auto m = network(RouterKind::mlp, false, 3, path);
    EXPECT_TRUE(m->forward(torch::full({2, 6}, NAN)).isnan().all().item<bool>());
    EXPECT_EQ(m->forward(torch::zeros({0, 6})).sizes(), (torch::IntArrayRef{0, 6}));
  }
}

TEST(ExpertFeedForward, RefusesOptionsThatDoNotFit) {
  const auto refuses = [](const ExpertFeedForwardOptions& options, const std::string& words) {
    const auto said = message([&] { ExpertFeedForward{options}; });
    EXPECT_NE(said.find(words), std::string::npos) << said;
  };
  refuses({.width = 4, .neurons = 10, .experts = 3}, "3 experts do not divide 10 neurons");
  refuses({.width = 4, .neurons = 10, .experts = 0}, "0 experts do not divide 10 neurons");
  refuses({.width = 4, .neurons = 10, .experts = 5, .active = 6}, "active is 6, expected 1 to 5");
  refuses({.width = 4, .neurons = 10, .experts = 5, .active = 0}, "active is 0, expected 1 to 5");
  refuses({.width = 0, .neurons = 10, .experts = 5}, "width and neurons must be positive");
  EXPECT_NE(message([] {
              network(RouterKind::mlp)->forward(torch::zeros({2, 5}));
            }).find("expected [..., width] with width = 6"),
            std::string::npos);
}

TEST(Captured, IsTheShareOfTheBestThatTheChosenHave) {
  const auto gains = torch::tensor({4.f, 2.f, 1.f, 0.f, 0.f, 0.f}).view({2, 3});
  const auto scores = torch::tensor({0.f, 1.f, 2.f, 1.f, 0.f, 0.f}).view({2, 3});
  EXPECT_NEAR(experts::captured(scores, gains, 1), (0.25 + 1) / 2, 1e-6);
  EXPECT_NEAR(experts::captured(scores, gains, 2), (0.5 + 1) / 2, 1e-6);
  EXPECT_NEAR(experts::captured(gains, gains, 2), 1, 1e-6);
}

// The limits of the other sparse layers' options; those of trees and memories stand in their tests.
TEST(SparseLayers, RefuseOptionsBeyondTheirLimits) {
  const auto refuses = [](const char* layer, const Json& options, const std::string& words) {
    const auto said = message([&] { layers::build(layer, options); });
    EXPECT_NE(said.find(words), std::string::npos) << said;
  };
  refuses("fff_nodes", {{"width", 4}, {"depth", 40}}, "depth is 40, expected 0 to 24");
  refuses("fff_nodes", {{"width", 4}, {"depth", -1}}, "depth is -1, expected 0 to 24");
  refuses("fff_nodes", {{"width", 4}, {"trees", 0}}, "trees is 0, expected at least 1");
  refuses("product_key_memory", {{"width", 4}, {"sub_keys", 2}, {"top", 5}},
          "top is 5, expected 1 to 4 (values)");
  refuses("product_key_memory", {{"width", 4}, {"sub_keys", 0}}, "sub_keys is 0");
  refuses("product_key_memory", {{"width", 5}, {"sub_keys", 2}},
          "key_width is 5, expected an even");
  refuses("dense_feed_forward", {{"width", 4}, {"neurons", 0}}, "positive");
  refuses("gated_feed_forward", {{"width", 4}, {"neurons", 0}}, "positive");
  refuses("shared_feed_forward", {{"width", 4}, {"neurons", 0}, {"plan", {"own"}}}, "positive");
  refuses("shared_feed_forward", {{"width", 4}, {"neurons", 4}, {"plan", Json::array()}},
          "plan is empty");
}

TEST(FffNodes, DepthZeroIsOneNeuronATree) {
  FffNodes m(FffNodesOptions{.width = 3, .trees = 4});
  const auto x = torch::randn({5, 3});
  const auto dense = activate(Activation::gelu, torch::linear(x, m->w_in, m->b_in)).mm(m->w_out);
  EXPECT_LT(difference(m->infer(x), dense), 1e-5);
}

TEST(ProductKeyMemory, ANumberThatIsNoneStaysOne) {
  ProductKeyMemory m(ProductKeyMemoryOptions{.width = 4, .sub_keys = 4, .top = 2});
  EXPECT_TRUE(m->forward(torch::full({2, 4}, NAN)).isnan().all().item<bool>());
}

}  // namespace
}  // namespace cajal
