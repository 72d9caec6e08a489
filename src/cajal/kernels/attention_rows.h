#pragma once
// Inside of attention: some query heads that read the same key head, over a range of positions.
#include "cajal/kernels/attention.h"

namespace cajal {

constexpr int64_t kRowMultiple = 16;  // queries are padded to it
constexpr int64_t kKeyBlock = 64;     // positions at a time
constexpr int64_t kMostRows = 64;     // queries side by side, unless one token has more

inline int64_t padded_width(int64_t head_width) { return (head_width + 15) / 16 * 16; }

/// Queries side by side and which positions each of them sees.
struct AttentionRows {
  const float* q;        // [head_width, rows], scale multiplied in
  int64_t rows;          // a multiple of kRowMultiple
  const int32_t* first;  // [rows] the first position seen
  const int32_t* last;   // [rows] and the last; before `first` where none is
  float cap;
};

/// What some positions give: softmax(scores) v = sum / total, once results with other positions are
/// scaled by exp(largest - the largest of all).
struct AttentionSums {
  float* largest;  // [rows] score
  float* total;    // [rows] of exp(score - largest)
  float* sum;      // [rows, padded_width] of exp(score - largest) v
};

/// Positions [begin, end) of one key head.
void attend_rows(const AttentionRows& rows, const HeadCache& keys, const HeadCache& values,
                 int64_t head, int64_t begin, int64_t end, const AttentionSums& out);

}  // namespace cajal
