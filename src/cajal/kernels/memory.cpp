#include "cajal/kernels/memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <mutex>

#include "cajal/core/error.h"

namespace cajal {
namespace {

constexpr size_t kPage = 4096, kHugePage = size_t{2} << 20, kArena = size_t{64} << 20;

size_t round_up(size_t bytes, size_t multiple) {
  return (bytes + multiple - 1) / multiple * multiple;
}

/// Gives the whole pages between back: a neighbour's bytes on a shared page stay.
void discard(std::byte* data, size_t bytes) {
  const auto begin = round_up(reinterpret_cast<uintptr_t>(data), kPage);
  const auto end = (reinterpret_cast<uintptr_t>(data) + bytes) / kPage * kPage;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

/// Fresh zeros from the border of a huge page on.
std::shared_ptr<std::byte> map(size_t bytes) {
  const size_t whole = bytes + kHugePage;
  require(whole > bytes, "no memory for {} bytes of weights", bytes);
  void* data = ::mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  require(data != MAP_FAILED, "no memory for {} bytes of weights", bytes);
  auto* const from =
      reinterpret_cast<std::byte*>(round_up(reinterpret_cast<uintptr_t>(data), kHugePage));
  ::madvise(from, bytes, MADV_HUGEPAGE);  // a wish: without huge pages it is only slower
  return {from, [data, whole](std::byte*) { ::munmap(data, whole); }};
}

}  // namespace

WeightMemory::WeightMemory(size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  if (bytes > kArena / 4) {
    data_ = map(bytes);
    return;
  }
  // Small ones lie side by side, so that they are on huge pages too: pieces of their own would not
  // be, and finding a page costs more than reading what a few neurons have on it.
  static std::mutex mutex;
  static std::shared_ptr<std::byte> arena;
  static size_t used = kArena;
  const std::lock_guard lock(mutex);
  if (used + bytes > kArena) arena = map(kArena), used = 0;
  data_ = {arena.get() + used,
           [whole = arena, bytes](std::byte* data) { discard(data, round_up(bytes, kPage)); }};
  used += round_up(bytes, kPage);
}

void WeightMemory::forget(std::span<const std::byte> part) const {
  if (data_.use_count() != 1 || part.data() < data() || part.data() + part.size() > data() + size_)
    return;
  discard(data() + (part.data() - data()), part.size());
}

}  // namespace cajal
