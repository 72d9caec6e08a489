#include "cajal/data/image_set.h"

#include <gtest/gtest.h>

#include "core/scratch.h"
#include "says.h"

namespace cajal::data {
namespace {

TEST(ImageSet, ReadsRecordsOfACifarBatch) {
  const auto batch =
      parse_cifar_batch('\3' + std::string(3072, 'a') + '\x9' + std::string(3072, 'b'), "x");
  EXPECT_EQ(batch.labels, (std::vector<uint8_t>{3, 9}));
  EXPECT_EQ(batch.images.shape, (std::vector<int64_t>{2, 3, 32, 32}));
  EXPECT_EQ(batch.images.values<uint8_t>()[3072], 'b');
}

TEST(ImageSet, RefusesAnUnsoundCifarBatch) {
  EXPECT_TRUE(says(error_of([] { parse_cifar_batch("", "x"); }), "whole records"));
  EXPECT_TRUE(
      says(error_of([] { parse_cifar_batch(std::string(3072, 'a'), "x"); }), "whole records"));
  EXPECT_TRUE(
      says(error_of([] { parse_cifar_batch(std::string(3073, '\xa'), "x"); }), "beyond the 10"));
}

TEST(ImageSet, NamesTheSetsThereAre) {
  EXPECT_TRUE(says(error_of([] { read_image_set("cifar100"); }), "mnist, fashion-mnist, cifar10"));
}

}  // namespace
}  // namespace cajal::data
