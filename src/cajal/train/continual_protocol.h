#pragma once
#include <vector>

#include "cajal/train/clnp.h"
#include "cajal/train/packnet.h"

/// Whole streams of tasks learnt in one way or another, and what was known after each task.
namespace cajal::train {

struct StreamRecord {
  std::vector<std::vector<double>> seen;  // [after task][of task] accuracy

  double average() const;     // over the tasks, after the last one
  double forgetting() const;  // mean over the tasks before the last of best past - final
};
CAJAL_OPTIONS(StreamRecord, seen)

/// Which part of each task is judged on.
enum class Judge { valid, test };

enum class Consolidation { none, elastic, intelligence };  // fine-tuning, EWC, SI

/// One net learns the tasks in turn; `strength` is λ of elastic weights, c of synaptic
/// intelligence.
StreamRecord learn_in_turn(const TaskNetOptions& net, const std::vector<StreamTask>& tasks,
                           const TaskTraining& training, Consolidation kind, double strength,
                           Judge judge);

/// A net for each task alone: the ceiling.
StreamRecord learn_singly(const TaskNetOptions& net, const std::vector<StreamTask>& tasks,
                          const TaskTraining& training);

/// One net, an epoch of each task in turn, again and again.
StreamRecord learn_jointly(const TaskNetOptions& net, const std::vector<StreamTask>& tasks,
                           const TaskTraining& training);

/// One net whose weights the tasks share out by magnitude.
StreamRecord learn_by_packing(const TaskNetOptions& net, const std::vector<StreamTask>& tasks,
                              const PackNetOptions& options, Judge judge);

/// Written without its nets.
struct PruningRecord : StreamRecord {
  std::vector<CommitReport> commits;
  bool bit_equal = true;  // logits of every task after every later one, against its commit
  TaskNet first{nullptr}, whole{nullptr};  // the sub-network of task 0, and the net it came from

  double free_share(size_t layer) const { return commits.back().layers[layer].free_share(); }
  double worst_drop() const;  // of validation accuracy at a commit
  bool free_units_never_grow() const;
  double mean_reused(size_t layer) const;  // over the tasks from the second on
};
CAJAL_OPTIONS(PruningRecord, seen, commits, bit_equal)
PruningRecord learn_by_pruning(const TaskNetOptions& net, const std::vector<StreamTask>& tasks,
                               const ClnpOptions& options);

}  // namespace cajal::train
