#include "cajal/data/image.h"

#include <gtest/gtest.h>

#include "core/scratch.h"
#include "says.h"

namespace cajal::data {
namespace {
using namespace std::string_literals;

class Images : public Scratch {
 protected:
  static Image sample(int64_t channels, int maximum = 255) {
    Image image{5, 3, channels, maximum, {}};
    for (int64_t i = 0; i < 15 * channels; ++i)
      image.samples.push_back(static_cast<uint16_t>(i * 7919 % (maximum + 1)));
    return image;
  }
  static std::string pnm_refusal(const std::string& bytes) {
    return error_of([&] { parse_pnm(bytes, "x"); });
  }
};

void expect_same(const Image& a, const Image& b) {
  EXPECT_EQ(a.width, b.width);
  EXPECT_EQ(a.height, b.height);
  EXPECT_EQ(a.channels, b.channels);
  EXPECT_EQ(a.maximum, b.maximum);
  EXPECT_EQ(a.samples, b.samples);
}

TEST_F(Images, ReadsThePnmItWrites) {
  for (const int64_t channels : {1, 3})
    for (const int maximum : {255, 100, 1023, 65535}) {
      write_pnm(in("a"), sample(channels, maximum));
      expect_same(read_image(in("a")), sample(channels, maximum));
    }
}

TEST_F(Images, ReadsThePngItWrites) {
  for (const int64_t channels : {1, 2, 3, 4}) {
    write_png(in("a"), sample(channels));
    expect_same(read_image(in("a")), sample(channels));
  }
}

TEST_F(Images, ReadsCommentsInAPnmHeader) {
  const auto image = parse_pnm("P5 # grey\n# size\n2 # wide\n1\n255\nab", "x");
  EXPECT_EQ(image.samples, (std::vector<uint16_t>{'a', 'b'}));
}

TEST_F(Images, TakesASampleThatLooksLikeASpaceForASample) {
  EXPECT_EQ(parse_pnm("P5 1 1 255\n\n", "x").samples[0], '\n');
}

TEST_F(Images, RefusesHostilePnm) {
  for (const auto* bytes :
       {"", "P5", "P5 ", "P4 1 1\na", "P51 1 255\na", "P5 0 1 255\n", "P5 1 1 0\na",
        "P5 1 1 65536\na", "P5 -1 1 255\na", "P5 1 1 255", "P5 2 1 255\na", "P5 1 1 255\nab",
        "P5 # no end", "P6 1 1 255\nab", "P5 1 1 300\na", "P5 99999999999999999999 1 255\na",
        "P6 1048576 1048576 255\nabc"})
    EXPECT_NE(pnm_refusal(bytes), "") << bytes;
  EXPECT_TRUE(says(pnm_refusal("P5 1 1 10\nz"), "beyond the maximum 10"));
}

TEST_F(Images, RefusesAPngCutAnywhere) {
  write_png(in("a"), sample(3));
  const auto bytes = read_file(in("a"));
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_NE(error_of([&] { parse_png(bytes.substr(0, size), "x"); }), "") << size;
}

TEST_F(Images, RefusesAPngWithAWrongByteInIt) {
  write_png(in("a"), sample(3));
  const auto bytes = read_file(in("a"));
  for (size_t at = 0; at < bytes.size(); ++at) {
    auto wrong = bytes;
    wrong[at] = static_cast<char>(wrong[at] ^ 0x15);
    EXPECT_NE(error_of([&] { parse_png(wrong, "x"); }), "") << at;  // every chunk has a CRC
  }
}

TEST_F(Images, RefusesAPngThatClaimsToBeHuge) {
  write_png(in("a"), sample(1));
  auto bytes = read_file(in("a"));
  bytes.replace(16, 8, "\x7f\xff\xff\xff\x7f\xff\xff\xff");
  EXPECT_NE(error_of([&] { parse_png(bytes, "x"); }), "");
}

TEST_F(Images, RefusesBytesBehindAPng) {
  write_png(in("a"), sample(1));
  EXPECT_TRUE(says(error_of([&] { parse_png(read_file(in("a")) + "x", "x"); }), "behind its end"));
}

TEST_F(Images, RefusesToWriteWhatDoesNotFit) {
  auto image = sample(3);
  image.samples.pop_back();
  EXPECT_NE(error_of([&] { write_png(in("a"), image); }), "");
  EXPECT_NE(error_of([&] { write_pnm(in("a"), image); }), "");
  EXPECT_NE(error_of([&] { write_png(in("a"), sample(3, 1023)); }), "");
  EXPECT_NE(error_of([&] { write_pnm(in("a"), sample(2)); }), "");
  auto beyond = sample(1, 100);
  beyond.samples[0] = 101;
  EXPECT_NE(error_of([&] { write_pnm(in("a"), beyond); }), "");
  EXPECT_EQ(entries(), 0u);
}

}  // namespace
}  // namespace cajal::data
