#include "cajal/atlas/text.h"

#include <algorithm>

#include "cajal/core/error.h"
#include "cajal/data/text.h"

namespace cajal::atlas {

namespace fs = std::filesystem;

Reading read_text(const fs::path& folder, int64_t vocabulary, const fs::path& file,
                  int64_t tokens) {
  require(tokens >= 0, "{} tokens: expected 0 (all) or more", tokens);
  const auto whole = data::read_text(file.string());
  std::string_view text = whole;
  // Tokens are shorter than this many bytes, so that of a large text only the start is read.
  if (constexpr size_t longest = 32;
      tokens > 0 && text.size() / longest > static_cast<size_t>(tokens))
    text = text.substr(0, static_cast<size_t>(tokens) * longest);
  Reading reading{.name = file.filename().string(), .ids = {}, .tokenizer = {}};
  const bool bytes = vocabulary == 256 && !fs::exists(folder / "tokenizer.json");
  if (bytes) {
    for (const char c : text) reading.ids.push_back(static_cast<uint8_t>(c));
  } else {
    reading.tokenizer = text::Tokenizer::open(folder);
    reading.ids = reading.tokenizer->encode(text, text::Specials::without);
  }
  if (tokens > 0 && std::ssize(reading.ids) > tokens) reading.ids.resize(tokens);
  require(reading.ids.size() >= 2, "{}: the text has {} bytes and {} tokens, expected 2 at least",
          file.string(), text.size(), reading.ids.size());
  return reading;
}

std::string words(const Reading& reading, int64_t begin, int64_t end) {
  begin = std::clamp<int64_t>(begin, 0, std::ssize(reading.ids));
  end = std::clamp<int64_t>(end, begin, std::ssize(reading.ids));
  const std::span part(reading.ids.data() + begin, static_cast<size_t>(end - begin));
  if (reading.tokenizer) return reading.tokenizer->decode(part, text::Specials::with);
  std::string out;
  for (const auto id : part) out += static_cast<char>(id);
  return out;
}

void add_contexts(Census& census, const Reading& reading) {
  for (const auto& layer : census.layers)
    for (const auto& peak : layer.peaks)
      if (peak.token >= 0 && !census.contexts.contains(peak.token))
        census.contexts[peak.token] = {words(reading, peak.token - 12, peak.token),
                                       words(reading, peak.token, peak.token + 1),
                                       words(reading, peak.token + 1, peak.token + 5)};
}

}  // namespace cajal::atlas
