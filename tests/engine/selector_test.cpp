#include "cajal/engine/selector.h"

#include <gtest/gtest.h>

#include "kernels/numbers.h"

namespace cajal::engine {
namespace {

/// A bank of f32 neurons, in an order, for selectors to choose from.
struct Fixture {
  explicit Fixture(int64_t neurons = 96, std::vector<int32_t> order = {})
      : weights(normals(neurons * 32, 1)) {
    NeuronRows rows;
    rows.key = rows.value = row_matrix(Format::f32, weights.data(), neurons, 32, "test");
    BankPlan plan;
    plan.order = std::move(order);
    bank.emplace_back(rows, Law::relu, plan, "test");
  }
  std::vector<float> weights;
  std::vector<NeuronBank> bank;
};

std::vector<std::vector<int32_t>> chosen(const Selector& selector, const std::vector<float>& x) {
  Selection selection;
  ThreadPool pool(2);
  const auto batch = static_cast<int64_t>(x.size()) / 32;
  selector.choose(x.data(), batch, pool, selection);
  std::vector<std::vector<int32_t>> out;
  for (int64_t b = 0; b < batch; ++b)
    out.emplace_back(selection.of(b).begin(), selection.of(b).end());
  return out;
}

TEST(Selector, OfFixedGroupsGivesThemAscendingAndOnceToEveryToken) {
  const std::vector<int32_t> expected = {0, 2};
  EXPECT_EQ(chosen(select_groups({2, 0, 2}), std::vector<float>(64)),
            (std::vector{expected, expected}));
}

TEST(Selector, PredictorChoosesPlacesWithALogitOfAtLeastItsBorder) {
  std::vector<int32_t> order(96);
  for (int32_t i = 0; i < 96; ++i) order[i] = 95 - i;
  const Fixture fixture(96, order);
  for (const auto law : {Law::identity, Law::relu})
    for (const auto format : {Format::f32, Format::bf16}) {
      const auto down = normals(8 * 32, 2), up = normals(96 * 8, 3), x = normals(3 * 32, 4);
      std::vector<uint8_t> down_bytes(8 * row_bytes(format, 32)),
          up_bytes(96 * row_bytes(format, 8));
      encode_row(format, down.data(), 8 * 32, down_bytes.data());
      encode_row(format, up.data(), 96 * 8, up_bytes.data());
      Predictor predictor;
      predictor.down = row_matrix(format, down_bytes.data(), 8, 32, "down");
      predictor.up = row_matrix(format, up_bytes.data(), 96, 8, "up");
      predictor.shift = normals(96, 5);
      predictor.law = law, predictor.least = 4;
      std::vector<float> a(8 * 32), c(96 * 8);
      decode_row(format, down_bytes.data(), 8 * 32, a.data());
      decode_row(format, up_bytes.data(), 96 * 8, c.data());
      std::vector<std::vector<int32_t>> places(3), groups(3);
      for (int64_t b = 0; b < 3; ++b) {
        for (int32_t place = 0; place < 96; ++place) {
          const int32_t neuron = order[place];
          double logit = predictor.shift[neuron];
          for (int64_t r = 0; r < 8; ++r) {
            double hidden = 0;
            for (int64_t i = 0; i < 32; ++i) hidden += double{a[r * 32 + i]} * x[b * 32 + i];
            if (law == Law::relu) hidden = std::max(hidden, 0.0);
            logit += hidden * c[neuron * 8 + r];
          }
          if (logit < 4) continue;
          places[b].push_back(place);
          if (groups[b].empty() || groups[b].back() != place / 32) groups[b].push_back(place / 32);
        }
        EXPECT_FALSE(places[b].empty());
      }
      EXPECT_EQ(chosen(predict(predictor, fixture.bank[0], Selection::Unit::places), x), places);
      EXPECT_EQ(chosen(predict(predictor, fixture.bank[0], Selection::Unit::groups), x), groups);
      EXPECT_EQ(predict(predictor, fixture.bank[0], Selection::Unit::groups).bytes,
                8 * row_bytes(format, 32) + 96 * row_bytes(format, 8));
    }
}

TEST(Selector, RouterChoosesTheGroupsOfTheBestExperts) {
  const Fixture fixture(160);
  std::vector<float> router(3 * 32);
  router[0] = 1, router[32 + 1] = 1, router[64 + 2] = 1;  // expert e hears input e
  const auto matrix = row_matrix(Format::f32, router.data(), 3, 32, "router");
  const auto selector =
      route({.first = matrix, .bias = {0, 0, 0.5f}}, {0, 2, 2, 5}, 2, fixture.bank[0]);
  std::vector<float> x(64);
  x[0] = 1, x[1] = 2, x[2] = 0;  // experts 1 (no groups) and 0
  x[32] = 1, x[33] = 0, x[34] = 3;
  EXPECT_EQ(chosen(selector, x), (std::vector<std::vector<int32_t>>{{0, 1}, {0, 1, 2, 3, 4}}));
}

TEST(Selector, TreeChoosesTheGroupsOfALeafAndRefusesLeavesThatAreNot) {
  const Fixture fixture;
  const auto selector = descend(
      [](const float* x, int64_t batch, int32_t* out) {
        for (int64_t b = 0; b < batch; ++b) out[b] = static_cast<int32_t>(x[32 * b]);
      },
      {0, 1, 3}, 10, fixture.bank[0]);
  std::vector<float> x(64);
  x[0] = 1;
  EXPECT_EQ(chosen(selector, x), (std::vector<std::vector<int32_t>>{{1, 2}, {0}}));
  x[0] = 2;
  EXPECT_THROW(chosen(selector, x), Error);
}

TEST(Selector, RefusesPartsThatDoNotFitTheBank) {
  const Fixture fixture;
  const auto values = normals(200 * 32, 2);
  const auto matrix = [&](int64_t rows, int64_t width) {
    return row_matrix(Format::f32, values.data(), rows, width, "test");
  };
  const auto& bank = fixture.bank[0];
  const auto places = Selection::Unit::places;
  EXPECT_THROW(predict({matrix(8, 31), matrix(96, 8), {}}, bank, places), Error);
  EXPECT_THROW(predict({matrix(8, 32), matrix(96, 9), {}}, bank, places), Error);
  EXPECT_THROW(predict({matrix(8, 32), matrix(95, 8), {}}, bank, places), Error);
  EXPECT_THROW(predict({matrix(8, 32), matrix(96, 8), {1}}, bank, places), Error);
  EXPECT_THROW(route({matrix(2, 32)}, {0, 1, 4}, 1, bank), Error);
  EXPECT_THROW(route({matrix(2, 32)}, {0, 1, 3}, 3, bank), Error);
  EXPECT_THROW(route({matrix(3, 32)}, {0, 1, 3}, 1, bank), Error);
}

TEST(GroupEnergy, TopGivesTheGroupsWithTheMost) {
  GroupEnergy energy;
  energy.of_group = {1, 5, 0, 3};
  EXPECT_EQ(energy.top(0.5), (std::vector<int32_t>{1, 3}));
  EXPECT_EQ(energy.top(0), std::vector<int32_t>{});
  EXPECT_THROW(energy.top(1.5), Error);
}

}  // namespace
}  // namespace cajal::engine
