#include "cajal/text/gguf_tokenizer.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "cajal/text/tokenizer.h"
#include "core/scratch.h"

namespace cajal::text {
namespace {

namespace fs = std::filesystem;

fs::path golden(const char* name) {
  const char* root = std::getenv("CAJAL_GOLDEN");
  const auto path = fs::path(root ? root : "") / name;
  return fs::exists(path) ? path : fs::path();
}

TEST(GgufTokenizerOfReference, GivesItsIdsInBothReadings) {
  const auto folder = golden("gguf");
  if (folder.empty()) GTEST_SKIP() << "CAJAL_GOLDEN holds no GGUF files";
  const auto tokenizer = Tokenizer::open(folder / "llama-Q4_0.gguf");
  for (const auto& row : read_json(folder / "tokenizer.reference.json")) {
    const auto text = row["text"].get<std::string>();
    const auto ids = row["ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer.encode(text, Specials::with, Written::text), ids) << text;
    const auto parsed = row.contains("ids_parse_special")
                            ? row["ids_parse_special"].get<std::vector<int32_t>>()
                            : ids;
    EXPECT_EQ(tokenizer.encode(text), parsed) << text;
    EXPECT_EQ(tokenizer.decode(std::span(ids).subspan(1)), text);
  }
}

using GgufTokenizer = ::Scratch;

TEST_F(GgufTokenizer, ByteLevelBpeFollowsItsMergesAndItsPattern) {
  const auto path = in("x.gguf");
  write_gguf(
      path,
      {{"tokenizer.ggml.model", std::string("gpt2")},
       {"tokenizer.ggml.pre", std::string("gpt-2")},
       {"tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "ab", "Ġ", "Ġab", "<s>", "1"}},
       {"tokenizer.ggml.token_type", std::vector<int32_t>{1, 1, 1, 1, 1, 3, 1}},
       {"tokenizer.ggml.merges", std::vector<std::string>{"a b", "Ġ ab"}},
       {"tokenizer.ggml.bos_token_id", 5u},
       {"tokenizer.ggml.add_bos_token", true}},
      {});
  const auto tokenizer = Tokenizer::open(path);
  EXPECT_EQ(tokenizer.encode("ab ab1<s>b"), (std::vector<int32_t>{5, 2, 4, 6, 5, 1}));
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{2, 4, 6}), "ab ab1");
  EXPECT_EQ(tokenizer.specials().bos, 5);
}

TEST_F(GgufTokenizer, TheBetterScoreMergesFirst) {
  const auto path = in("x.gguf");
  write_gguf(path,
             {{"tokenizer.ggml.model", std::string("llama")},
              {"tokenizer.ggml.tokens",
               std::vector<std::string>{"<unk>", "<s>", "</s>", "a", "b", "c", "ab", "bc"}},
              {"tokenizer.ggml.scores", std::vector<float>{0, 0, 0, -9, -9, -9, -2, -1}},
              {"tokenizer.ggml.token_type", std::vector<int32_t>{2, 3, 3, 1, 1, 1, 1, 1}},
              {"tokenizer.ggml.add_space_prefix", false}},
             {});
  EXPECT_EQ(Tokenizer::open(path).encode("abc"), (std::vector<int32_t>{1, 3, 7}));
}

TEST_F(GgufTokenizer, RefusesWhatItCannotBe) {
  const auto path = in("x.gguf");
  const auto said = [&](std::vector<std::pair<std::string, GgufSetting>> settings) {
    write_gguf(path, settings, {});
    return error_of([&] { Tokenizer::open(path); }, path.string() + ": ");
  };
  const std::vector<std::string> tokens{"a", "b"};
  EXPECT_EQ(said({}), "no tokenizer in it: tokenizer.ggml.model is missing");
  EXPECT_EQ(said({{"tokenizer.ggml.model", std::string("bert")}}),
            "tokenizer.ggml.model is 'bert', expected gpt2 or llama");
  EXPECT_EQ(said({{"tokenizer.ggml.model", std::string("llama")}}),
            "tokenizer.ggml.tokens is missing");
  EXPECT_EQ(
      said({{"tokenizer.ggml.model", std::string("llama")}, {"tokenizer.ggml.tokens", tokens}}),
      "tokenizer.ggml.scores has 0 entries for 2 tokens");
  EXPECT_EQ(said({{"tokenizer.ggml.model", std::string("gpt2")},
                  {"tokenizer.ggml.tokens", tokens},
                  {"tokenizer.ggml.eos_token_id", 7u}}),
            "tokenizer.ggml.eos_token_id is 7, expected an id below 2");
  EXPECT_EQ(said({{"tokenizer.ggml.model", std::string("gpt2")},
                  {"tokenizer.ggml.tokens", tokens},
                  {"tokenizer.ggml.merges", std::vector<std::string>{"ab"}}}),
            "tokenizer.ggml.merges: 'ab' is not two tokens with a space");
}

}  // namespace
}  // namespace cajal::text
