#include "cajal/atlas/described_world.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace cajal::atlas {
namespace {

DescribedWorldOptions tiny() {
  DescribedWorldOptions o;
  o.train = 40, o.probe = 30, o.encoder_steps = 1, o.net_steps = 1, o.edited = 40;
  o.edited_steps = 1, o.held = 20, o.deletions = 1, o.beam = 2, o.length = 4;
  o.describing.exemplars.top = 3, o.describing.whole = 20;
  o.captioner = {.embedding = 4, .hidden = 4, .layers = 1, .training = {.epochs = 1}};
  return o;
}

TEST(DescribedWorld, ComparesAllRivalsAndGivesTheSameWhateverWasAskedBefore) {
  DescribedWorld a(tiny()), b(tiny());
  b.compare(DescribedSplit::within, 2, {0});
  b.compare(DescribedSplit::task, 1, {0});
  const auto x = a.compare(DescribedSplit::network, 1, {0, 0.2}),
             y = b.compare(DescribedSplit::network, 1, {0, 0.2});
  EXPECT_EQ(options::write(x), options::write(y));
  std::vector<std::string> methods;
  for (const auto& trial : x) methods.push_back(trial.method);
  EXPECT_EQ(methods,
            (std::vector<std::string>{"MILAN, lambda 0.0", "MILAN, lambda 0.2", "NetDissect",
                                      "compositional explanations", "nearest annotated unit",
                                      "most frequent phrase", "annotators"}));
  EXPECT_GT(x.back().agreement.f1, 0.5);
}

TEST(DescribedWorld, EditsNoMoreUnitsThanAllowed) {
  DescribedWorld world(tiny());
  const auto edited = world.edit(1, {"letter"});
  EXPECT_LE(edited.edit.candidates, 1);
  EXPECT_EQ(edited.edit.curves.size(), 3u);
  EXPECT_LE(edited.found, edited.letters);
}

}  // namespace
}  // namespace cajal::atlas
