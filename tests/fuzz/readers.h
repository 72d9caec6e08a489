#pragma once
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace fuzz {

/// A reader of bytes from outside. It may do two things with any bytes: return, or throw
/// cajal::Error. Its seeds are the files of tests/golden/corpus/<name>.
struct Reader {
  std::string name;
  std::function<void(std::span<const std::byte>)> read;
};

/// Every reader there is; a new one is one line.
const std::vector<Reader>& readers();

}  // namespace fuzz
