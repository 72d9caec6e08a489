#pragma once
#include <cstddef>
#include <memory>
#include <span>

namespace cajal {

/// Zeroed memory for weights, aligned to a page and on huge pages where the system offers them:
/// reading it from end to end costs few address translations. Copies share it; its pages go when
/// the last of them does.
/// Throws Error when there is not enough.
class WeightMemory {
 public:
  WeightMemory() = default;
  explicit WeightMemory(size_t bytes);

  std::byte* data() const { return data_.get(); }
  size_t size() const { return size_; }

  /// Gives the whole pages of this part of it back, whose content is lost. Does nothing where the
  /// part is not of this memory or a copy shares it.
  void forget(std::span<const std::byte> part) const;

 private:
  std::shared_ptr<std::byte> data_;
  size_t size_ = 0;
};

}  // namespace cajal
