#include "cajal/surgery/brick_operations.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "cajal/core/error.h"

namespace cajal::surgery {
namespace {

std::vector<int32_t> repeated(const std::string& words, size_t bytes = 800) {
  std::string out;
  while (out.size() < bytes) out += words;
  return byte_ids(out.substr(0, bytes));
}

/// Two texts without a byte in common.
const FunctionWorld& world() {
  static const FunctionWorld made = [] {
    const FunctionText texts[] = {{"letters", repeated("abba cab ")},
                                  {"digits", repeated("0123.")}};
    return make_function_world(texts,
                               {.width = 16,
                                .layers = 2,
                                .heads = 2,
                                .neurons = 32,
                                .context = 48,
                                .batch = 8,
                                .steps = 60,
                                .learning_rate = 1e-2},
                               80, 3);
  }();
  return made;
}

const std::vector<double>& at(const std::vector<Line>& lines, const std::string& name) {
  const auto found = std::find_if(lines.begin(), lines.end(),
                                  [&](const Line& line) { return line.first == name; });
  require(found != lines.end(), "no line '{}'", name);
  return found->second;
}

TEST(FunctionAnalyses, PruningTellsEveryFunctionAndItsControls) {
  const auto lines = pruning_lines(world(), 48, 0.1);
  EXPECT_EQ(lines.size(), 2u * 3 + 2 + 1);
  const auto& own = at(lines, "letters");
  ASSERT_EQ(own.size(), 3u);
  EXPECT_NEAR(own[2], own[0] / std::max(1e-6, own[1]), 1e-9 * std::abs(own[2]));
  EXPECT_EQ(at(lines, "overlap digits")[1], 1);
  EXPECT_LE(at(lines, "overlap digits")[0], 1);
}

TEST(FunctionAnalyses, SpecialisationAndCommunitiesAreToldTrainedAndUntrained) {
  const auto special = specialisation_lines(world(), 48, 5);
  EXPECT_EQ(at(special, "norms, tokens shuffled").size(), 2u);
  // No byte is in both texts: beyond the byte there is nothing to find.
  EXPECT_LE(at(special, "beyond the byte, tokens shuffled")[0], 0.1);
  const auto groups = community_lines(world(), 48, 4, 3);
  EXPECT_EQ(groups.size(), 4u);
  EXPECT_EQ(at(groups, "untrained, layer 1").size(), 6u);
}

TEST(FunctionAnalyses, ANetworkOfAllNeuronsLosesNothing) {
  const auto lines = network_lines(world(), 48, 32);
  for (const double added : at(lines, "mean")) EXPECT_NEAR(added, 0, 1e-5);
  EXPECT_THROW(network_lines(world(), 48, 33), Error);
}

TEST(FunctionAnalyses, ExcerptsFindTheBrickOfTheirOwnText) {
  EXPECT_EQ(retrieved_share(world(), 1), 1);
}

TEST(BrickOperations, MergesNameEveryRuleAndFoldExactly) {
  const auto lines = merging_lines(
      world(), {.tasks = {{"a", repeated("xyz")}, {"b", repeated("#!?")}}, .steps = 8, .seed = 1});
  EXPECT_LT(at(lines, "the brick of a alone")[0], at(lines, "base")[0]);
  EXPECT_LT(at(lines, "multi-task tuning of all weights")[2], at(lines, "base")[2]);
  for (const char* rule : {"average", "arithmetic", "ties", "dare"})
    EXPECT_NEAR(at(lines, rule)[2], (at(lines, rule)[0] + at(lines, rule)[1]) / 2, 1e-9);
  EXPECT_LT(at(lines, "exact")[0], 1e-5);
}

TEST(BrickOperations, EditsAreMeasuredBesideTuningAndTakenBack) {
  const auto lines = editing_lines(world(), {.facts = 2,
                                             .tuning_steps = 2,
                                             .calibration = 0.5,
                                             .edit = {.layer = 1, .steps = 25},
                                             .seed = 1});
  EXPECT_GT(std::abs(at(lines, "rank-one edits")[3]), 0);
  EXPECT_EQ(at(lines, "tuning all weights on the facts").size(), 4u);
  EXPECT_LT(at(lines, "exact")[0], 1e-4);
  EXPECT_EQ(at(lines, "exact")[1], 1);
}

TEST(BrickOperations, GrownNeuronsChangeNothingUntilTheyLearn) {
  const auto lines = growing_lines(world(), repeated("xyz"), 8, 20, 1);
  EXPECT_LT(at(lines, "birth")[0], 1e-6);
  EXPECT_EQ(at(lines, "before")[2], 0);
  EXPECT_GT(at(lines, "new neurons, all else frozen")[1], 0);
}

}  // namespace
}  // namespace cajal::surgery
