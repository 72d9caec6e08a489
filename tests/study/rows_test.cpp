#include "cajal/study/rows.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"
#include "checks.h"

namespace cajal::study {
namespace {

using testing::message;

TEST(Rows, HaveAFigureASeed) {
  Lab lab("rows", {.scale = Scale::smoke, .seeds = 2});
  const Rows rows(lab, "both", [](uint64_t seed) {
    const auto s = static_cast<double>(seed);
    return std::vector<Row>{{"a", {s, 10 + s}}, {"b", {NAN}}};
  });
  EXPECT_EQ(rows.at("a", 1).values, (std::vector<double>{10, 11}));
  EXPECT_TRUE(std::isnan(rows.at("b").mean()));
  EXPECT_NE(message([&] { rows.at("c"); }).find("both: no line 'c'"), std::string::npos);
  EXPECT_THROW(rows.at("a", 2), Error);
}

TEST(Rows, RefuseSeedsThatMeasureOtherLines) {
  Lab lab("rows", {.scale = Scale::smoke, .seeds = 2});
  const auto of = [&](const std::function<std::vector<Row>(uint64_t)>& run) {
    return message([&] { Rows(lab, "part", run); });
  };
  EXPECT_NE(
      of([](uint64_t seed) { return std::vector<Row>(1 + seed); }).find("seed 1 gave 2 lines"),
      std::string::npos);
  EXPECT_NE(of([](uint64_t seed) {
              return std::vector<Row>{{seed == 0 ? "a" : "b", {1}}};
            }).find("'b' with 1 numbers"),
            std::string::npos);
}

}  // namespace
}  // namespace cajal::study
