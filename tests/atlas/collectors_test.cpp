#include "cajal/atlas/collectors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <set>

#include "cajal/atlas/findings.h"
#include "cajal/core/random.h"

namespace cajal::atlas {
namespace {

constexpr int64_t kNeurons = 40, kWindow = 8, kVocabulary = 30, kUnit = 40;

std::vector<int32_t> text(int64_t tokens) {
  Random random(9);
  std::vector<int32_t> out;
  for (int64_t t = 0; t < tokens; ++t)
    out.push_back(static_cast<int32_t>(random.below(kVocabulary)));
  return out;
}

std::vector<float> inputs(int64_t tokens) {
  Random random(4);
  std::vector<float> out;
  for (int64_t k = 0; k < tokens * kNeurons; ++k)
    out.push_back(static_cast<float>(random.normal() - 0.5));
  return out;
}

LayerCensus census_of(const std::vector<int32_t>& ids, const std::vector<float>& pre, int64_t begin,
                      int64_t end, int64_t limit = 512) {
  ThreadPool threads(2);
  const std::vector<float> ones(kNeurons, 1);
  LayerCensus layer(ones, ones, false,
                    {.shapes = true,
                     .positions = kWindow,
                     .vocabulary = kVocabulary,
                     .orders = 3,
                     .gram_limit = limit});
  std::vector<float> post(pre);
  for (auto& x : post) x = std::max(0.0f, x);
  for (auto at = begin; at < end; at += kUnit) {  // a unit's doubles are added up before they count
    const auto count = std::min(kUnit, end - at);
    const auto part = [&](const std::vector<float>& all) {
      return std::span(all).subspan(at * kNeurons, count * kNeurons);
    };
    layer.add({.post = part(post),
               .pre = part(pre),
               .ids = ids,
               .first_token = at,
               .window = kWindow,
               .fired = {}},
              threads);
  }
  layer.tables.pack();
  return layer;
}

TEST(Collectors, CountByTokenAndPositionWhatFired) {
  const auto ids = text(64);
  const auto pre = inputs(64);
  const auto layer = census_of(ids, pre, 0, 64);
  for (const int64_t i : {0, 17, 39}) {
    std::vector<int64_t> tokens(kVocabulary), positions(kWindow);
    for (int64_t t = 0; t < 64; ++t)
      if (pre[t * kNeurons + i] > 0) ++tokens[ids[t]], ++positions[t % kWindow];
    for (const auto& [key, count] : layer.tables.tokens.of(i)) EXPECT_EQ(count, tokens[key]);
    for (const auto& [key, count] : layer.tables.positions.of(i)) EXPECT_EQ(count, positions[key]);
    EXPECT_EQ(layer.tables.tokens.of(i).size(),
              kVocabulary - std::count(tokens.begin(), tokens.end(), 0));
  }
}

TEST(Collectors, FindShapesOfTheInput) {
  const auto pre = inputs(4096);
  const auto layer = census_of(text(4096), pre, 0, 4096);
  const auto shape = layer.tables.moments.shape(3, 4096);
  double mean = 0, square = 0;
  for (int64_t t = 0; t < 4096; ++t) mean += pre[t * kNeurons + 3] / 4096.0;
  for (int64_t t = 0; t < 4096; ++t) square += std::pow(pre[t * kNeurons + 3] - mean, 2) / 4096;
  EXPECT_NEAR(shape.mean, mean, 1e-9);
  EXPECT_NEAR(shape.variance, square, 1e-9);
  EXPECT_NEAR(shape.kurtosis, 3, 0.5);
  EXPECT_NEAR(shape.skew, 0, 0.2);
}

TEST(Collectors, MergeIntoExactlyTheWhole) {
  const auto ids = text(160);
  const auto pre = inputs(160);
  for (const int64_t limit : {512, 20}) {  // with and without neurons that are given up
    const auto whole = census_of(ids, pre, 0, 160, limit);
    auto merged = census_of(ids, pre, 80, 160, limit);
    merged.merge(census_of(ids, pre, 0, 40, limit));
    merged.merge(census_of(ids, pre, 40, 80, limit));
    EXPECT_EQ(merged.tables, whole.tables);
    EXPECT_EQ(merged.fired, whole.fired);
  }
}

TEST(Collectors, PackedCountsComeBack) {
  const auto layer = census_of(text(64), inputs(64), 0, 64);
  auto tokens = layer.tables.tokens;
  tokens.unpack();
  tokens.pack();
  EXPECT_EQ(tokens, layer.tables.tokens);
}

TEST(Collectors, RefusePackedCountsThatAreNotSound) {
  EXPECT_THROW(KeyTable(5, {std::string("\x09\x01", 2)}), Error);  // key 8 of 5
  EXPECT_THROW(KeyTable(5, {std::string("\x01", 1)}), Error);      // no count
  EXPECT_THROW(KeyTable(5, {std::string("\x01\xff", 2)}), Error);  // a count without end
  EXPECT_THROW(KeyTable(5, {std::string("\x00\x01", 2)}), Error);  // no step
}

TEST(Histogram, BinsHoldTheirCentres) {
  for (int b = 0; b < Histogram::bins; ++b)
    EXPECT_EQ(Histogram::bin(static_cast<float>(Histogram::centre(b))), b);
  EXPECT_EQ(Histogram::bin(0.0f), Histogram::side);
  EXPECT_EQ(Histogram::bin(1e30f), Histogram::bins - 1);
  EXPECT_EQ(Histogram::bin(-1e30f), 0);
  EXPECT_EQ(Histogram::bin(1e-30f), Histogram::side);
}

TEST(GramTable, GivesUpANeuronWithTooMany) {
  GramTable table(2, 10, 2);
  for (uint64_t k = 0; k < 10; ++k) table.add(0, 100 + k, static_cast<int64_t>(k));
  EXPECT_FALSE(table.given_up(0));
  EXPECT_EQ(table.of(0).size(), 10u);
  table.add(0, 999, 50);
  EXPECT_TRUE(table.given_up(0));
  EXPECT_TRUE(table.of(0).empty());
}

TEST(GramTable, RemembersTheFirstOccurrence) {
  GramTable table(2, 10, 1);
  for (const int64_t last : {7, 3, 9}) table.add(0, 5, last);
  EXPECT_EQ(table.of(0), (std::vector<Gram>{{5, 3, 3}}));
}

Census counted(const std::vector<int32_t>& ids, const std::function<bool(int64_t t)>& fires) {
  ThreadPool threads(1);
  Census census{.model = "m", .text = "t", .text_hash = hash_bytes(std::as_bytes(std::span(ids)))};
  census.text_tokens = std::ssize(ids);
  census.context = kWindow, census.batch = 1, census.units = std::ssize(ids) / kWindow;
  census.covered = {{0, census.units}};
  census.layers = {{std::vector<float>(1, 1), std::vector<float>(1, 1), false,
                    Collectors{.positions = kWindow, .vocabulary = kVocabulary, .orders = 2}}};
  census.token_totals.resize(kVocabulary), census.position_totals.resize(kWindow);
  std::vector<float> a;
  for (int64_t t = 0; t < std::ssize(ids); ++t) {
    a.push_back(fires(t) ? 1 : -1);
    ++census.token_totals[ids[t]], ++census.position_totals[t % kWindow];
  }
  census.layers[0].add({.post = a, .pre = a, .ids = ids, .window = kWindow, .fired = {}}, threads);
  census.layers[0].tables.pack();
  return census;
}

TEST(Triggers, OfATokenDetectorAreItsTokens) {
  const auto ids = text(4000);
  const auto census = counted(ids, [&](int64_t t) { return ids[t] == 3 || ids[t] == 8; });
  const auto found = find_triggers(census, 0, 0, {.most = 5});
  EXPECT_EQ(found.order, 1);
  EXPECT_TRUE(found.pure);
  EXPECT_EQ(std::set<int64_t>(found.keys.begin(), found.keys.end()), (std::set<int64_t>{3, 8}));
}

TEST(Triggers, OfABigramDetectorAreBigrams) {
  const auto ids = text(40'000);
  const auto census =
      counted(ids, [&](int64_t t) { return t % kWindow > 0 && ids[t] == 3 && ids[t - 1] == 8; });
  EXPECT_FALSE(find_triggers(census, 0, 0).pure);
  const GramTotals totals(census, ids);
  const auto found = find_triggers(census, 0, 0, {}, &totals);
  EXPECT_EQ(found.order, 2);
  EXPECT_TRUE(found.pure);
  EXPECT_EQ(found.keys.size(), 1u);
  EXPECT_EQ(ids[found.keys[0]], 3);
}

TEST(Triggers, NeedEnoughFirings) {
  const auto ids = text(400);
  EXPECT_TRUE(find_triggers(counted(ids, [](int64_t t) { return t < 20; }), 0, 0).rare);
}

TEST(Positional, TellsRangesFromOscillations) {
  const auto ids = text(8000);
  const auto kind = [&](auto&& of_position) {
    return find_positional(counted(ids, [&](int64_t t) { return of_position(t % kWindow); }), 0, 0)
        .kind;
  };
  EXPECT_EQ(kind([](int64_t p) { return p >= 2 && p < 5; }), PositionKind::range);
  EXPECT_EQ(kind([](int64_t p) { return p % 2 == 0; }), PositionKind::oscillatory);
  EXPECT_EQ(kind([](int64_t) { return true; }), PositionKind::none);
}

TEST(Positional, InformationIsThatOfTheFormula) {
  EXPECT_NEAR(position_information(std::vector<double>{1, 0}), std::log(2.0), 1e-12);
  EXPECT_NEAR(position_information(std::vector<double>{0.3, 0.3, 0.3}), 0, 1e-12);
}

}  // namespace
}  // namespace cajal::atlas
