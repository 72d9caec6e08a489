#include "cajal/data/catalogue.h"

#include <gtest/gtest.h>

#include <optional>
#include <set>

#include "cajal/core/files.h"
#include "core/scratch.h"
#include "says.h"

namespace cajal::data {
namespace {
namespace fs = std::filesystem;

/// An environment variable that gets its old value back.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    ::setenv(name, value.c_str(), 1);
  }
  ~Variable() {
    if (old_) {
      ::setenv(name_, old_->c_str(), 1);
    } else {
      ::unsetenv(name_);
    }
  }

 private:
  const char* name_;
  std::optional<std::string> old_;
};

using Catalogue = Scratch;

TEST_F(Catalogue, HasEveryNameOnceInAlphabeticalOrder) {
  for (size_t i = 1; i < catalogue().size(); ++i)
    EXPECT_LT(catalogue()[i - 1].name, catalogue()[i].name);
}

TEST_F(Catalogue, StatesLicenceAndCitationOfEverySet) {
  for (const auto& set : catalogue()) {
    EXPECT_FALSE(set.what.empty()) << set.name;
    EXPECT_FALSE(set.licence.empty()) << set.name;
    EXPECT_FALSE(set.citation.empty()) << set.name;
    EXPECT_FALSE(set.folder.empty()) << set.name;
  }
}

TEST_F(Catalogue, HoldsOnlyWellFormedSumsAndWebAddresses) {
  const auto hexadecimal = [](const std::string& sum, size_t digits) {
    return sum.empty() ||
           (sum.size() == digits && sum.find_first_not_of("0123456789abcdef") == sum.npos);
  };
  std::set<std::string> sums;
  for (const auto& set : catalogue())
    for (const auto& file : set.files) {
      EXPECT_TRUE(hexadecimal(file.sha256, 64)) << set.name << " " << file.name;
      EXPECT_TRUE(hexadecimal(file.md5, 32)) << set.name << " " << file.name;
      EXPECT_TRUE(file.sha256.empty() || sums.insert(file.sha256).second) << file.name;
      ASSERT_FALSE(file.urls.empty());
      for (const auto& url : file.urls) EXPECT_TRUE(url.starts_with("http")) << url;
    }
}

TEST_F(Catalogue, NamesTheNearestSetForAMisspeltOne) {
  EXPECT_TRUE(says(error_of([] { dataset("minst"); }), "mnist"));
}

TEST_F(Catalogue, LooksBelowCajalDataBeforeTheCache) {
  const auto data = in("data"), cache = in("cache");
  const Variable root("CAJAL_DATA", data.string()), xdg("XDG_CACHE_HOME", cache.string());
  fs::create_directories(data / "mnist10k");
  fs::create_directories(cache / "cajal/data/mnist");
  write_file(cache / "cajal/data/mnist/ORIGIN.json", "{}");
  const auto here = places(dataset("mnist"));
  ASSERT_EQ(here.size(), 2u);
  EXPECT_EQ(here[0].folder, data / "mnist10k");
  EXPECT_TRUE(says(here[0].holds, "10,000"));
  EXPECT_EQ(here[1].folder, cache / "cajal/data/mnist");
}

TEST_F(Catalogue, TakesAnUnfinishedDownloadForAbsent) {
  const auto cache = in("cache");
  const Variable root("CAJAL_DATA", (cache / "none").string()),
      xdg("XDG_CACHE_HOME", cache.string());
  fs::create_directories(cache / "cajal/data/mnist");
  EXPECT_TRUE(says(error_of([] { find_dataset("mnist"); }), "run: cajal data get mnist"));
}

TEST_F(Catalogue, SaysWhereASetWithoutDownloadBelongs) {
  const auto empty = in("empty");
  const Variable root("CAJAL_DATA", empty.string()), xdg("XDG_CACHE_HOME", empty.string());
  EXPECT_TRUE(says(error_of([] { find_dataset("classics"); }), "$CAJAL_DATA/classics"));
}

TEST_F(Catalogue, FindsAFileInWhicheverPlaceHasIt) {
  const auto data = in("data"), cache = in("cache");
  const Variable root("CAJAL_DATA", data.string()), xdg("XDG_CACHE_HOME", cache.string());
  fs::create_directories(data / "ett-hourly");
  fs::create_directories(cache / "cajal/data/ett");
  write_file(data / "ett-hourly/ETTh1.csv.gz", "");
  write_file(cache / "cajal/data/ett/ORIGIN.json", "{}");
  write_file(cache / "cajal/data/ett/ETTm1.csv", "");
  EXPECT_EQ(find_file("ett", {"ETTh1.csv", "ETTh1.csv.gz"}), data / "ett-hourly/ETTh1.csv.gz");
  EXPECT_EQ(find_file("ett", {"ETTm1.csv", "ETTm1.csv.gz"}), cache / "cajal/data/ett/ETTm1.csv");
  EXPECT_TRUE(says(error_of([] { find_file("ett", {"ETTm2.csv"}); }), "cajal data get ett"));
}

TEST_F(Catalogue, GivesTheSizeOfADownloadOnlyWhenEveryFileIsKnown) {
  EXPECT_EQ(download_bytes(dataset("wikitext2")), 4'721'645);
  EXPECT_EQ(download_bytes(dataset("sentence-polarity")), std::nullopt);
}

}  // namespace
}  // namespace cajal::data
