#include "cajal/study/graphs.h"

#include <gtest/gtest.h>

namespace {
using namespace cajal;
using train::GraphRule;

TEST(ForwardGnn, NoGradientCrossesLayersOnCora) {
  study::Lab lab("forward-gnn", {});
  if (!lab.has("cora", "Cora")) GTEST_SKIP() << "the citation graph cora is absent";
  const auto graph = study::find_graph(lab, "cora");
  ASSERT_EQ(graph.task.nodes(), 2708);
  const auto split = train::split_nodes(graph.task.labels, 5, 0, 100);
  train::GraphLearning o;
  o.layers = 4, o.hidden = 16, o.max_epochs = 3;
  for (const auto rule :
       {GraphRule::single_forward, GraphRule::top_to_loss, GraphRule::top_to_input,
        GraphRule::label_appending, GraphRule::virtual_nodes}) {
    const auto out = train::learn_nodes(graph.task, split, rule, o);
    EXPECT_EQ(out.crossings, 0) << to_name(rule);
    EXPECT_GT(out.epochs, 0) << to_name(rule);
  }
}

}  // namespace
