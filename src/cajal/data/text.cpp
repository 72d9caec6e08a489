#include "cajal/data/text.h"

#include <utf8proc.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "cajal/core/error.h"
#include "cajal/core/gzip.h"
#include "cajal/data/array.h"
#include "cajal/data/catalogue.h"

namespace cajal::data {
namespace fs = std::filesystem;
namespace {

// Where the splits of a corpus lie in its folder.
const std::map<std::string, std::string, std::less<>>& split_files() {
  static const std::map<std::string, std::string, std::less<>> files = {
      {"classics/train", "train.txt.xz"},
      {"classics/valid", "valid.txt.xz"},
      {"classics/test", "test.txt.xz"},
      {"wikitext2/train", "wikitext-2-raw-v1/wikitext-2-raw/wiki.train.raw"},
      {"wikitext2/valid", "wikitext-2-raw-v1/wikitext-2-raw/wiki.valid.raw"},
      {"wikitext2/test", "wikitext-2-raw-v1/wikitext-2-raw/wiki.test.raw"},
      {"tinystories/train", "TinyStoriesV2-GPT4-train.txt"},
      {"tinystories/valid", "TinyStoriesV2-GPT4-valid.txt"}};
  return files;
}

fs::path place_of(const std::string& path_or_name) {
  std::error_code error;
  if (fs::is_regular_file(path_or_name, error)) return path_or_name;
  const auto slash = path_or_name.find('/');
  const auto split = slash == path_or_name.npos ? path_or_name + "/train" : path_or_name;
  const auto found = split_files().find(split);
  if (found == split_files().end()) {
    std::vector<std::string_view> known;
    for (const auto& [name, file] : split_files()) known.push_back(name);
    fail("{}: neither a file nor one of {}", path_or_name, fmt::join(known, ", "));
  }
  return find_file(split.substr(0, split.find('/')), {found->second});
}

void require_utf8(std::string_view text, std::string_view where) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  for (size_t at = 0; at < text.size();) {
    if (bytes[at] < 0x80) {  // the usual case, without a call
      ++at;
      continue;
    }
    utf8proc_int32_t point = 0;
    const auto rest = std::min<size_t>(4, text.size() - at);
    const auto used = utf8proc_iterate(bytes + at, static_cast<utf8proc_ssize_t>(rest), &point);
    require(used > 0, "{}: not UTF-8 text at byte {}", where, at);
    at += static_cast<size_t>(used);
  }
}

}  // namespace

std::string read_text(const std::string& path_or_name) {
  const auto path = place_of(path_or_name);
  auto text = read_compressed(path, kMaxBytes);
  require_utf8(text, path.string());
  return text;
}

std::vector<std::string_view> documents(std::string_view text) {
  std::vector<std::string_view> out;
  size_t begin = 0;
  const auto keep = [&](size_t end) {
    auto piece = text.substr(begin, end - begin);
    if (piece.ends_with('\n')) piece.remove_suffix(1);
    if (!piece.empty()) out.push_back(piece);
  };
  for (size_t at = 0; (at = text.find(kDocumentMark, at)) != text.npos;) {
    const size_t behind = at + kDocumentMark.size();
    const bool begins_line = at == 0 || text[at - 1] == '\n';
    const bool ends_line = behind == text.size() || text[behind] == '\n';
    if (begins_line && ends_line) {
      keep(at);
      begin = std::min(text.size(), behind + 1);
    }
    at = behind;
  }
  keep(text.size());
  return out;
}

}  // namespace cajal::data
