#pragma once
#include <span>
#include <vector>

#include "cajal/surgery/edit.h"
#include "cajal/surgery/function_analyses.h"

// What merging, editing and growing do to a world's model, as lines of figures under a name.
// Source: Xiao et al. 2024, arXiv 2409.02877; dossier bricks, operations O2 to O4.
namespace cajal::surgery {

struct NewTasks {
  FunctionText tasks[2];  // 80 % of each tune, 10 % choose, 10 % judge
  int64_t steps = 80;     // of tuning
  uint64_t seed = 0;
};

/// Losses on two new tasks and their mean: "base", "the brick of A alone", each merge rule by its
/// name with its best scale on the part for choices, "full tuning on A", "multi-task tuning of all
/// weights"; and "exact", how much the logits of one brick differ that is folded in two ways.
std::vector<Line> merging_lines(const FunctionWorld& world, const NewTasks& tasks);

struct EditTrial {
  int64_t facts = 50;
  int64_t tuning_steps = 40;  // of the rival
  double calibration = 0.05;  // share of the training texts for the keys' second moment
  EditOptions edit = {};
  uint64_t seed = 0;
};

/// "code of <8 letters> is <letter>", put in one after another: {said, said after another
/// beginning, share of other names whose answer changed, relative loss on the test texts} of
/// "rank-one edits" and "tuning all weights on the facts"; and "exact", {largest |W'k* - v*|, 1
/// when the model without the bricks has its bytes again}.
std::vector<Line> editing_lines(const FunctionWorld& world, const EditTrial& trial);

/// Learns a new task in `neurons` new neurons a layer: {loss on it, share taken away, relative loss
/// on the test texts} of "before", "new neurons, all else frozen" and "full tuning"; and "birth",
/// the largest change of a logit before they learn.
std::vector<Line> growing_lines(const FunctionWorld& world, const std::vector<int32_t>& task,
                                int64_t neurons, int64_t steps, uint64_t seed);

}  // namespace cajal::surgery
