#include "cajal/study/choice.h"

#include <gtest/gtest.h>

#include <cmath>

namespace {
using namespace cajal;

TEST(Choices, TakeTheCandidateOfLargestQualityTheFirstOfEquals) {
  study::Lab lab("functional-networks", {});
  study::Choices choices(lab);
  EXPECT_EQ(choices.best("rate", {1, 2, 3, 4}, [](double v) { return std::min(v, 3.0); }), 3);
}

TEST(Choices, PassOverOneThatDivergesAndOneWithoutANumber) {
  study::Lab lab("functional-networks", {});
  study::Choices choices(lab);
  EXPECT_EQ(choices.best("rate", {1, 2, 3},
                         [](double v) {
                           if (v == 3) fail("training diverged");
                           return v == 2 ? std::nan("") : 0.5;
                         }),
            1);
}

TEST(Choices, ThrowWhatTheLastOneThrewWhenAllDo) {
  study::Lab lab("functional-networks", {});
  study::Choices choices(lab);
  EXPECT_THROW(choices.best("rate", {1, 2}, [](double) -> double { fail("diverged"); }), Error);
  EXPECT_THROW(choices.best("rate", {}, [](double) { return 1.0; }), Error);
}

TEST(Choices, OfASmokeRunTryTheFirstAlone) {
  study::Lab lab("functional-networks", {.scale = study::Scale::smoke});
  study::Choices choices(lab);
  int tried = 0;
  choices.best("rate", {1, 2, 3}, [&](double v) { return ++tried, v; });
  EXPECT_EQ(tried, 1);
}

}  // namespace
