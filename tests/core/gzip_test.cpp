#include "cajal/core/gzip.h"

#include "core/scratch.h"

namespace {

using Compressed = Scratch;
const std::filesystem::path kCorpus = std::filesystem::path(CAJAL_TEST_GOLDEN) / "corpus" / "gzip";

TEST_F(Compressed, FilesOfEitherKindUnpackAlike) {
  std::string expected;
  for (int i = 0; i < 200; ++i) expected += fmt::format("neuron {}\n", i);
  EXPECT_EQ(cajal::read_compressed(kCorpus / "text.gz", 10'000), expected);
  EXPECT_EQ(cajal::read_compressed(kCorpus / "text.xz", 10'000), expected);
  EXPECT_EQ(cajal::read_compressed(put("plain", expected), 10'000), expected);
}

TEST_F(Compressed, FilesOfSeveralMembersAreOneText) {
  for (const char* name : {"text.gz", "text.xz"}) {
    const auto once = cajal::read_file(kCorpus / name);
    EXPECT_EQ(cajal::read_compressed(put("twice", once + once), 10'000).size(), 2 * 2090u) << name;
  }
}

TEST_F(Compressed, FilesThatUnpackBeyondTheLimitAreRefused) {
  for (const char* name : {"text.gz", "text.xz"}) {
    const auto path = kCorpus / name;
    EXPECT_EQ(error_of([&] { cajal::read_compressed(path, 2089); }, path.string()),
              ": unpacks to more than 2089 bytes");
    EXPECT_EQ(cajal::read_compressed(path, 2090).size(), 2090u);
  }
}

TEST_F(Compressed, FilesCutOffAtAnyByteAreRefused) {
  for (const char* name : {"text.gz", "text.xz"}) {
    const auto whole = cajal::read_file(kCorpus / name);
    for (size_t size = 6; size < whole.size(); ++size) {
      const auto part = whole.substr(0, size);
      const auto message = error_of(
          [&] { cajal::decompress(std::as_bytes(std::span(part)), "f", 10'000, [](auto) {}); });
      EXPECT_NE(message.find("cut off"), std::string::npos) << name << ' ' << size << message;
    }
  }
}

TEST_F(Compressed, FilesThatAreDamagedAreRefused) {
  for (const char* name : {"text.gz", "text.xz"}) {
    auto bytes = cajal::read_file(kCorpus / name);
    bytes[bytes.size() - 14] ^= 1;
    const auto path = put("bad", bytes);
    EXPECT_NE(error_of([&] { cajal::read_compressed(path, 10'000); }).find("damaged"),
              std::string::npos)
        << name;
    const auto trailing = put("trailing", cajal::read_file(kCorpus / name) + "garbage");
    EXPECT_NE(error_of([&] { cajal::read_compressed(trailing, 10'000); }), "") << name;
  }
}

}  // namespace
