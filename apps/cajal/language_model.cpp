#include "language_model.h"

#include <charconv>

#include "cajal/core/error.h"

namespace cajal {
namespace {

bool has_tokenizer(const std::filesystem::path& folder) {
  for (const char* name : {"tokenizer.json", "vocab.json", "vocab.txt"})
    if (std::filesystem::exists(folder / name)) return true;
  return false;
}

}  // namespace

const text::Tokenizer& LanguageModel::need_tokenizer() const {
  require(tokenizer.has_value(), "{}: no tokenizer there (tokenizer.json, vocab.json or vocab.txt)",
          folder.string());
  return *tokenizer;
}

std::string LanguageModel::text_of(std::span<const int32_t> ids) const {
  return tokenizer ? tokenizer->decode(ids, text::Specials::without) : "";
}

LanguageModel open_language_model(const std::string& name, int threads) {
  set_torch_threads(threads);
  LanguageModel out;
  out.folder = lm::find_model(name);
  out.model = lm::load(out.folder);
  if (has_tokenizer(out.folder)) out.tokenizer = text::Tokenizer::open(out.folder);
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
