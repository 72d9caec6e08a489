#include <algorithm>
#include <vector>

#include "cajal/kernels/packed.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cajal/kernels/packed_multiply.cpp"
#include "cajal/kernels/simd_targets.h"
// After the choice of targets.
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cajal/kernels/packed_dot-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {

/// Members [begin, end) of a set of groups of rows, one thread's part of them.
struct GroupPart {
  const PackedMatrix& matrix;
  const RowSet& groups;
  int64_t begin, end;

  /// kStreams groups at a time, each a stream of its own; a stream is a contiguous piece of the
  /// part. Vectors [first, first + count) are those of x.
  template <class Tile, int kStreams, class X>
  HWY_INLINE void Multiply(const X& x, int64_t first, int64_t count, float* y) const {
    const int64_t each = (end - begin) / kStreams, whole = begin + each * kStreams;
    Streams<Tile, kStreams>(begin, each, x, first, count, y);
    if constexpr (kStreams > 1) Streams<Tile, 1>(whole, end - whole, x, first, count, y);
  }

 private:
  template <class Tile, int kStreams, class X>
  HWY_INLINE void Streams(int64_t from, int64_t each, const X& x, int64_t first, int64_t count,
                          float* y) const {
    constexpr int kV = SideBySide(X::kBatch), kPieces = kRowVectors / kV;
    const int64_t tiles = matrix.column_tiles(), size = matrix.tile_bytes();
    const int64_t ahead = AheadTiles(size);
    for (int64_t k = 0; k < each; ++k) {
      const uint8_t *group[kStreams], *next[kStreams];
      VecF sums[kStreams][kPieces][X::kBatch][kV];
      for (int s = 0; s < kStreams; ++s) {
        const int64_t i = from + s * each + k;
        group[s] = matrix.tile(groups[i], 0);
        next[s] = k + 1 < each ? matrix.tile(groups[i + 1], 0) : group[s] + tiles * size;
        for (auto& piece : sums[s])
          for (auto& vectors : piece)
            for (auto& lanes : vectors) lanes = hn::Zero(pf);
      }
      for (int64_t t = 0; t < tiles; ++t)
        for (int s = 0; s < kStreams; ++s) {
          const uint8_t* const tile = group[s] + t * size;
          const uint8_t* const wanted =
              t + ahead < tiles ? tile + ahead * size : next[s] + (t + ahead - tiles) * size;
          for (int piece = 0; piece < kPieces; ++piece)
            Tile::template Add<kV>(tile, wanted - tile, piece * kV, x, t, sums[s][piece]);
        }
      for (int s = 0; s < kStreams; ++s) Store(from + s * each + k, first, count, sums[s], y);
    }
  }

  template <int kPieces, int kBatch, int kV>
  HWY_INLINE void Store(int64_t i, int64_t first, int64_t count,
                        const VecF (&sums)[kPieces][kBatch][kV], float* y) const {
    const int64_t stride = output_width(matrix, groups);
    const int64_t rows = std::min(kTileRows, stride - kTileRows * i);
    for (int64_t b = 0; b < count; ++b) {
      HWY_ALIGN float out[kTileRows];
      for (int v = 0; v < kRowVectors; ++v)
        hn::Store(sums[v / kV][b][v % kV], pf, out + v * kPackLanes);
      std::copy_n(out, rows, y + (first + b) * stride + kTileRows * i);
    }
  }
};

void MultiplyRounded(const GroupPart& part, const RoundedActivations& x, float* y) {
  WithRoundedTile(part.matrix.format(), [&](auto tile) HWY_ATTR {
    const auto planes = [&](auto kPlanes, auto kMost) HWY_ATTR {
      ForBatches<kMost>(x.batch, [&](auto size, int64_t first, int64_t count) HWY_ATTR {
        const RoundedBatch<size, kPlanes> of(x, first, count);
        part.template Multiply<decltype(tile), PackedStreams(size)>(of, first, count, y);
      });
    };
    if (x.bits == 8) {
      planes(std::integral_constant<int, 1>(), std::integral_constant<int, 8>());
    } else {
      planes(std::integral_constant<int, 2>(), std::integral_constant<int, 2>());
    }
  });
}

void MultiplyPlain(const GroupPart& part, const float* x, int64_t stride, int64_t batch, float* y) {
  WithPlainTile(part.matrix.format(), [&](auto tile) HWY_ATTR {
    ForBatches(batch, [&](auto size, int64_t first, int64_t count) HWY_ATTR {
      const PlainBatch<size> of(x, stride, first, count);
      part.template Multiply<decltype(tile), PackedStreams(size)>(of, first, count, y);
    });
  });
}

void MultiplyGroups(const PackedMatrix& matrix, const RowSet& groups, int64_t begin, int64_t end,
                    const PackedInput& x, float* y) {
  const GroupPart part{matrix, groups, begin, end};
  if (x.rounded) return MultiplyRounded(part, *x.rounded, y);
  MultiplyPlain(part, x.values, x.stride, x.batch, y);
}

}  // namespace HWY_NAMESPACE
}  // namespace cajal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cajal {

HWY_EXPORT(MultiplyGroups);

void multiply_part(const PackedMatrix& matrix, const RowSet& groups, int64_t begin, int64_t end,
                   const PackedInput& x, float* y) {
  std::vector<float> padded;
  HWY_DYNAMIC_DISPATCH(MultiplyGroups)(matrix, groups, begin, end, whole_columns(x, padded), y);
}

}  // namespace cajal
#endif
