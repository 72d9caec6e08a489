#include <algorithm>
#include <vector>

#include "cajal/kernels/packed.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cajal/kernels/packed_accumulate.cpp"
#include "cajal/kernels/simd_targets.h"
// After the choice of targets.
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cajal/kernels/packed_dot-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {

/// Row tiles [begin, end) of the chosen groups of columns, one thread's part of the outputs.
struct OutputPart {
  const PackedMatrix& matrix;
  const RowSet& groups;
  int64_t begin, end;

  /// kStreams groups at a time, each a stream of its own, so that an output is read and written
  /// once for all of them. Additions are in the order of the groups whatever kStreams is.
  template <class Tile, int kStreams, class X>
  HWY_INLINE void Accumulate(const X& x, int64_t first, int64_t count, float* y) const {
    int64_t i = 0;
    for (; i + kStreams <= groups.count(); i += kStreams)
      Streams<Tile, kStreams>(i, x, first, count, y);
    if constexpr (kStreams > 1)
      for (; i < groups.count(); ++i) Streams<Tile, 1>(i, x, first, count, y);
  }

 private:
  template <class Tile, int kStreams, class X>
  HWY_INLINE void Streams(int64_t i, const X& x, int64_t first, int64_t count, float* y) const {
    constexpr int kV = SideBySide(X::kBatch), kPieces = kRowVectors / kV;
    const int64_t size = matrix.tile_bytes(), tiles = end - begin, ahead = AheadTiles(size);
    const uint8_t *column[kStreams], *next[kStreams];
    for (int s = 0; s < kStreams; ++s) {
      column[s] = matrix.tile(begin, groups[i + s]);
      next[s] = matrix.tile(begin, groups[std::min(i + s + kStreams, groups.count() - 1)]);
    }
    for (int64_t t = 0; t < tiles; ++t) {
      HWY_ALIGN float out[X::kBatch][kTileRows];
      const int64_t row = kTileRows * (begin + t), rows = std::min(kTileRows, matrix.rows() - row);
      for (int64_t b = 0; b < count; ++b)
        std::copy_n(y + (first + b) * matrix.rows() + row, rows, out[b]);
      for (int piece = 0; piece < kPieces; ++piece) {
        VecF sums[X::kBatch][kV];
        for (int b = 0; b < X::kBatch; ++b)
          for (int v = 0; v < kV; ++v)
            sums[b][v] = hn::Load(pf, out[b] + (piece * kV + v) * kPackLanes);
        for (int s = 0; s < kStreams; ++s) {
          const uint8_t* const tile = column[s] + t * size;
          const uint8_t* const wanted =
              t + ahead < tiles ? tile + ahead * size : next[s] + (t + ahead - tiles) * size;
          Tile::template Add<kV>(tile, wanted - tile, piece * kV, x, i + s, sums);
        }
        for (int b = 0; b < X::kBatch; ++b)
          for (int v = 0; v < kV; ++v)
            hn::Store(sums[b][v], pf, out[b] + (piece * kV + v) * kPackLanes);
      }
      for (int64_t b = 0; b < count; ++b)
        std::copy_n(out[b], rows, y + (first + b) * matrix.rows() + row);
    }
  }
};

void AccumulateRounded(const OutputPart& part, const RoundedActivations& x, float* y) {
  WithRoundedTile(part.matrix.format(), [&](auto tile) HWY_ATTR {
    const auto planes = [&](auto kPlanes, auto kMost) HWY_ATTR {
      ForBatches<kMost>(x.batch, [&](auto size, int64_t first, int64_t count) HWY_ATTR {
        const RoundedBatch<size, kPlanes> of(x, first, count);
        part.template Accumulate<decltype(tile), 4>(of, first, count, y);
      });
    };
    if (x.bits == 8) {
      planes(std::integral_constant<int, 1>(), std::integral_constant<int, 8>());
    } else {
      planes(std::integral_constant<int, 2>(), std::integral_constant<int, 2>());
    }
  });
}

void AccumulateGroups(const PackedMatrix& matrix, const RowSet& groups, int64_t begin, int64_t end,
                      const PackedInput& x, float* y) {
  const OutputPart part{matrix, groups, begin, end};
  if (x.rounded) return AccumulateRounded(part, *x.rounded, y);
  WithPlainTile(matrix.format(), [&](auto tile) HWY_ATTR {
    ForBatches(x.batch, [&](auto size, int64_t first, int64_t count) HWY_ATTR {
      const PlainBatch<size> of(x.values, x.stride, first, count);
      part.template Accumulate<decltype(tile), 4>(of, first, count, y);
    });
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace cajal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cajal {

HWY_EXPORT(AccumulateGroups);

void accumulate_part(const PackedMatrix& matrix, const RowSet& groups, int64_t begin, int64_t end,
                     const PackedInput& x, float* y) {
  if (x.values && x.stride % 32 != 0) {  // the last tile's columns are read whole
    const auto padded = padded_columns(x);
    const PackedInput whole(padded.data(), x.batch, x.width, padded.size() / x.batch);
    return HWY_DYNAMIC_DISPATCH(AccumulateGroups)(matrix, groups, begin, end, whole, y);
  }
  HWY_DYNAMIC_DISPATCH(AccumulateGroups)(matrix, groups, begin, end, x, y);
}

}  // namespace cajal
#endif
