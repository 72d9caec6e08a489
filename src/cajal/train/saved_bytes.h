#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "cajal/core/torch.h"

namespace cajal::train {

/// What autograd really keeps for backward passes while this lives, counted at the moment when an
/// operation of this thread saves a tensor and when its graph lets go of it. A storage counts once,
/// however many operations hold it; those of `not_counted` (weights, which are there anyway) do
/// not count. Works on every device. Not seen: what a custom function keeps outside of
/// save_for_backward.
class SavedBytes {
 public:
  explicit SavedBytes(const std::vector<torch::Tensor>& not_counted = {});
  ~SavedBytes();
  SavedBytes(const SavedBytes&) = delete;
  SavedBytes& operator=(const SavedBytes&) = delete;

  int64_t live() const;   // bytes held now
  int64_t peak() const;   // the most held at one time
  int64_t total() const;  // bytes of all storages that were saved, those let go included

  struct State;  // shared with the graphs, which may outlive the meter

 private:
  std::shared_ptr<State> state_, outer_;
};

/// Bytes that libtorch's allocators hand out to this thread, and that this thread gives back, while
/// this lives; what was there before does not count. `peak` is the allocator's own figure for the
/// work in between, temporaries included.
class AllocatedBytes {
 public:
  AllocatedBytes();
  ~AllocatedBytes();
  AllocatedBytes(const AllocatedBytes&) = delete;
  AllocatedBytes& operator=(const AllocatedBytes&) = delete;

  int64_t live() const;
  int64_t peak() const;

 private:
  struct Report;
  struct Guard;
  std::shared_ptr<Report> report_;
  std::unique_ptr<Guard> guard_;
};

}  // namespace cajal::train
