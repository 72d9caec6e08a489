#include "cajal/kernels/memory.h"

#include <sys/mman.h>

#include "cajal/core/error.h"

namespace cajal {

WeightMemory::WeightMemory(size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  require(data != MAP_FAILED, "no memory for {} bytes of weights", bytes);
  ::madvise(data, bytes, MADV_HUGEPAGE);  // a wish: without huge pages it is only slower
  data_ = {static_cast<std::byte*>(data), [bytes](std::byte* of) { ::munmap(of, bytes); }};
}

}  // namespace cajal
