#include "cajal/atlas/collectors.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/kernels/columns.h"

namespace cajal::atlas {
namespace {

constexpr double kUnit = 16;  // moments are of x / 16
static_assert(Histogram::bins == kBins && Histogram::octaves == kBinOctaves);

void put_varint(std::string& out, uint64_t value) {
  for (; value >= 128; value >>= 7) out += static_cast<char>(value | 128);
  out += static_cast<char>(value);
}

// Reads one number and moves `at` behind it.
uint64_t get_varint(const std::string& from, size_t& at) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    require(at < from.size() && shift < 63, "a packed count ends too early");
    const auto byte = static_cast<unsigned char>(from[at++]);
    value |= static_cast<uint64_t>(byte & 127) << shift;
    if (byte < 128) return value;
  }
}

}  // namespace

Moments::Shape Moments::shape(int64_t i, int64_t tokens) const {
  if (power[0].empty() || tokens <= 0) return {};
  const auto n = static_cast<double>(tokens);
  std::array<double, 4> raw;
  for (size_t k = 0; k < 4; ++k)
    raw[k] = power[k][i].value() / n * std::pow(kUnit, static_cast<double>(k + 1));
  const double m = raw[0], v = raw[1] - m * m;
  const double third = raw[2] - 3 * m * raw[1] + 2 * m * m * m;
  const double fourth = raw[3] - 4 * m * raw[2] + 6 * m * m * raw[1] - 3 * m * m * m * m;
  if (!(v > 1e-12 * (1e-12 + raw[1]))) return {m, 0, 0, 0};
  return {m, v, third / std::pow(v, 1.5), fourth / (v * v)};
}

int Histogram::bin(float x) {
  // The exponent and the two bits behind it are the place in the octaves.
  const auto bits = std::bit_cast<uint32_t>(x) & 0x7fffffff;
  const int place = static_cast<int>(bits >> 21) - ((127 - octaves / 2) << 2);
  const int size = std::clamp(place + 1, 0, side);
  return x < 0 ? side - size : side + size;
}

double Histogram::centre(int bin) {
  const int size = std::abs(bin - side);
  if (size == 0) return 0;
  const int octave = (size - 1) / per_octave, part = (size - 1) % per_octave;
  const double low = std::ldexp(1 + part / 4.0, octave - octaves / 2);
  return (bin < side ? -1 : 1) * (low + std::ldexp(0.125, octave - octaves / 2));
}

KeyTable::KeyTable(int64_t keys, std::vector<std::string> packed)
    : keys_(keys), neurons_(std::ssize(packed)), packed_(std::move(packed)) {
  for (int64_t i = 0; i < neurons_; ++i) of(i);
}

void KeyTable::unpack() {
  if (!defined() || !dense_.empty()) return;
  dense_.resize(static_cast<size_t>(keys_ * neurons_));
  for (int64_t i = 0; i < neurons_; ++i) {
    for (const auto& [key, count] : of(i)) row(key)[i] = static_cast<uint32_t>(count);
    packed_[i].clear();
  }
}

void KeyTable::pack() {
  if (dense_.empty()) return;
  std::vector<int64_t> before(static_cast<size_t>(neurons_), -1);
  for (int64_t key = 0; key < keys_; ++key) {
    const uint32_t* counts = row(key);
    for (int64_t i = 0; i < neurons_; ++i) {
      if (counts[i] == 0) continue;
      put_varint(packed_[i], static_cast<uint64_t>(key - before[i]));
      put_varint(packed_[i], counts[i]);
      before[i] = key;
    }
  }
  std::vector<uint32_t>().swap(dense_);
}

std::vector<std::pair<int64_t, int64_t>> KeyTable::of(int64_t neuron) const {
  std::vector<std::pair<int64_t, int64_t>> out;
  const auto& bytes = packed_[neuron];
  int64_t key = -1;
  for (size_t at = 0; at < bytes.size();) {
    const auto step = get_varint(bytes, at), count = get_varint(bytes, at);
    require(step > 0 && step <= static_cast<uint64_t>(keys_ - 1 - key) && count > 0 &&
                count <= UINT32_MAX,
            "a packed count of neuron {} is not one of {} keys", neuron, keys_);
    key += static_cast<int64_t>(step);
    out.emplace_back(key, static_cast<int64_t>(count));
  }
  return out;
}

void KeyTable::merge(const KeyTable& other) {
  require(keys_ == other.keys_ && neurons_ == other.neurons_, "the tables have other keys");
  for (int64_t i = 0; i < neurons_; ++i) {
    const auto a = of(i), b = other.of(i);
    std::string both;
    int64_t before = -1;
    for (auto x = a.begin(), y = b.begin(); x != a.end() || y != b.end();) {
      const int64_t key =
          std::min(x == a.end() ? keys_ : x->first, y == b.end() ? keys_ : y->first);
      uint64_t count = 0;
      if (x != a.end() && x->first == key) count += static_cast<uint64_t>((x++)->second);
      if (y != b.end() && y->first == key) count += static_cast<uint64_t>((y++)->second);
      require(count <= UINT32_MAX, "a count is too large");
      put_varint(both, static_cast<uint64_t>(key - before));
      put_varint(both, count);
      before = key;
    }
    packed_[i] = std::move(both);
  }
}

GramTable::GramTable(int order, int64_t limit, int64_t neurons)
    : order_(order),
      limit_(limit),
      neurons_(static_cast<size_t>(neurons)),
      given_up_(static_cast<size_t>(neurons)) {}

void GramTable::put(Slots& slots, const Gram& gram) {
  const auto mask = slots.slot.size() - 1;
  for (auto at = gram.hash & mask;; at = (at + 1) & mask) {
    auto& slot = slots.slot[at];
    if (slot.last < 0) {
      slot = gram;
      ++slots.used;
      return;
    }
    if (slot.hash != gram.hash) continue;
    slot.count += gram.count;
    slot.last = std::min(slot.last, gram.last);
    return;
  }
}

void GramTable::add(int64_t neuron, uint64_t hash, int64_t last, int64_t count) {
  if (given_up_[neuron]) return;
  auto& slots = neurons_[neuron];
  if (2 * (slots.used + 1) > std::ssize(slots.slot)) {
    Slots larger{std::vector<Gram>(std::max<size_t>(8, 2 * slots.slot.size())), 0};
    for (const auto& gram : slots.slot)
      if (gram.last >= 0) put(larger, gram);
    slots = std::move(larger);
  }
  put(slots, {hash, last, count});
  if (slots.used > limit_) give_up(neuron);
}

void GramTable::give_up(int64_t neuron) {
  given_up_[neuron] = 1;
  neurons_[neuron] = {};
}

void GramTable::merge(const GramTable& other) {
  require(
      order_ == other.order_ && limit_ == other.limit_ && neurons_.size() == other.neurons_.size(),
      "the n-gram tables are not alike");
  for (int64_t i = 0; i < std::ssize(neurons_); ++i) {
    if (other.given_up(i)) give_up(i);
    for (const auto& gram : other.neurons_[i].slot)
      if (gram.last >= 0) add(i, gram.hash, gram.last, gram.count);
  }
}

std::vector<Gram> GramTable::of(int64_t neuron) const {
  std::vector<Gram> out;
  for (const auto& gram : neurons_[neuron].slot)
    if (gram.last >= 0) out.push_back(gram);
  std::sort(out.begin(), out.end(), [](const Gram& a, const Gram& b) { return a.hash < b.hash; });
  return out;
}

bool GramTable::operator==(const GramTable& other) const {
  if (order_ != other.order_ || limit_ != other.limit_ || given_up_ != other.given_up_)
    return false;
  for (int64_t i = 0; i < std::ssize(neurons_); ++i)
    if (of(i) != other.of(i)) return false;
  return true;
}

LayerTables::LayerTables(const Collectors& collectors, int64_t neurons) : kind(collectors) {
  const auto n = static_cast<size_t>(neurons);
  if (kind.shapes) {
    for (auto& power : moments.power) power.resize(n);
    histogram.count.resize(n * Histogram::bins);
  }
  if (kind.positions > 0) positions = KeyTable(kind.positions, neurons);
  if (kind.vocabulary > 0) tokens = KeyTable(kind.vocabulary, neurons);
  for (int order = 2; order <= kind.orders; ++order)
    grams.emplace_back(order, kind.gram_limit, neurons);
}

void LayerTables::unpack() { positions.unpack(), tokens.unpack(); }
void LayerTables::pack() { positions.pack(), tokens.pack(); }

namespace {

void add_fired(uint32_t* counts, const uint8_t* fired, int64_t count) {
  for (int64_t i = 0; i < count; ++i) counts[i] += fired[i];
}

void ask_for(const uint32_t* counts, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) __builtin_prefetch(counts + i, 1);
}

// Most neurons are silent, so that eight are passed over at once.
template <class Visit>
void each_fired(const uint8_t* fired, int64_t count, Visit&& visit) {
  for (int64_t i = 0; i < count; i += 8) {
    uint64_t eight = 0;
    std::memcpy(&eight, fired + i, static_cast<size_t>(std::min<int64_t>(8, count - i)));
    for (; eight != 0; eight &= eight - 1) visit(i + std::countr_zero(eight) / 8);
  }
}

}  // namespace

void LayerTables::add(const Slab& slab, int64_t begin, int64_t end, int64_t neurons) {
  const auto rows = std::ssize(slab.post) / neurons;
  const auto window = slab.window > 0 ? slab.window : rows;
  for (int64_t t = 0; t < rows; ++t) {
    const uint8_t* fired = slab.fired.data() + t * neurons + begin;
    if (positions.defined()) add_fired(positions.row(t % window) + begin, fired, end - begin);
    if (tokens.defined()) {
      // The row after this one lies anywhere in a table that no cache holds.
      if (t + 1 < rows)
        ask_for(tokens.row(slab.ids[slab.first_token + t + 1]) + begin, end - begin);
      add_fired(tokens.row(slab.ids[slab.first_token + t]) + begin, fired, end - begin);
    }
    for (auto& table : grams) {
      if (t % window + 1 < table.order()) continue;  // no n-gram reaches into another window
      const auto last = slab.first_token + t;
      const auto hash = gram_hash(slab.ids, last, table.order());
      each_fired(fired, end - begin, [&](int64_t i) { table.add(begin + i, hash, last); });
    }
  }
}

void LayerTables::merge(const LayerTables& other) {
  require(kind == other.kind, "their collectors differ");
  for (size_t k = 0; k < moments.power.size(); ++k)
    for (size_t i = 0; i < moments.power[k].size(); ++i)
      moments.power[k][i].add(other.moments.power[k][i]);
  for (size_t i = 0; i < histogram.count.size(); ++i)
    histogram.count[i] += other.histogram.count[i];
  if (positions.defined()) positions.merge(other.positions);
  if (tokens.defined()) tokens.merge(other.tokens);
  for (size_t k = 0; k < grams.size(); ++k) grams[k].merge(other.grams[k]);
}

uint64_t gram_hash(std::span<const int32_t> ids, int64_t last, int order) {
  uint64_t hash = static_cast<uint64_t>(order);
  for (int64_t t = last - order + 1; t <= last; ++t)
    hash = split_mix(hash ^ static_cast<uint64_t>(static_cast<uint32_t>(ids[t])));
  return hash;
}

}  // namespace cajal::atlas
