#include "fuzz/mutate.h"

#include <algorithm>
#include <cstring>

namespace fuzz {
namespace {

constexpr size_t kMaxBytes = 1 << 20;

struct Range {
  size_t begin, size;
};

Range pick_range(const std::string& text, cajal::Random& random) {
  const size_t begin = random.below(text.size() + 1);
  return {begin, std::min<size_t>(text.size() - begin, random.below(64))};
}

// Values at which sizes, counts and offsets go wrong.
uint64_t telling_number(const std::string& text, cajal::Random& random) {
  const uint64_t numbers[] = {0,          1,          0x7f,       0x80,        0xff,
                              0xffff,     0x7fffffff, 1u << 31,   0xffffffff,  INT64_MAX,
                              1ull << 63, UINT64_MAX, 1ull << 40, text.size(), text.size() - 8};
  return numbers[random.below(std::size(numbers))] + random.below(3) - 1;
}

void overwrite_number(std::string& text, cajal::Random& random) {
  const size_t width = size_t{1} << random.below(4);
  if (text.size() < width) return;
  const uint64_t value = telling_number(text, random);
  std::memcpy(text.data() + random.below(text.size() - width + 1), &value, width);
}

void replace_digits(std::string& text, cajal::Random& random) {
  const char* const numbers[] = {
      "0",  "-1",   "9223372036854775807", "18446744073709551616", "1e999", "\"", "[",
      "{}", "null", "4294967296"};
  const size_t from = random.below(text.size() + 1);
  const size_t begin = text.find_first_of("0123456789", from);
  if (begin == text.npos) return;
  const size_t end = std::min(text.find_first_not_of("0123456789", begin), text.size());
  text.replace(begin, end - begin, numbers[random.below(std::size(numbers))]);
}

void change(std::string& text, std::span<const std::string> seeds, cajal::Random& random) {
  const auto range = pick_range(text, random);
  switch (random.below(8)) {
    case 0:
      if (!text.empty()) text[random.below(text.size())] ^= static_cast<char>(1 << random.below(8));
      break;
    case 1:
      if (!text.empty()) text[random.below(text.size())] = static_cast<char>(random.next());
      break;
    case 2:
      overwrite_number(text, random);
      break;
    case 3:
      replace_digits(text, random);
      break;
    case 4:
      text.resize(random.below(text.size() + 1));
      break;
    case 5:
      text.erase(range.begin, range.size);
      break;
    case 6:
      text.insert(random.below(text.size() + 1), text.substr(range.begin, range.size));
      break;
    case 7: {
      const auto& other = seeds[random.below(seeds.size())];
      const auto part = pick_range(other, random);
      text.replace(range.begin, range.size, other, part.begin, part.size);
      break;
    }
  }
}

}  // namespace

std::string mutate(std::span<const std::string> seeds, cajal::Random& random) {
  std::string text = seeds[random.below(seeds.size())];
  for (uint64_t left = 1 + random.below(4); left > 0; --left) change(text, seeds, random);
  if (text.size() > kMaxBytes) text.resize(kMaxBytes);
  return text;
}

}  // namespace fuzz
