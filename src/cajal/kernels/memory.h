#pragma once
#include <cstddef>
#include <memory>

namespace cajal {

/// Zeroed memory for weights, aligned to a page and on huge pages where the system offers them:
/// reading it from end to end costs few address translations. Copies share it.
/// Throws Error when there is not enough.
class WeightMemory {
 public:
  WeightMemory() = default;
  explicit WeightMemory(size_t bytes);

  std::byte* data() const { return data_.get(); }
  size_t size() const { return size_; }

 private:
  std::shared_ptr<std::byte> data_;
  size_t size_ = 0;
};

}  // namespace cajal
