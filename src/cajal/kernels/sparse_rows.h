#pragma once
#include <cstdint>

namespace cajal {

/// Which rows of b each row of a is paired with: `places` i32 [rows, most], of row i the first
/// `counts[i]`; a sparse matrix [rows, rows of b] in rows of at most `most` entries.
struct SparseRows {
  const int32_t* places;
  const int32_t* counts;
  int64_t rows, most;
};

/// out[i, e] = a[i] · b[places[i, e]] for a [rows, width] and b [.., width]; entries past the count
/// are left alone. A sampled dense-dense product (SDDMM). float and double.
template <class T>
void sparse_dots(const T* a, const T* b, int64_t width, const SparseRows& s, T* out);

/// out[i] = Σ_e p[i, e] b[places[i, e]], [rows, width]: sparse times dense (SpMM).
template <class T>
void sparse_sum(const T* p, const T* b, int64_t width, const SparseRows& s, T* out);

/// out[places[i, e]] += p[i, e] a[i]: the transposed sparse matrix times dense. One thread at a
/// time may write to one `out`.
template <class T>
void sparse_spread(const T* p, const T* a, int64_t width, const SparseRows& s, T* out);

/// How keys are taken in the order of how many of their codes equal the query's.
enum class CodeOrder {
  exact,     // by the count; of equal ones the later key
  quartiles  // by min(3, count / (spaces / 4)); of equal ones the earlier key, as arrived
};

struct CodeSearch {
  int64_t spaces;  // codes of a key
  int64_t most;    // keys to take
  int64_t sink;    // the first so many keys are always taken
  bool keep_self;  // key `self` is always taken
  CodeOrder order;
};

/// score[j] = 1 + how many of the codes of key j equal the query's: codes [spaces], key_codes
/// [spaces, stride].
void count_equal_codes(const uint8_t* codes, const uint8_t* key_codes, int64_t stride, int64_t keys,
                       int64_t spaces, uint8_t* score);

/// The same for two codes below 16 a byte (the even space in the low half): key_codes
/// [(spaces + 1) / 2, stride].
void count_equal_nibbles(const uint8_t* codes, const uint8_t* key_codes, int64_t stride,
                         int64_t keys, int64_t spaces, uint8_t* score);

/// The keys, ascending, that a query takes of the first `keys` by their scores, which are changed;
/// `self` is its own key, and `usable` [keys] tells which may be taken, or is null. Returns their
/// number, at most `search.most`.
int64_t take_keys(uint8_t* score, int64_t keys, int64_t self, const uint8_t* usable,
                  const CodeSearch& search, int32_t* places);

}  // namespace cajal
