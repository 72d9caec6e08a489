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

/// kStreams runs of one term, each read as a stream of its own, from group `skip` of each on for
/// `each` groups. Vectors [first, first + count) are those of x.
template <class Tile, int kStreams, class X>
HWY_INLINE void AddStreams(const TermRun* runs, int64_t skip, int64_t each, const X& x,
                           int64_t first, int64_t count) {
  constexpr int kV = SideBySide(X::kBatch), kPieces = kRowVectors / kV;
  const PackedMatrix& matrix = runs->term->matrix;
  const RowSet& groups = runs->term->groups;
  const int64_t size = matrix.tile_bytes(), tiles = matrix.row_tiles(), ahead = AheadTiles(size);
  const int64_t stride = tiles * kTileRows;
  for (int64_t k = skip; k < skip + each; ++k) {
    for (int64_t t = 0; t < tiles; ++t)
      for (int s = 0; s < kStreams; ++s) {
        const int64_t i = runs[s].begin + k;
        const uint8_t* const tile = matrix.tile(0, groups[i]) + t * size;
        const uint8_t* wanted = tile + ahead * size;
        if (t + ahead >= tiles && i + 1 < runs[s].end)
          wanted = matrix.tile(0, groups[i + 1]) + (t + ahead - tiles) * size;
        float* to[X::kBatch];
        for (int64_t b = 0; b < X::kBatch; ++b)
          to[b] = runs[s].sums + (first + std::min(b, count - 1)) * stride + t * kTileRows;
        for (int piece = 0; piece < kPieces; ++piece) {
          VecF sums[X::kBatch][kV];
          for (int b = 0; b < X::kBatch; ++b)
            for (int v = 0; v < kV; ++v)
              sums[b][v] = hn::LoadU(pf, to[b] + (piece * kV + v) * kPackLanes);
          Tile::template Add<kV>(tile, wanted - tile, piece * kV, x, i, sums);
          for (int b = 0; b < X::kBatch; ++b)  // what is left over repeats the last vector
            for (int v = 0; v < kV; ++v)
              hn::StoreU(sums[b][v], pf, to[b] + (piece * kV + v) * kPackLanes);
        }
      }
  }
}

template <class Tile, class X>
HWY_INLINE void AddRuns(const TermRun* runs, int64_t count_runs, const X& x, int64_t first,
                        int64_t count) {
  constexpr int kStreams = PackedStreams(X::kBatch);
  const auto length = [&](int64_t r) { return runs[r].end - runs[r].begin; };
  int64_t r = 0;
  for (; r + kStreams <= count_runs; r += kStreams) {
    const int64_t each = std::min(length(r), length(r + kStreams - 1));
    AddStreams<Tile, kStreams>(runs + r, 0, each, x, first, count);
    for (int64_t s = r; s < r + kStreams; ++s)
      AddStreams<Tile, 1>(runs + s, each, length(s) - each, x, first, count);
  }
  for (; r < count_runs; ++r) AddStreams<Tile, 1>(runs + r, 0, length(r), x, first, count);
}

/// Runs of one term.
void AccumulateRuns(const TermRun* runs, int64_t count_runs) {
  const PackedInput& x = runs->term->x;
  const Format format = runs->term->matrix.format();
  if (!x.rounded) {
    return WithPlainTile(format, [&](auto tile) HWY_ATTR {
      ForBatches(x.batch, [&](auto size, int64_t first, int64_t count) HWY_ATTR {
        const PlainBatch<size> of(x.values, x.stride, first, count);
        AddRuns<decltype(tile)>(runs, count_runs, of, first, count);
      });
    });
  }
  WithRoundedTile(format, [&](auto tile) HWY_ATTR {
    const auto planes = [&](auto kPlanes, auto kMost) HWY_ATTR {
      ForBatches<kMost>(x.batch, [&](auto size, int64_t first, int64_t count) HWY_ATTR {
        const RoundedBatch<size, kPlanes> of(*x.rounded, first, count);
        AddRuns<decltype(tile)>(runs, count_runs, of, first, count);
      });
    };
    if (x.rounded->bits == 8) {
      planes(std::integral_constant<int, 1>(), std::integral_constant<int, 8>());
    } else {
      planes(std::integral_constant<int, 2>(), std::integral_constant<int, 2>());
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace cajal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cajal {

HWY_EXPORT(AccumulateRuns);

namespace {

/// Into how many runs the groups of a term are cut. It depends on their number alone, so that the
/// order of additions is that of any thread count.
int64_t runs_of(int64_t groups) {
  return groups >= 128 ? 16 : groups >= 32 ? 8 : groups >= 8 ? 4 : groups >= 2 ? 2 : groups;
}

void check(const Term& term, const Term& first) {
  const auto& matrix = term.matrix;
  require(matrix.grouping() == Grouping::columns, "accumulate needs groups of columns");
  require_input(matrix, term.x,
                std::min(term.groups.count() * matrix.tile_columns(), matrix.width()));
  require(matrix.rows() == first.matrix.rows() && term.x.batch == first.x.batch,
          "terms of {} and {} outputs, {} and {} vectors", matrix.rows(), first.matrix.rows(),
          term.x.batch, first.x.batch);
}

}  // namespace

void accumulate(std::span<const Term> given, float* y, ThreadPool& threads) {
  std::vector<Term> terms;
  std::vector<std::vector<float>> padded(given.size());
  for (size_t i = 0; i < given.size(); ++i) {
    const auto& [matrix, groups, x] = given[i];
    if (groups.count() == 0 || x.batch == 0) continue;
    check(given[i], given[0]);
    terms.push_back({matrix, groups, whole_columns(x, padded[i])});
  }
  std::vector<TermRun> runs;
  std::vector<int64_t> bytes = {0};  // up to each run
  for (const auto& term : terms) {
    const int64_t count = term.groups.count(), pieces = runs_of(count);
    for (int64_t r = 0; r < pieces; ++r) {
      runs.push_back({&term, count * r / pieces, count * (r + 1) / pieces, nullptr});
      bytes.push_back(bytes.back() +
                      (runs.back().end - runs.back().begin) * term.matrix.group_bytes());
    }
  }
  if (runs.empty()) return;
  const int64_t batch = terms[0].x.batch, rows = terms[0].matrix.rows();
  const int64_t stride = terms[0].matrix.row_tiles() * kTileRows, size = batch * stride;
  static thread_local std::vector<float> sums;  // kept: fresh pages would cost more than the sums
  sums.resize(std::max<size_t>(sums.size(), runs.size() * size));
  for (size_t r = 0; r < runs.size(); ++r) runs[r].sums = sums.data() + r * size;

  const int parts = threads.size();
  const auto border = [&](int part) {  // the run at which a part begins, parts of bytes alike
    const auto at = std::lower_bound(bytes.begin(), bytes.end(), bytes.back() * part / parts);
    return part == parts ? runs.size() : static_cast<size_t>(at - bytes.begin());
  };
  threads.run([&](int part) {
    for (size_t r = border(part), end = border(part + 1); r < end;) {
      size_t last = r;
      for (; last < end && runs[last].term == runs[r].term; ++last)
        std::fill_n(runs[last].sums, size, 0.0f);
      HWY_DYNAMIC_DISPATCH(AccumulateRuns)(&runs[r], static_cast<int64_t>(last - r));
      r = last;
    }
  });
  for (const auto& run : runs)
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t i = 0; i < rows; ++i) y[b * rows + i] += run.sums[b * stride + i];
}

void accumulate(const PackedMatrix& matrix, const RowSet& groups, const PackedInput& x, float* y,
                ThreadPool& threads) {
  const Term term{matrix, groups, x};
  accumulate({&term, 1}, y, threads);
}

}  // namespace cajal
#endif
