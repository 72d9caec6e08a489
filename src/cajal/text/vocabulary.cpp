#include "cajal/text/vocabulary.h"

#include <bit>
#include <cstring>

#include "cajal/core/error.h"

namespace cajal::text {

uint64_t hash_bytes(std::string_view bytes) {
  uint64_t hash = 0x9E3779B97F4A7C15ull ^ bytes.size();
  const auto mix = [&](uint64_t word) {
    hash = (hash ^ word) * 0xD6E8FEB86659FD93ull;
    hash ^= hash >> 32;
  };
  while (bytes.size() >= 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data(), 8);
    mix(word);
    bytes.remove_prefix(8);
  }
  uint64_t word = 0;
  std::memcpy(&word, bytes.data(), bytes.size());
  mix(word);
  return hash ^ hash >> 29;
}

void Vocabulary::reserve(size_t tokens, size_t bytes) {
  arena_.reserve(bytes);
  entries_.reserve(tokens);
  by_id_.reserve(tokens);
  grow(tokens);
}

size_t Vocabulary::slot(std::string_view token) const {
  size_t at = hash_bytes(token) & (slots_.size() - 1);
  while (slots_[at] >= 0 && text_of(entries_[static_cast<size_t>(slots_[at])]) != token)
    at = (at + 1) & (slots_.size() - 1);
  return at;
}

void Vocabulary::grow(size_t tokens) {
  const size_t want = std::bit_ceil(tokens * 2 + 16);
  if (want <= slots_.size()) return;
  slots_.assign(want, -1);
  for (size_t i = 0; i < entries_.size(); ++i)
    slots_[slot(text_of(entries_[i]))] = static_cast<int32_t>(i);
}

bool Vocabulary::add(std::string_view token, int32_t id) {
  require(id >= 0 && id <= kMaxId, "vocabulary: token '{}' has id {}, expected 0 to {}", token, id,
          kMaxId);
  if ((entries_.size() + 1) * 2 > slots_.size()) grow(entries_.size() * 2 + 1);
  const size_t at = slot(token);
  if (slots_[at] >= 0) return false;
  const auto index = static_cast<int32_t>(entries_.size());
  slots_[at] = index;
  entries_.push_back({arena_.size(), static_cast<uint32_t>(token.size()), id});
  arena_.append(token);
  if (static_cast<size_t>(id) >= by_id_.size()) by_id_.resize(static_cast<size_t>(id) + 1, -1);
  if (by_id_[static_cast<size_t>(id)] < 0) by_id_[static_cast<size_t>(id)] = index;
  return true;
}

int32_t Vocabulary::find(std::string_view token) const {
  if (slots_.empty()) return -1;
  const int32_t index = slots_[slot(token)];
  return index < 0 ? -1 : entries_[static_cast<size_t>(index)].id;
}

}  // namespace cajal::text
