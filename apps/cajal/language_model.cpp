#include "language_model.h"

#include <charconv>

#include "cajal/core/error.h"
#include "cajal/core/gguf.h"

namespace cajal {
namespace {

bool has_tokenizer(const std::filesystem::path& path) {
  if (lm::is_gguf(path)) return Gguf::open(path).has("tokenizer.ggml.model");
  for (const char* name : {"tokenizer.json", "tokenizer.gguf", "vocab.json", "vocab.txt"})
    if (std::filesystem::exists(path / name)) return true;
  return false;
}

}  // namespace

std::optional<text::Tokenizer> open_tokenizer(const std::filesystem::path& path) {
  return has_tokenizer(path) ? std::optional(text::Tokenizer::open(path)) : std::nullopt;
}

const text::Tokenizer& need_tokenizer(const std::optional<text::Tokenizer>& tokenizer,
                                      const std::string& path) {
  require(tokenizer.has_value(), "{}: no tokenizer there (tokenizer.json, vocab.json or vocab.txt)",
          path);
  return *tokenizer;
}

const text::Tokenizer& LanguageModel::need_tokenizer() const {
  return cajal::need_tokenizer(tokenizer, folder.string());
}

std::string LanguageModel::text_of(std::span<const int32_t> ids) const {
  return tokenizer ? tokenizer->decode(ids, text::Specials::without) : "";
}

LanguageModel open_language_model(const std::string& name, int threads) {
  set_torch_threads(threads);
  LanguageModel out;
  out.folder = lm::find_model(name);
  out.model = lm::load(out.folder);
  out.tokenizer = open_tokenizer(out.folder);
  return out;
}

std::vector<int32_t> parse_ids(const std::string& list, std::string_view option) {
  std::vector<int32_t> ids;
  for (size_t at = 0; at <= list.size();) {
    const size_t end = std::min(list.find(',', at), list.size());
    std::string_view number(list.data() + at, end - at);
    while (number.starts_with(' ')) number.remove_prefix(1);
    while (number.ends_with(' ')) number.remove_suffix(1);
    int32_t id = 0;
    const auto [stop, error] = std::from_chars(number.begin(), number.end(), id);
    require(error == std::errc() && stop == number.end() && id >= 0,
            "{}: '{}' is not an id; expected whole numbers with commas between them", option,
            number);
    ids.push_back(id);
    at = end + 1;
  }
  return ids;
}

std::string readable_bytes(int64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1000 && unit + 1 < std::size(kUnits)) value /= 1000, ++unit;
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.3g} {}", value, kUnits[unit]);
}

}  // namespace cajal
