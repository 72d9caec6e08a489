// Reading rows at the memory's full rate, for whichever instruction set is being compiled.
// Include after <hwy/highway.h>; compiled once for each target.
#if defined(CAJAL_KERNELS_STREAMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CAJAL_KERNELS_STREAMS_INL_H_
#undef CAJAL_KERNELS_STREAMS_INL_H_
#else
#define CAJAL_KERNELS_STREAMS_INL_H_
#endif

#include "cajal/kernels/rows.h"

HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {

/// How far ahead of its reads a stream asks for memory: far enough to hide DRAM, near enough that
/// the lines are still in L2 when they are wanted. 1 KiB into L2 measured best.
constexpr size_t kAhead = 1024;

/// Asks for what a stream that stands at `offset` of a row of `bytes` reads kAhead bytes later or
/// more, for the next `length` bytes: in the row itself and then in `next`, RowsAhead(bytes) rows
/// on.
HWY_INLINE void PrefetchAhead(const uint8_t* row, const uint8_t* next, size_t offset, size_t length,
                              size_t bytes) {
  if (bytes < kAhead) {
    for (size_t at = offset; at < offset + length; at += 64) __builtin_prefetch(next + at, 0, 2);
    return;
  }
  for (size_t at = offset + kAhead; at < offset + kAhead + length; at += 64)
    __builtin_prefetch(at < bytes ? row + at : next + (at - bytes), 0, 2);
}

/// How many rows on a stream asks for memory.
HWY_INLINE int64_t RowsAhead(int64_t bytes) {
  constexpr auto ahead = static_cast<int64_t>(kAhead);
  return bytes < ahead ? (ahead + bytes - 1) / bytes : 1;
}

/// Streams that are read side by side for a batch: four reach the memory's full rate, fewer leave
/// registers for the sums of more vectors.
constexpr int StreamsFor(int batch) { return batch <= 2 ? 4 : batch <= 4 ? 2 : 1; }

/// The members [begin, end) of a row set, one thread's part of it.
struct RowPart {
  const RowMatrix& matrix;
  const RowSet& rows;
  int64_t begin, end;

  /// Calls tile(i, row, next) for kStreams members at once: i[s], where their rows lie and where
  /// the row lies that each stream asks for (the same one at its end). A stream is a contiguous
  /// piece of the part.
  template <int kStreams, class Tile>
  HWY_INLINE void ForStreams(const Tile& tile) const {
    const int64_t each = (end - begin) / kStreams, whole = begin + each * kStreams;
    ForStreams<kStreams>(begin, each, tile);
    if constexpr (kStreams > 1) ForStreams<1>(whole, end - whole, tile);
  }

 private:
  template <int kStreams, class Tile>
  HWY_INLINE void ForStreams(int64_t first, int64_t each, const Tile& tile) const {
    const int64_t size = row_bytes(matrix.format, matrix.width), ahead = RowsAhead(size);
    for (int64_t k = 0; k < std::min(ahead, each); ++k)
      for (int s = 0; s < kStreams; ++s)
        for (int64_t at = 0; at < std::min<int64_t>(size, kAhead); at += 64)
          __builtin_prefetch(matrix.row(rows[first + s * each + k]) + at, 0, 2);
    for (int64_t k = 0; k < each; ++k) {
      int64_t i[kStreams];
      const uint8_t *row[kStreams], *next[kStreams];
      for (int s = 0; s < kStreams; ++s) {
        i[s] = first + s * each + k;
        row[s] = matrix.row(rows[i[s]]);
        next[s] = k + ahead < each ? matrix.row(rows[i[s] + ahead]) : row[s];
      }
      tile(i, row, next);
    }
  }
};

/// Most vectors that one reading of the rows serves. A machine without AVX2 reads them once for
/// each vector: its registers hold no more, and nobody waits for its batches to be compiled.
constexpr int kMostVectors = HWY_TARGET <= HWY_AVX2 ? 8 : 1;

/// Calls visit(size, first, count) for at most kMost vectors at a time, `size` the constant (1, 2,
/// 4 or 8) that holds `count`: kernels are compiled for these.
template <int kMost = kMostVectors, class Visit>
HWY_INLINE void ForBatches(int64_t batch, const Visit& visit) {
  constexpr int most = std::min(kMost, kMostVectors);
  for (int64_t first = 0; first < batch; first += most) {
    const int64_t count = batch - first < most ? batch - first : most;
    if (count == 1) {
      visit(std::integral_constant<int, 1>(), first, count);
    } else if constexpr (most > 1) {
      if (count == 2) {
        visit(std::integral_constant<int, 2>(), first, count);
      } else if constexpr (most > 2) {
        if (count <= 4) {
          visit(std::integral_constant<int, 4>(), first, count);
        } else {
          visit(std::integral_constant<int, 8>(), first, count);
        }
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cajal
HWY_AFTER_NAMESPACE();
#endif
