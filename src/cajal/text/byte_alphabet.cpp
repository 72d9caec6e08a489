#include "cajal/text/byte_alphabet.h"

#include <array>

#include "cajal/text/unicode.h"

namespace cajal::text {
namespace {

constexpr bool is_printable(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

struct Alphabet {
  std::array<char32_t, 256> letters{};
  std::array<int16_t, 0x144> bytes{};
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  for (auto& byte : alphabet.bytes) byte = -1;
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const char32_t letter = is_printable(byte) ? static_cast<char32_t>(byte) : next++;
    alphabet.letters[static_cast<size_t>(byte)] = letter;
    alphabet.bytes[letter] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

char32_t byte_letter(uint8_t byte) { return kAlphabet.letters[byte]; }

int letter_byte(char32_t letter) {
  return letter < kAlphabet.bytes.size() ? kAlphabet.bytes[letter] : -1;
}

std::string to_byte_letters(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char c : bytes) append_utf8(out, byte_letter(static_cast<uint8_t>(c)));
  return out;
}

bool from_byte_letters(std::string_view letters, std::string& out) {
  std::string bytes;
  bytes.reserve(letters.size());
  for (size_t at = 0; at < letters.size();) {
    const auto [letter, length] = code_point_at(letters, at);
    const int byte = letter_byte(letter);
    if (byte < 0) return false;
    bytes.push_back(static_cast<char>(byte));
    at += length;
  }
  out = std::move(bytes);
  return true;
}

}  // namespace cajal::text
