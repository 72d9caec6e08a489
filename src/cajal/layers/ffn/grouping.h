#pragma once
#include <vector>

#include "cajal/core/torch.h"

namespace cajal {

/// Rows sorted by the group that each goes to, so that a group is one matrix product.
struct ByGroup {
  struct Run {
    int64_t group, begin, count;  // of `order`
  };

  /// `groups` i64 [rows], in [0, count).
  ByGroup(const torch::Tensor& groups, int64_t count);

  torch::Tensor order;    // i64 [rows]: which row stands at each place
  torch::Tensor back;     // i64 [rows]: where each row went
  std::vector<Run> runs;  // of the groups that have rows
};

}  // namespace cajal
