#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cajal::text {

/// Tokens by id and ids by token. Token texts may be any bytes. Const use is thread-safe.
class Vocabulary {
 public:
  /// Ids lie in [0, kMaxId].
  static constexpr int64_t kMaxId = (int64_t{1} << 24) - 1;

  /// Makes room for `tokens` tokens of `bytes` bytes in all.
  void reserve(size_t tokens, size_t bytes);

  /// Adds a token; returns false, and changes nothing, when the token is there already.
  /// A second token under one id can be found by its text, while the id names the first.
  bool add(std::string_view token, int32_t id);

  /// The id of a token, or -1.
  int32_t find(std::string_view token) const;

  /// Whether a token has this id.
  bool contains(int64_t id) const {
    return id >= 0 && id < static_cast<int64_t>(by_id_.size()) &&
           by_id_[static_cast<size_t>(id)] >= 0;
  }

  /// The token of an id for which `contains` holds.
  std::string_view text(int32_t id) const {
    return text_of(entries_[static_cast<size_t>(by_id_[static_cast<size_t>(id)])]);
  }

  int32_t size() const { return static_cast<int32_t>(by_id_.size()); }  // one past the largest id
  size_t tokens() const { return entries_.size(); }

  /// Every (token, id) in the order in which they were added.
  template <class F>
  void for_each(F&& visit) const {
    for (const auto& entry : entries_) visit(text_of(entry), entry.id);
  }

 private:
  struct Entry {
    size_t begin;
    uint32_t bytes;
    int32_t id;
  };

  std::string_view text_of(const Entry& entry) const {
    return std::string_view(arena_).substr(entry.begin, entry.bytes);
  }
  size_t slot(std::string_view token) const;
  void grow(size_t tokens);

  std::string arena_;
  std::vector<Entry> entries_;
  std::vector<int32_t> slots_;  // open addressing: index of an entry, or -1
  std::vector<int32_t> by_id_;  // index of an entry, or -1
};

/// A fast hash of bytes for tables in memory; the same on every machine of one byte order.
uint64_t hash_bytes(std::string_view bytes);

}  // namespace cajal::text
