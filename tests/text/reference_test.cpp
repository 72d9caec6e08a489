// Tokenizers of many styles against what the reference library says of the same texts.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "cajal/core/error.h"
#include "cajal/core/files.h"
#include "cajal/core/gzip.h"
#include "cajal/text/tokenizer.h"

namespace {

namespace fs = std::filesystem;
using cajal::Json;
using cajal::text::Specials;
using cajal::text::StreamDecoder;
using cajal::text::Tokenizer;

std::string streamed(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  StreamDecoder stream(tokenizer, Specials::without);
  std::string text;
  for (const int32_t id : ids) text += stream.push(id);
  return text + stream.finish();
}

// What differs from one answer, or nothing.
std::string difference(const Tokenizer& tokenizer, const Json& answer) {
  const auto text = answer["text"].get<std::string>();
  std::vector<int32_t> ids;
  std::vector<std::string> names;
  for (const auto& [id, name] : tokenizer.encode_tokens(text))
    ids.push_back(id), names.push_back(name);
  const auto decoded = tokenizer.decode(ids, Specials::without);
  if (ids != answer["ids"].get<std::vector<int32_t>>())
    return fmt::format("ids {}, expected {}", ids, answer["ids"].dump());
  if (names != answer["tokens"].get<std::vector<std::string>>())
    return fmt::format("tokens {}, expected {}", names, answer["tokens"].dump());
  if (tokenizer.encode(text) != ids) return "encode and encode_tokens differ";
  if (decoded != answer["decoded"].get<std::string>())
    return fmt::format("decoded '{}', expected {}", decoded, answer["decoded"].dump());
  if (tokenizer.decodes_bytes() && streamed(tokenizer, ids) != decoded)
    return "decoded as a stream it differs";
  if (answer.contains("raw") && tokenizer.decode(ids) != answer["raw"].get<std::string>())
    return fmt::format("with special tokens '{}', expected {}", tokenizer.decode(ids),
                       answer["raw"].dump());
  if (answer.contains("plain") &&
      tokenizer.encode(text, Specials::without) != answer["plain"].get<std::vector<int32_t>>())
    return "ids without special tokens differ";
  return "";
}

// The first few texts whose answer differs, and how.
std::string differences(const Tokenizer& tokenizer, const Json& answers) {
  std::string report;
  int wrong = 0;
  for (const auto& answer : answers) {
    const auto what = difference(tokenizer, answer);
    if (!what.empty() && ++wrong <= 3)
      report += fmt::format("\n  {}: {}", answer["text"].dump(), what);
  }
  return wrong == 0 ? "" : fmt::format("{} of {} texts differ{}", wrong, answers.size(), report);
}

TEST(Tokenizer, GivesTheReferenceAnswersForNineteenStyles) {
  const auto content =
      cajal::read_compressed(fs::path(CAJAL_TEST_GOLDEN) / "text/styles.json.xz", 1 << 24);
  const auto styles = cajal::parse_json(content, "styles.json.xz");
  ASSERT_EQ(styles.size(), 19u);
  for (const auto& [name, style] : styles.items()) {
    const auto tokenizer = Tokenizer::parse(style["tokenizer"].dump(), name);
    EXPECT_EQ(differences(tokenizer, style["reference"]), "") << name;
  }
}

TEST(Tokenizer, GivesTheReferenceAnswersForTheGoldenTokenizers) {
  const char* golden = std::getenv("CAJAL_GOLDEN");
  const fs::path root = fs::path(golden ? golden : "") / "tokenizers";
  if (!golden || !fs::is_directory(root)) GTEST_SKIP() << "no CAJAL_GOLDEN/tokenizers";
  for (const auto& entry : fs::directory_iterator(root)) {
    if (!fs::exists(entry.path() / "reference.json")) continue;
    EXPECT_EQ(differences(Tokenizer::open(entry.path()),
                          cajal::read_json(entry.path() / "reference.json")),
              "")
        << entry.path().string();
  }
}

TEST(Tokenizer, ReadsTheOlderFilesOfGpt2) {
  const char* data = std::getenv("CAJAL_DATA");
  const fs::path source = fs::path(data ? data : "") / "gpt2-bpe";
  if (!data || !fs::is_directory(source)) GTEST_SKIP() << "no CAJAL_DATA/gpt2-bpe";
  const fs::path folder = fs::path(testing::TempDir()) / "older_files_of_gpt2";
  fs::create_directories(folder);
  for (const auto& [packed, name] :
       {std::pair("encoder.json.gz", "vocab.json"), std::pair("vocab.bpe.gz", "merges.txt")})
    cajal::write_file(folder / name, cajal::read_compressed(source / packed, 1 << 24));
  const auto tokenizer = Tokenizer::open(folder);
  EXPECT_EQ(tokenizer.size(), 50257);
  std::istringstream lines(cajal::read_file(source / "golden.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const auto answer = cajal::parse_json(line, "golden.jsonl");
    const auto text = answer["text"].get<std::string>();
    // The golden ids take special tokens for plain text; here they are found.
    if (text.find("<|endoftext|>") != std::string::npos) continue;
    const auto ids = tokenizer.encode(text);
    EXPECT_EQ(ids, answer["ids"].get<std::vector<int32_t>>()) << text;
    EXPECT_EQ(tokenizer.decode(ids), text);
  }
  fs::remove_all(folder);
}

}  // namespace
