#include "cajal/data/text.h"

#include <gtest/gtest.h>

#include "core/scratch.h"
#include "says.h"

namespace cajal::data {
namespace {

using Text = Scratch;

TEST_F(Text, ReadsAFileByItsPath) {
  EXPECT_EQ(read_text(put("a.txt", "gr\xC3\xBC\xC3\x9F\n").string()), "gr\xC3\xBC\xC3\x9F\n");
}

TEST_F(Text, RefusesWhatIsNotUtf8AndNamesTheByte) {
  for (const auto* bytes :
       {"ab\xFF", "ab\xC3", "ab\xC0\x80", "ab\xED\xA0\x80", "ab\xF5\x80\x80\x80"})
    EXPECT_TRUE(says(error_of([&] { read_text(put("a.txt", bytes).string()); }), "at byte 2"));
}

TEST_F(Text, NamesTheCorporaThereAreForAnUnknownOne) {
  EXPECT_TRUE(says(error_of([] { read_text("clasics"); }), "classics/train"));
}

TEST_F(Text, PartsDocumentsAtLinesThatHoldOnlyTheMark) {
  EXPECT_EQ(
      documents("one\ntwo\n<|endoftext|>\nthree <|endoftext|> still\n<|endoftext|>x\n"),
      (std::vector<std::string_view>{"one\ntwo", "three <|endoftext|> still\n<|endoftext|>x"}));
}

TEST_F(Text, LeavesOutEmptyDocuments) {
  EXPECT_TRUE(documents("").empty());
  EXPECT_TRUE(documents("<|endoftext|>\n<|endoftext|>").empty());
  EXPECT_EQ(documents("<|endoftext|>\na\n<|endoftext|>"), (std::vector<std::string_view>{"a"}));
}

}  // namespace
}  // namespace cajal::data
