#include "cajal/text/tokenizer.h"

#include <gtest/gtest.h>

#include <thread>

#include "cajal/core/error.h"
#include "cajal/core/files.h"

namespace {

namespace fs = std::filesystem;
using namespace cajal::text;
using Ids = std::vector<int32_t>;

Tokenizer parse(const std::string& json) { return Tokenizer::parse(json, "t.json"); }

std::string error_of(const std::string& json, const std::string& text = "a") {
  try {
    parse(json).encode(text);
  } catch (const cajal::Error& error) {
    return error.what();
  }
  return "";
}

// A BPE of a few letters; `parts` are further fields of the file.
std::string bpe(const std::string& parts = "", const std::string& model = "") {
  return R"({"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"<s>":3,"abab":4},"merges":["a b",["ab","ab"]])" +
         (model.empty() ? "" : "," + model) + "}" + (parts.empty() ? "" : "," + parts) + "}";
}

TEST(Tokenizer, MergesByRankFromTheLeft) {
  EXPECT_EQ(parse(bpe()).encode("aabab"), (Ids{0, 4}));
  EXPECT_EQ(parse(bpe()).encode("ababab"), (Ids{4, 2}));
}

TEST(Tokenizer, GivesLongAndShortWordsTheSameMerges) {
  std::string text;
  Ids expected;
  for (int i = 0; i < 300; ++i) text += "ababb", expected.insert(expected.end(), {4, 1});
  EXPECT_EQ(parse(bpe()).encode(text), expected);
}

TEST(Tokenizer, GivesNothingForAnEmptyText) {
  EXPECT_EQ(parse(bpe()).encode(""), Ids{});
  EXPECT_EQ(parse(bpe()).decode({}), "");
}

TEST(Tokenizer, DropsUnknownSymbolsWithoutAnUnknownToken) {
  EXPECT_EQ(parse(bpe()).encode("a?b"), (Ids{2}));
  EXPECT_EQ(parse(bpe("", R"("unk_token":"<s>")")).encode("a??b"), (Ids{0, 3, 3, 1}));
  EXPECT_EQ(parse(bpe("", R"("unk_token":"<s>","fuse_unk":true)")).encode("a??b"), (Ids{0, 3, 1}));
}

TEST(Tokenizer, FindsTheLongestAddedTokenFirst) {
  const auto tokenizer = parse(bpe(
      R"("added_tokens":[{"id":5,"content":"<<"},{"id":6,"content":"<<<"},{"id":7,"content":"b","single_word":true}])"));
  EXPECT_EQ(tokenizer.encode("a<<<<<b"), (Ids{0, 6, 5, 1}));
}

TEST(Tokenizer, LetsAddedTokensTakeSpacesAndStandAlone) {
  const auto tokenizer = parse(bpe(
      R"("added_tokens":[{"id":5,"content":"[M]","lstrip":true,"rstrip":true},{"id":6,"content":"cd","single_word":true}])"));
  const auto tokens = tokenizer.encode_tokens("a \t[M]  b");
  ASSERT_EQ(tokens.size(), 3u);
  EXPECT_EQ(tokens[1].text, " \t[M]  ");
  EXPECT_EQ(tokenizer.encode("a cd b"), (Ids{0, 6, 1}));
  EXPECT_EQ(tokenizer.encode("acd b"), (Ids{2}));  // c, d and the space are unknown
}

TEST(Tokenizer, ReadsBothFormsOfMetaspace) {
  const auto with = [](const std::string& options) {
    return R"({"pre_tokenizer":{"type":"Metaspace","replacement":"▁")" + options +
           R"(},"model":{"type":"WordLevel","unk_token":"?","vocab":{"?":0,"a":1,"▁a":2,"▁":3}}})";
  };
  EXPECT_EQ(parse(with("")).encode("a a"), (Ids{2, 2}));
  EXPECT_EQ(parse(with(R"(,"add_prefix_space":false)")).encode("a a"), (Ids{1, 2}));
  EXPECT_EQ(parse(with(R"(,"prepend_scheme":"never")")).encode("a a"), (Ids{1, 2}));
  EXPECT_EQ(parse(with(R"(,"prepend_scheme":"always","split":false)")).encode("a a"), (Ids{0}));
}

TEST(Tokenizer, TakesBytesThatAreNotUtf8ForTheReplacementCharacter) {
  const auto tokenizer =
      parse(R"({"model":{"type":"WordLevel","unk_token":"?","vocab":{"?":0,"a�":1}}})");
  EXPECT_EQ(tokenizer.encode("a\xFF"), Ids{1});
}

TEST(Tokenizer, FramesTheTextByItsTemplate) {
  const auto tokenizer = parse(bpe(
      R"("post_processor":{"type":"Sequence","processors":[{"type":"ByteLevel"},{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"special_tokens":{"<s>":{"id":"<s>","ids":[3],"tokens":["<s>"]}}}]})"));
  EXPECT_EQ(tokenizer.encode("ab"), (Ids{3, 2}));
  EXPECT_EQ(tokenizer.encode("ab", Specials::without), (Ids{2}));
}

TEST(Tokenizer, NamesTheFieldThatIsWrong) {
  const auto says = [](const std::string& json, const std::string& part) {
    EXPECT_NE(error_of(json).find(part), std::string::npos) << error_of(json);
  };
  says("", "not valid JSON");
  says(R"({"model":)", "not valid JSON");
  says("[1]", "field 'model' is missing");
  says(R"({"model":{"type":"BPE"}})", "model.vocab: missing or empty");
  says(R"({"model":{"type":"BPE","vocab":{},"merges":[]}})", "model.vocab: missing or empty");
  says(R"({"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}})", "token 'a' has id -1");
  says(R"({"model":{"type":"BPE","vocab":{"a":99999999999},"merges":[]}})", "token 'a' has id");
  says(R"({"model":{"type":"BPE","vocab":{"a":1.5},"merges":[]}})", "token 'a' has id 1.5");
  says(R"({"model":{"type":"BPE","vocab":{"a":0,"b":0},"merges":[]}})",
       "'a' and 'b' both have id 0");
  says(R"({"model":{"type":"BPE","vocab":{"a":0,"a":1},"merges":[]}})", "token 'a' appears twice");
  says(R"({"model":{"type":"BPE","vocab":{"a":[]},"merges":[]}})",
       "model.vocab holds something else");
  says(R"({"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}})",
       "model.merges[0]: 'b' is not in the vocabulary");
  says(R"({"model":{"type":"BPE","vocab":{"a":0},"merges":["a"]}})",
       "model.merges[0]: expected two");
  says(R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[["a"]]}})",
       "model.merges[0]: expected two");
  says(R"({"model":{"type":"Unigram","vocab":[["a"]]}})",
       "model.vocab[0]: expected [token, score]");
  says(R"({"model":{"type":"Unigram","vocab":[["a",0]],"unk_id":9}})", "model.unk_id: 9");
  says(R"({"model":{"type":"Mystery","vocab":{"a":0}}})", "model 'Mystery' is not known");
  says(bpe(R"("normalizer":{"type":"Mystery"})"), "t.json: normalizer.type: normalizer 'Mystery'");
  says(bpe(R"("pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Mystery"}]})"),
       "t.json: pre_tokenizer.pretokenizers[0].type: pre-tokenizer 'Mystery'");
  says(bpe(R"("pre_tokenizer":{"type":"Split","pattern":{"Regex":"("},"behavior":"Removed"})"),
       "pre_tokenizer.pattern: pattern '(' is not a regular expression");
  says(bpe(R"("decoder":{"type":"Mystery"})"), "t.json: decoder.type: decoder 'Mystery'");
  says(bpe(R"("decoder":7)"), "t.json: decoder: expected an object with a type");
  says(bpe("", R"("dropout":0.1)"), "model.dropout: only 0 or null");
  says(bpe("", R"("fuse_unk":1)"), "model.fuse_unk: expected true or false");
  says(bpe(R"("added_tokens":[{"id":-5,"content":"x"}])"), "added token 'x' has id -5");
  says(bpe(R"("added_tokens":[{"id":5,"content":"x"},{"id":5,"content":"y"}])"),
       "'x' and 'y' both have id 5");
  says(std::string(100, '['), "nested deeper than 64");
}

TEST(Tokenizer, SurvivesEveryCutOfItsFile) {
  const std::string whole =
      bpe(R"("normalizer":{"type":"NFC"},"added_tokens":[{"id":5,"content":"x"}])");
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_NE(error_of(whole.substr(0, size)), "") << size;
}

TEST(Tokenizer, SaysWhatItLooksForWhenNothingIsThere) {
  try {
    Tokenizer::open(testing::TempDir());
    FAIL();
  } catch (const cajal::Error& error) {
    EXPECT_NE(std::string(error.what()).find("expected tokenizer.json, vocab.json"),
              std::string::npos);
  }
}

TEST(Tokenizer, ReadsAnOldWordPieceVocabulary) {
  const fs::path folder = fs::path(testing::TempDir()) / "old_word_piece";
  fs::create_directories(folder);
  cajal::write_file(folder / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nun\n##able\ncaf\n##e\n");
  cajal::write_file(folder / "tokenizer_config.json", R"({"do_lower_case":true})");
  const auto tokenizer = Tokenizer::open(folder);
  EXPECT_EQ(tokenizer.encode("Unable CAF\xC3\x89 zzz"), (Ids{2, 4, 5, 6, 7, 1, 3}));
  EXPECT_EQ(tokenizer.decode({{2, 4, 5, 6, 7, 3}}, Specials::without), "unable cafe");
  fs::remove_all(folder);
}

TEST(Tokenizer, TakesSpecialIdsFromTheFilesBesideIt) {
  const fs::path folder = fs::path(testing::TempDir()) / "special_ids";
  fs::create_directories(folder);
  cajal::write_file(folder / "tokenizer.json", bpe());
  cajal::write_file(folder / "tokenizer_config.json", R"({"bos_token":{"content":"<s>"}})");
  cajal::write_file(folder / "generation_config.json",
                    R"({"eos_token_id":[4,1],"pad_token_id":0})");
  const auto ids = Tokenizer::open(folder).specials();
  EXPECT_EQ(ids.bos, 3);
  EXPECT_EQ(ids.eos, 4);
  EXPECT_EQ(ids.pad, 0);
  EXPECT_EQ(ids.stops, (Ids{4, 1}));
  fs::remove_all(folder);
}

TEST(Tokenizer, GivesManyThreadsTheSameIds) {
  const auto tokenizer = parse(bpe());
  std::string text;
  for (int i = 0; i < 2000; ++i) text += i % 3 ? "ab" : "b";
  const auto expected = tokenizer.encode(text);
  std::vector<std::thread> threads;
  std::vector<int> wrong(8, 0);
  for (int& count : wrong)
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) count += tokenizer.encode(text) != expected;
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(8, 0));
}

TEST(StreamDecoder, HoldsACharacterBackUntilItIsWhole) {
  const auto tokenizer = parse(
      R"({"decoder":{"type":"ByteLevel"},"model":{"type":"BPE","merges":[],"vocab":{"Ã":0,"©":1,"a":2}}})");
  StreamDecoder stream(tokenizer);
  EXPECT_EQ(stream.push(2), "a");
  EXPECT_EQ(stream.push(0), "");
  EXPECT_EQ(stream.push(1), "\xC3\xA9");
  EXPECT_EQ(stream.push(0), "");
  EXPECT_EQ(stream.finish(), "\xEF\xBF\xBD");
}

TEST(StreamDecoder, KeepsTheSpacesBetweenTokensOfSentencePieces) {
  const auto tokenizer = parse(
      R"({"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},)"
      R"("model":{"type":"BPE","merges":[],"vocab":{"▁a":0,"▁b":1,"<0xC3>":2,"<0xA9>":3}}})");
  StreamDecoder stream(tokenizer);
  std::string text;
  for (const int32_t id : {0, 1, 2, 3, 1}) text += stream.push(id) + "|";
  EXPECT_EQ(text + stream.finish(), "a| b||\xC3\xA9| b|");
}

}  // namespace
