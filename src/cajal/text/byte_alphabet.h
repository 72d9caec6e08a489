#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace cajal::text {

/// GPT-2's alphabet, which writes each byte as one printable character: bytes 33-126, 161-172 and
/// 174-255 stand for themselves, the other 68 in order for U+0100 to U+0143.
char32_t byte_letter(uint8_t byte);

/// The byte that a letter of the alphabet stands for, or -1.
int letter_byte(char32_t letter);

/// The text with each byte written as its letter.
std::string to_byte_letters(std::string_view bytes);

/// The bytes that a text of letters stands for; false, and `out` untouched, when some code point is
/// no letter of the alphabet.
bool from_byte_letters(std::string_view letters, std::string& out);

}  // namespace cajal::text
