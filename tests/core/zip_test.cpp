#include "cajal/core/zip.h"

#include "core/scratch.h"
#include "core/torch_archive.h"

namespace {

using torch_archive::zip;

std::map<std::string, std::string> entries_of(const std::string& file) {
  std::map<std::string, std::string> out;
  for (const auto& [name, content] : cajal::read_stored_zip(std::as_bytes(std::span(file)), "f"))
    out[std::string(name)] = {reinterpret_cast<const char*>(content.data()), content.size()};
  return out;
}
std::string verdict(const std::string& file) {
  return error_of([&] { entries_of(file); }, "f: ");
}
std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.rfind(from);
  EXPECT_NE(at, text.npos);
  return text.replace(at, from.size(), to);
}

TEST(Zip, GivesItsStoredEntries) {
  const std::map<std::string, std::string> expected = {{"a", "first"}, {"b/c", ""}, {"d", "last"}};
  for (const bool zip64 : {false, true})
    EXPECT_EQ(entries_of(zip({{"a", "first"}, {"b/c", ""}, {"d", "last"}}, zip64)), expected);
  EXPECT_TRUE(entries_of(zip({})).empty());
}

TEST(Zip, MayEndWithAComment) {
  auto file = zip({{"a", "x"}});
  file[file.size() - 2] = 5;
  EXPECT_EQ(entries_of(file + "hello").at("a"), "x");
}

TEST(Zip, RefusesCompressedEntries) {
  EXPECT_EQ(verdict(zip({{"bomb", "x", 8}})),
            "entry 'bomb' is compressed (method 8); only stored entries are read");
}

TEST(Zip, RefusesEntriesThatOverlap) {
  // The second entry's header stands inside the content of the first.
  const auto inner = zip({{"b", "xyz"}}).substr(0, 34);
  auto file = zip({{"a", inner}, {"b", "xyz"}});
  const size_t at = file.rfind("PK\1\2") + 42;
  const uint32_t inside = 31;
  std::memcpy(file.data() + at, &inside, sizeof inside);
  EXPECT_EQ(verdict(file), "entries 'a' and 'b' overlap");
}

TEST(Zip, RefusesNamesThatRepeatOrDisagree) {
  EXPECT_EQ(verdict(zip({{"a", "1"}, {"a", "2"}})), "entry 'a' appears twice");
  auto file = zip({{"a", "1"}});
  file[30] = 'b';
  EXPECT_EQ(verdict(file), "entry 'a' has another name in its own header at byte 0");
}

TEST(Zip, RefusesSizesBeyondTheFile) {
  const auto file = zip({{"a", "12345"}});
  const std::string five("\5\0\0\0\5\0\0\0", 8), nine("\xff\xff\0\0\xff\xff\0\0", 8);
  EXPECT_NE(verdict(replaced(file, five, nine)).find("65535 bytes are expected"),
            std::string::npos);
  const std::string unequal("\5\0\0\0\6\0\0\0", 8);
  EXPECT_EQ(verdict(replaced(file, five, unequal)),
            "entry 'a' is stored, but 5 bytes of it are said to be 6");
}

TEST(Zip, RefusesWhatIsCutOffAnywhere) {
  for (const bool zip64 : {false, true}) {
    const auto whole = zip({{"a", "first"}, {"b", "second"}}, zip64);
    for (size_t size = 0; size < whole.size(); ++size)
      EXPECT_NE(verdict(whole.substr(0, size)), "") << size;
    EXPECT_NE(verdict(whole.substr(1)), "");
  }
}

}  // namespace
