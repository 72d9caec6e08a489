// What is said of the real files in their ORIGIN.md, where they are here.
#include <gtest/gtest.h>

#include <algorithm>

#include "cajal/core/gzip.h"
#include "cajal/data/catalogue.h"
#include "cajal/data/checksum.h"
#include "cajal/data/citations.h"
#include "cajal/data/csv.h"
#include "cajal/data/image.h"
#include "cajal/data/image_set.h"
#include "cajal/data/npy.h"
#include "cajal/data/polarity.h"
#include "cajal/data/text.h"

namespace cajal::data {
namespace {

/// The folder below $CAJAL_DATA, if there.
bool here(const char* set) { return !places(dataset(set)).empty(); }

#define NEEDS(set) \
  if (!here(set)) GTEST_SKIP() << "SKIP: dataset " set " is not here (CAJAL_DATA)"

TEST(RealData, MnistTestDigitsAreTheOfficialOnes) {
  NEEDS("mnist");
  const auto path = find_file("mnist", {"t10k-images-idx3-ubyte.gz"});
  EXPECT_EQ(checksum_of(read_compressed(path, 1 << 24), Digest::sha256),
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7");
}

TEST(RealData, AnImageSetSplitsAndSaysWhatItIs) {
  NEEDS("mnist");
  const auto set = read_image_set("mnist");
  const auto again = read_image_set("mnist");
  EXPECT_EQ(set.train.images.bytes, again.train.images.bytes);
  if (set.name != "MNIST") {
    EXPECT_EQ(set.name, "MNIST-10k (8000/2000)");
    EXPECT_EQ(set.train.images.shape, (std::vector<int64_t>{8000, 28, 28}));
  }
}

TEST(RealData, FashionMnistHasTenClassesInBothParts) {
  NEEDS("fashion-mnist");
  const auto set = read_image_set("fashion-mnist");
  for (const auto* part : {&set.train, &set.test}) {
    auto labels = part->labels;
    std::sort(labels.begin(), labels.end());
    EXPECT_EQ(std::unique(labels.begin(), labels.end()) - labels.begin(), 10);
  }
}

TEST(RealData, EttHourlyHas17420Rows) {
  NEEDS("ett");
  const auto table = read_csv(find_file("ett", {"ETTh1.csv", "ETTh1.csv.gz"}));
  EXPECT_EQ(table.rows(), 17420);
  EXPECT_EQ(table.header().back(), "OT");
  EXPECT_EQ(table.numbers("OT").size(), 17420u);
}

TEST(RealData, CitationGraphsHaveThePlanetoidSplit) {
  NEEDS("cora");
  for (const auto& [name, nodes, train] :
       {std::tuple{"cora", 2708, 140}, {"citeseer", 3327, 120}}) {
    const auto graph = read_citations(name);
    EXPECT_EQ(graph.nodes, nodes);
    EXPECT_EQ(std::count(graph.splits.begin(), graph.splits.end(), Split::train), train);
    EXPECT_EQ(std::count(graph.splits.begin(), graph.splits.end(), Split::valid), 500);
    EXPECT_EQ(std::count(graph.splits.begin(), graph.splits.end(), Split::test), 1000);
  }
}

TEST(RealData, ClassicsPartIntoBooks) {
  NEEDS("classics");
  const auto text = read_text("classics/test");
  EXPECT_EQ(documents(text).size(), 2u);
}

TEST(RealData, SentencePolarityIsBalancedAndSplitAsSaid) {
  NEEDS("sentence-polarity");
  const auto set = read_sentence_polarity();
  EXPECT_EQ(set.train.texts.size(), 8530u);
  EXPECT_EQ(set.valid.texts.size(), 1066u);
  EXPECT_EQ(set.test.texts.size(), 1066u);
  EXPECT_EQ(std::count(set.test.labels.begin(), set.test.labels.end(), 1), 533);
}

TEST(RealData, PhotosHaveTheirSizes) {
  NEEDS("photos");
  const auto image = read_image(find_file("photos", {"chelsea.ppm.gz"}));
  EXPECT_EQ(image.width, 451);
  EXPECT_EQ(image.height, 300);
  EXPECT_EQ(image.channels, 3);
}

TEST(RealData, DarcyFieldsHaveTheirShape) {
  NEEDS("darcy-burgers");
  const auto array = read_npy(find_file("darcy-burgers", {"darcy_train_16_y.npy.gz"}));
  EXPECT_EQ(array.shape, (std::vector<int64_t>{1000, 16, 16}));
  EXPECT_EQ(array.values<float>().size(), 256000u);
}

}  // namespace
}  // namespace cajal::data
