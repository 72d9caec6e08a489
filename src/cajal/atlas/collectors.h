#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cajal/atlas/exact_sum.h"
#include "cajal/core/options.h"

// What is counted of one layer beside the sums of a LayerCensus. Every collector adds up integers
// or exact sums, so that parts of a text merge into the same bits as the whole.
namespace cajal::atlas {

/// What the neurons of one layer answered to a run of tokens, a row a token. The rows are whole
/// windows, so that row r stands at position r % window.
struct Slab {
  std::span<const float> post;     // [rows, neurons] after the law (gated: the product)
  std::span<const float> pre;      // [rows, neurons] before the law (gated: the gate's), or empty
  std::span<const int32_t> ids;    // the whole text, where its ids are known
  int64_t first_token = 0;         // of row 0, an index in the text
  int64_t window = 0;              // rows of a window; 0 = all rows are one
  std::span<const uint8_t> fired;  // [rows, neurons] set by LayerCensus::add for its collectors
};

/// Sums of x, x^2, x^3, x^4 for x the activation before the law, kept in sixteenths of x so that
/// fourth powers stay in range.
struct Moments {
  std::array<std::vector<ExactSum>, 4> power;  // [4][neurons]

  struct Shape {
    double mean = 0, variance = 0, skew = 0, kurtosis = 0;  // kurtosis of a normal: 3
  };
  Shape shape(int64_t neuron, int64_t tokens) const;
  bool operator==(const Moments&) const = default;
};

/// How often x before the law fell in each bin. Bins widen with |x|, four an octave from 2^-8 to
/// 2^8, so that no scale has to be known before; smaller sizes share the middle bin, larger ones
/// the outermost.
struct Histogram {
  static constexpr int octaves = 16, per_octave = 4, side = octaves * per_octave;
  static constexpr int bins = 2 * side + 1;
  static int bin(float x);
  static double centre(int bin);  // a value in the middle of the bin
  std::vector<uint32_t> count;    // [neurons, bins]
  bool operator==(const Histogram&) const = default;
};

/// How often each neuron fired on each of a set of keys (token ids, or positions in the window).
/// Counts lie dense, [keys, neurons], while they grow, and packed otherwise: a neuron's keys that
/// it fired on, in order, as varints of (key - key before, count).
class KeyTable {
 public:
  KeyTable() = default;
  KeyTable(int64_t keys, int64_t neurons) : keys_(keys), neurons_(neurons), packed_(neurons) {}
  /// From packed rows; throws Error when they are not sound.
  KeyTable(int64_t keys, std::vector<std::string> packed);

  bool defined() const { return keys_ > 0; }
  int64_t keys() const { return keys_; }
  int64_t neurons() const { return neurons_; }
  void unpack();  // to be done before `row`
  uint32_t* row(int64_t key) { return dense_.data() + key * neurons_; }
  void pack();
  void merge(const KeyTable& other);  // both packed

  /// (key, count) of one neuron, keys ascending. Packed tables only.
  std::vector<std::pair<int64_t, int64_t>> of(int64_t neuron) const;
  const std::string& packed(int64_t neuron) const { return packed_[neuron]; }
  bool operator==(const KeyTable&) const = default;

 private:
  int64_t keys_ = 0, neurons_ = 0;
  std::vector<uint32_t> dense_;
  std::vector<std::string> packed_;
};

/// A run of token ids at whose end a neuron fired.
struct Gram {
  uint64_t hash = 0;  // of the ids
  int64_t last = -1;  // index in the text of the last id of its first occurrence
  int64_t count = 0;  // firings on it
  bool operator==(const Gram&) const = default;
};

/// The n-grams of one order on which each neuron fired. A neuron that fires on more than `limit`
/// different ones is given up: its table is emptied and stays so. That depends only on the set of
/// its n-grams, so that parts still merge exactly, and it bounds memory whatever the text.
class GramTable {
 public:
  GramTable() = default;
  GramTable(int order, int64_t limit, int64_t neurons);

  int order() const { return order_; }
  int64_t limit() const { return limit_; }
  void add(int64_t neuron, uint64_t hash, int64_t last, int64_t count = 1);
  void give_up(int64_t neuron);
  bool given_up(int64_t neuron) const { return given_up_[neuron] != 0; }
  void merge(const GramTable& other);
  /// N-grams of one neuron in order of their hash.
  std::vector<Gram> of(int64_t neuron) const;
  bool operator==(const GramTable& other) const;

 private:
  struct Slots {
    std::vector<Gram> slot;  // open addressing, a power of two; last = -1 where free
    int64_t used = 0;
  };
  static void put(Slots& slots, const Gram& gram);

  int order_ = 0;
  int64_t limit_ = 0;
  std::vector<Slots> neurons_;
  std::vector<uint8_t> given_up_;
};

/// Which collectors a census has beside its sums.
struct Collectors {
  bool shapes = false;       // Moments and Histogram of what comes before the law
  int64_t positions = 0;     // of a window; 0 = no position table
  int64_t vocabulary = 0;    // 0 = no token table
  int orders = 1;            // n-grams of 2 to so many tokens; at most 5
  int64_t gram_limit = 512;  // n-grams of one order and neuron
  bool operator==(const Collectors&) const = default;
};

CAJAL_OPTIONS(Collectors, shapes, positions, vocabulary, orders, gram_limit)

/// The collectors of one layer.
struct LayerTables {
  Collectors kind;
  Moments moments;
  Histogram histogram;
  KeyTable positions, tokens;
  std::vector<GramTable> grams;  // orders 2, 3, ...

  LayerTables() = default;
  LayerTables(const Collectors& collectors, int64_t neurons);

  /// Adds what neurons [begin, end) did; ranges may be added side by side.
  void add(const Slab& slab, int64_t begin, int64_t end, int64_t neurons);
  void unpack();  // before adding
  void pack();    // after it
  void merge(const LayerTables& other);
  bool operator==(const LayerTables&) const = default;
};

/// The hash of the n-gram of `order` ids that ends at `last`.
uint64_t gram_hash(std::span<const int32_t> ids, int64_t last, int order);

}  // namespace cajal::atlas
