#include "cajal/core/registry.h"

#include "core/scratch.h"

namespace {

TEST(Registry, SaysWhichNameWasMeant) {
  cajal::Registry<int> registry("layer");
  registry.add("gated", 1);
  registry.add("dense", 2);
  EXPECT_EQ(registry.at("gated"), 1);
  EXPECT_EQ(error_of([&] { registry.at("gatde"); }),
            "no layer is called 'gatde'; did you mean 'gated'?");
  EXPECT_EQ(error_of([&] { registry.at("transformer"); }), "no layer is called 'transformer'");
}

TEST(Registry, RefusesATakenName) {
  cajal::Registry<int> registry("layer");
  registry.add("dense", 1);
  EXPECT_EQ(error_of([&] { registry.add("dense", 2); }), "layer 'dense' is registered twice");
}

TEST(Registry, ListsNamesInOrder) {
  cajal::Registry<int> registry("layer");
  for (const char* name : {"b", "c", "a"}) registry.add(name, 0);
  EXPECT_EQ(registry.names(), (std::vector<std::string_view>{"a", "b", "c"}));
}

TEST(DidYouMean, PicksTheNearestAndNothingFarAway) {
  EXPECT_EQ(cajal::did_you_mean("widht", {"height", "width", "depth"}), "; did you mean 'width'?");
  EXPECT_EQ(cajal::did_you_mean("x", {}), "");
  EXPECT_EQ(cajal::did_you_mean("colour", {"neurons"}), "");
  EXPECT_EQ(cajal::did_you_mean(std::string(10'000, 'x'), {"width"}), "");
}

}  // namespace
