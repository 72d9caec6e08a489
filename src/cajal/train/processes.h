#pragma once
#include <memory>

#include "cajal/core/torch.h"

namespace cajal::train {

/// The processes that train one model together, each on its own slice of every batch. Read from the
/// environment that torchrun (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT) and Slurm
/// (SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID) set; alone where neither says otherwise.
/// Gradients travel by c10d: NCCL between GPUs where this build has it, else Gloo.
class Processes {
 public:
  /// Joins the others and waits for them. Throws Error naming a variable that is missing or wrong,
  /// and when this build has no way to talk to other processes.
  static Processes from_environment(torch::Device device);
  Processes();  // alone

  int rank() const { return rank_; }
  int count() const { return count_; }
  bool writes() const { return rank_ == 0; }  // the one that writes files and progress

  /// LOCAL_RANK, or what Slurm calls it; 0 when alone: which GPU of the machine to take.
  static int local_rank();

  /// Replaces `flat` in every process by its sum over processes, in buckets that travel together.
  void sum(torch::Tensor& flat) const;
  /// Replaces `flat` by that of the first process.
  void share(torch::Tensor& flat) const;
  /// Whether any process says yes.
  bool any(bool here) const;

  struct Group;  // the connection

 private:
  int rank_ = 0, count_ = 1;
  std::shared_ptr<Group> group_;
};

}  // namespace cajal::train
