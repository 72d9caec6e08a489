// Every style of the reference tokenizers, text by text.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "cajal/core/error.h"
#include "cajal/text/tokenizer.h"

namespace {

namespace fs = std::filesystem;
using cajal::Json;
using cajal::text::Specials;
using cajal::text::Tokenizer;

// Folders with a tokenizer and its reference.json below the reference answers; none when absent.
std::vector<fs::path> reference_folders() {
  std::vector<fs::path> folders;
  const char* golden = std::getenv("CAJAL_GOLDEN");
  for (const fs::path& root : {fs::path(CAJAL_TEST_GOLDEN) / "text",
                               golden ? fs::path(golden) / "tokenizers" : fs::path()}) {
    if (!fs::is_directory(root)) continue;
    for (const auto& entry : fs::directory_iterator(root))
      if (fs::exists(entry.path() / "reference.json")) folders.push_back(entry.path());
  }
  return folders;
}

// The first few texts whose answer differs, and how.
std::string differences(const fs::path& folder) {
  const auto tokenizer = Tokenizer::open(folder);
  std::string report;
  int wrong = 0;
  for (const auto& answer : cajal::read_json(folder / "reference.json")) {
    const auto text = answer["text"].get<std::string>();
    const auto tokens = tokenizer.encode_tokens(text);
    std::vector<int32_t> ids;
    std::vector<std::string> names;
    for (const auto& [id, name] : tokens) ids.push_back(id), names.push_back(name);
    std::string what;
    if (ids != answer["ids"].get<std::vector<int32_t>>())
      what = fmt::format("ids {}, expected {}", ids, answer["ids"].dump());
    else if (names != answer["tokens"].get<std::vector<std::string>>())
      what = fmt::format("tokens {}, expected {}", names, answer["tokens"].dump());
    else if (tokenizer.encode(text) != ids)
      what = "encode and encode_tokens differ";
    else if (tokenizer.decode(ids, Specials::without) != answer["decoded"].get<std::string>())
      what = fmt::format("decoded '{}', expected {}", tokenizer.decode(ids, Specials::without),
                         answer["decoded"].dump());
    else if (answer.contains("raw") && tokenizer.decode(ids) != answer["raw"].get<std::string>())
      what = fmt::format("raw '{}', expected {}", tokenizer.decode(ids), answer["raw"].dump());
    else if (answer.contains("plain") &&
             tokenizer.encode(text, Specials::without) !=
                 answer["plain"].get<std::vector<int32_t>>())
      what = "plain ids differ";
    if (what.empty()) continue;
    if (++wrong <= 3) report += fmt::format("\n  {}: {}", Json(text).dump(), what);
  }
  return wrong == 0 ? "" : fmt::format("{} texts differ{}", wrong, report);
}

TEST(Tokenizer, GivesTheReferenceIdsTokensAndTextForEveryStyle) {
  const auto folders = reference_folders();
  if (folders.empty()) GTEST_SKIP() << "no reference tokenizers (CAJAL_GOLDEN/tokenizers)";
  for (const auto& folder : folders)
    EXPECT_EQ(differences(folder), "") << folder.filename().string();
}

}  // namespace
