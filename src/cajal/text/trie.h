#pragma once
#include <bit>
#include <cstdint>
#include <string_view>
#include <vector>

namespace cajal::text {

/// A set of byte strings, each with a value >= 0, walked byte by byte.
class Trie {
 public:
  static constexpr int32_t kRoot = 0;
  static constexpr int32_t kNone = -1;

  Trie() : values_(1, kNone), slots_(64) {}

  /// Adds a string; a later value for the same string replaces the earlier one.
  void add(std::string_view key, int32_t value) {
    int32_t node = kRoot;
    for (const char c : key) {
      const auto byte = static_cast<uint8_t>(c);
      int32_t next = step(node, byte);
      if (next == kNone) {
        next = static_cast<int32_t>(values_.size());
        values_.push_back(kNone);
        if (values_.size() * 2 > slots_.size()) grow();
        place({label(node, byte), next});
      }
      node = next;
    }
    values_[static_cast<size_t>(node)] = value;
  }

  /// The node one byte further, or kNone.
  int32_t step(int32_t node, uint8_t byte) const {
    const uint64_t key = label(node, byte);
    for (size_t at = home(key);; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at].key == key) return slots_[at].node;
      if (slots_[at].node == kNone) return kNone;
    }
  }

  /// The node that a string leads to, or kNone.
  int32_t walk(std::string_view key, int32_t node = kRoot) const {
    for (const char c : key) {
      node = step(node, static_cast<uint8_t>(c));
      if (node == kNone) break;
    }
    return node;
  }

  /// The value of the string that ends at this node, or kNone.
  int32_t value(int32_t node) const { return values_[static_cast<size_t>(node)]; }

 private:
  struct Slot {
    uint64_t key = 0;  // 0 is no label: labels start at 1
    int32_t node = kNone;
  };

  static uint64_t label(int32_t node, uint8_t byte) {
    return (static_cast<uint64_t>(node) << 8 | byte) + 1;
  }
  size_t home(uint64_t key) const {
    return (key * 0x9E3779B97F4A7C15ull) >> (64 - std::countr_zero(slots_.size()));
  }
  void place(Slot slot) {
    size_t at = home(slot.key);
    while (slots_[at].node != kNone) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = slot;
  }
  void grow() {
    auto old = std::move(slots_);
    slots_.assign(old.size() * 2, {});
    for (const auto& slot : old)
      if (slot.node != kNone) place(slot);
  }

  std::vector<int32_t> values_;  // [node]
  std::vector<Slot> slots_;      // open addressing: (node, byte) -> node
};

}  // namespace cajal::text
