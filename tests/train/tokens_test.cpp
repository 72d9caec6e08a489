#include "cajal/train/tokens.h"

#include <gtest/gtest.h>

#include "cajal/text/bpe_trainer.h"
#include "core/scratch.h"

namespace {

using namespace cajal;
using namespace cajal::train;

class Tokens : public Scratch {
 protected:
  Tokens() {
    text::BpeTrainerOptions options;
    options.vocabulary = 300;
    text::BpeTrainer trainer(options);
    trainer.add(kText);
    text::write_tokenizer(in("tokenizer"), trainer.train(), options);
    tokenizer = std::make_unique<text::Tokenizer>(text::Tokenizer::open(in("tokenizer")));
  }

  static constexpr const char* kText =
      "the cat sat on the mat.\nthe rat sat on the hat.\n<|endoftext|>\nthe end of the tale.\n";
  std::unique_ptr<text::Tokenizer> tokenizer;
};

TEST_F(Tokens, FileHoldsWhatTheTokenizerGivesAndIsFoundAgain) {
  const auto source = put("text.txt", kText).string();
  const auto file = TokenFile::of(source, *tokenizer, 1, in("cache"));
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < file.size(); ++i) ids.push_back(file[i]);
  EXPECT_EQ(tokenizer->decode(ids), kText);
  EXPECT_EQ(file.text_bytes(), static_cast<int64_t>(std::string_view(kText).size()));
  TokenFile::of(source, *tokenizer, 1, in("cache"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(in("cache")), {}), 1);
  TokenFile::of(source, *tokenizer, 2, in("cache"));  // another tokenizer, another file
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(in("cache")), {}), 2);
}

TEST_F(Tokens, PartsOfABatchAreTheWholeBatch) {
  const auto file = TokenFile::of(put("text.txt", kText).string(), *tokenizer, 1, in("cache"));
  const Windows windows(file, 4, torch::kCPU);
  const auto whole = windows.starts(3, 17, 8, 0, 1);
  const auto parts = torch::cat({windows.starts(3, 17, 8, 0, 2), windows.starts(3, 17, 8, 1, 2)});
  EXPECT_TRUE(whole.equal(parts));
  EXPECT_FALSE(whole.equal(windows.starts(3, 18, 8, 0, 1)));
}

TEST_F(Tokens, TargetsAreTheIdsThatFollow) {
  const auto file = TokenFile::of(put("text.txt", kText).string(), *tokenizer, 1, in("cache"));
  const Windows windows(file, 4, torch::kCPU);
  const auto [ids, targets] = windows.at(torch::tensor({0L, file.size() - 5}));
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(ids[0][i].item<int64_t>(), file[i]);
    EXPECT_EQ(targets[0][i].item<int64_t>(), file[i + 1]);
  }
  EXPECT_EQ(targets[1][3].item<int64_t>(), file[file.size() - 1]);
}

TEST_F(Tokens, RefuseAFileThatIsNoWholeNumberOfIds) {
  const auto path = put("odd.u16", "abc");
  EXPECT_NE(error_of([&] { TokenFile file(path); }).find("no whole number"), std::string::npos);
  const auto small = put("small.u16", "abcd");
  EXPECT_NE(error_of([&] { Windows(TokenFile(small), 4, torch::kCPU); }).find("one window"),
            std::string::npos);
}

}  // namespace
