#pragma once
#include <string>

#include "cajal/data/block_model.h"
#include "cajal/study/study.h"
#include "cajal/train/local_graph.h"

namespace cajal::study {

struct NamedGraph {
  std::string name;
  train::GraphTask task;
};

/// A generated graph as a task.
train::GraphTask block_model_task(const data::BlockModelOptions& options, uint64_t seed);

/// "cora" or "citeseer" with bags of words whose rows sum to 1. In a smoke run a small generated
/// graph; where the data is not here also a generated one, and a line under "not shown".
NamedGraph find_graph(Lab& lab, const std::string& name);

}  // namespace cajal::study
