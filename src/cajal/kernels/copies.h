#pragma once
#include <cstdint>
#include <vector>

#include "cajal/kernels/fff.h"
#include "cajal/kernels/memory.h"
#include "cajal/kernels/rows.h"

namespace cajal {

/// Copies of one matrix of made-up weights, together more than the caches hold: whoever takes
/// another one each time reads it from memory, as a large network would.
class MatrixCopies {
 public:
  /// As many copies as fill `bytes`, one at least; rows without space between, their values normal
  /// with deviation 0.03. Throws Error when the width cuts a block.
  MatrixCopies(Format format, int64_t rows, int64_t width, int64_t bytes = int64_t{1} << 30);

  int64_t count() const { return count_; }
  /// The copy whose turn it is.
  RowMatrix next();

 private:
  Format format_;
  int64_t rows_, width_, count_, turn_ = 0;
  WeightMemory memory_;
};

/// Trees with the same made-up weights; their nodes, keys and values are each copied as often as
/// fills `bytes`.
class TreeCopies {
 public:
  TreeCopies(Format format, int64_t depth, int64_t leaf_width, int64_t width, int64_t bytes);

  FeedForwardTree next();

 private:
  int64_t depth_;
  MatrixCopies node_, key_, value_;
};

}  // namespace cajal
