#include "cajal/atlas/browse.h"

#include <gtest/gtest.h>

#include <set>

#include "atlas/small_atlas.h"
#include "core/scratch.h"

namespace cajal::atlas {
namespace {

class Browse : public Scratch {
 protected:
  Browse() { save_small_atlas(in("a.db")); }
  Browser open() const { return {in("a.db"), index_beside(in("a.db"), in("cache"))}; }
  static std::vector<std::string> places(const Json& list) {
    std::vector<std::string> out;
    for (const auto& one : list["neurons"])
      out.push_back(fmt::format("{}.{}", one["layer"].get<int>(), one["neuron"].get<int>()));
    return out;
  }
  using Places = std::vector<std::string>;
};

TEST_F(Browse, PagesCoverEveryNeuronOnce) {
  auto browser = open();
  std::set<std::string> seen;
  int64_t rows = 0;
  for (int64_t page = 0; page < 6; ++page) {
    const auto list = browser.list({.page = page, .page_size = 7});
    EXPECT_EQ(list["total"], 40);
    for (const auto& place : places(list)) seen.insert(place), ++rows;
  }
  EXPECT_EQ(rows, 40);
  EXPECT_EQ(seen.size(), 40u);
}

TEST_F(Browse, APageBehindTheLastIsEmpty) {
  EXPECT_TRUE(open().list({.page = 1000})["neurons"].empty());
}

TEST_F(Browse, RefusesPagesOutOfRange) {
  auto browser = open();
  EXPECT_NE(error_of([&] { browser.list({.page = -1}); }), "");
  EXPECT_NE(error_of([&] { browser.list({.page_size = 0}); }), "");
  EXPECT_NE(error_of([&] { browser.list({.page_size = 201}); }), "");
  EXPECT_NE(error_of([&] { browser.list({.layer = 2}); }), "");
}

TEST_F(Browse, OrdersByAFigureInBothDirections) {
  auto browser = open();
  const NeuronQuery up{.layer = 0, .order = NeuronOrder::rate, .page_size = 2};
  auto down = up;
  down.descending = true;
  EXPECT_EQ(places(browser.list(up)), (Places{"0.0", "0.1"}));
  EXPECT_EQ(places(browser.list(down)), (Places{"0.19", "0.18"}));
}

TEST_F(Browse, BoundsIncludeTheirEndsOrNot) {
  auto browser = open();
  const auto found = [&](const Bounds& bounds) {
    return places(browser.list({.layer = 1, .rate = bounds}));
  };
  EXPECT_EQ(found({.min = 0.85, .max = 0.9}), (Places{"1.17", "1.18"}));
  EXPECT_EQ(found({.above = 0.85, .below = 0.95}), (Places{"1.18"}));
}

TEST_F(Browse, FindsKinds) {
  auto browser = open();
  EXPECT_EQ(places(browser.list({.kinds = {"dead"}})), (Places{"0.0", "1.0"}));
  EXPECT_EQ(places(browser.list({.kinds = {"heavy hitter"}, .page_size = 1})), (Places{"0.18"}));
  EXPECT_EQ(browser.list({.kinds = {"dead", "heavy hitter"}})["total"], 0);
}

TEST_F(Browse, FindsWordsWithoutCaseAndSpaces) {
  auto browser = open();
  EXPECT_EQ(places(browser.list({.word = "  SEA7 "})), (Places{"0.7", "1.7"}));
  EXPECT_EQ(browser.list({.word = "sea1"})["total"], 2);
  EXPECT_EQ(browser.list({.word = "sea1*"})["total"], 22);  // 1 and 10 to 19
  EXPECT_EQ(browser.list({.word = "\xc3\x89T\xc3\x89"})["total"], 38);
}

TEST_F(Browse, TellsWordsByTheirRole) {
  auto browser = open();
  EXPECT_EQ(browser.list({.word = "land", .role = WordRole::lowered})["total"], 40);
  EXPECT_EQ(browser.list({.word = "land", .role = WordRole::promoted})["total"], 0);
  EXPECT_EQ(places(browser.list({.word = "it's", .role = WordRole::trigger})),
            (Places{"0.3", "1.3"}));
}

TEST_F(Browse, TakesSqlInAWordForAWord) {
  auto browser = open();
  for (const char* word : {"'; DROP TABLE browse; --", "\" OR 1=1", "%", "_", "*"})
    EXPECT_EQ(browser.list({.word = word})["total"], 0) << word;
  EXPECT_EQ(browser.list({.kinds = {"x' OR '1'='1"}})["total"], 0);
  EXPECT_EQ(browser.list({})["total"], 40);
}

TEST_F(Browse, DescribesANeuron) {
  const auto one = open().neuron(0, 5);
  EXPECT_DOUBLE_EQ(one["rate"], 0.25);
  EXPECT_EQ(one["rank"]["rate"], 15);
  EXPECT_EQ(one["promoted"], Json({" Sea5", "<b>"}));
  EXPECT_EQ(one["exemplars"][0]["word"], "\xc3\xa9t\xc3\xa9");
  EXPECT_EQ(one["matches"][0]["neuron"], 4);
  EXPECT_EQ(one["histogram"], Json::array({Json::array({64, 0.0, 100})}));
  EXPECT_EQ(one["positions"]["width"], 7);  // so few tokens make 8 points
  EXPECT_EQ(one["positions"]["rates"].size(), 8u);
}

TEST_F(Browse, RefusesANeuronThatIsNotThere) {
  auto browser = open();
  for (const auto& [layer, neuron] : {std::pair{-1, 0}, {2, 0}, {0, -1}, {0, 20}})
    EXPECT_NE(error_of([&, l = layer, n = neuron] { browser.neuron(l, n); }), "");
}

TEST_F(Browse, CountsNeuronsInBinsOfEveryLayer) {
  const auto overview = open().overview();
  EXPECT_EQ(overview["neurons"], 40);
  for (const char* name : {"rate", "hits", "energy"})
    for (const auto& row : overview["spread"][name]["counts"]) {
      int64_t sum = 0;
      for (const auto& count : row) sum += count.get<int64_t>();
      EXPECT_EQ(sum, 20) << name;
    }
  EXPECT_EQ(overview["spread"]["rate"]["counts"][0][0], 1);  // the dead one
  EXPECT_EQ(overview["kinds"]["dead"], Json({1, 1}));
}

TEST_F(Browse, SuggestsWords) {
  const auto words = open().words("Sea1")["words"];
  EXPECT_EQ(words.size(), 11u);
  EXPECT_EQ(words[0], Json({{"text", "sea1"}, {"neurons", 2}}));
}

TEST_F(Browse, AnIndexBesideAnAtlasWithoutOneGivesTheSame) {
  {
    Database db(in("a.db"), Database::Access::read);
    EXPECT_EQ(index_beside(in("a.db"), in("cache")), in("a.db"));
  }
  auto [census, findings] = small_atlas();
  census.units = 3;  // a part of a text has no index of its own
  save(census, in("part.db"), &findings);
  const auto index = index_beside(in("part.db"), in("cache"));
  EXPECT_NE(index, in("part.db"));
  Browser part(in("part.db"), index);
  auto whole = open();
  EXPECT_EQ(part.list({.page_size = 40}), whole.list({.page_size = 40}));
  EXPECT_EQ(part.overview(), whole.overview());
}

TEST_F(Browse, AnIndexIsMadeAnewWhenTheAtlasChanges) {
  auto [census, findings] = small_atlas();
  census.units = 3;
  save(census, in("part.db"), &findings);
  const auto before = index_beside(in("part.db"), in("cache"));
  EXPECT_EQ(index_beside(in("part.db"), in("cache")), before);
  findings.neurons[0][0].promoted.push_back(" another word");
  save(census, in("part.db"), &findings);
  std::filesystem::last_write_time(
      in("part.db"), std::filesystem::file_time_type::clock::now() + std::chrono::seconds(2));
  EXPECT_NE(index_beside(in("part.db"), in("cache")), before);
}

TEST_F(Browse, AnAtlasOfCountsAloneCanBeLookedAt) {
  auto census = small_atlas().first;
  for (auto& layer : census.layers) layer.tables = {};
  census.token_totals.clear(), census.position_totals.clear(), census.contexts.clear();
  save(census, in("bare.db"));
  Browser browser(in("bare.db"), index_beside(in("bare.db"), in("cache")));
  EXPECT_EQ(browser.overview()["findings"], false);
  EXPECT_EQ(places(browser.list({.kinds = {"dead"}})), (Places{"0.0", "1.0"}));
  const auto one = browser.neuron(1, 5);
  EXPECT_FALSE(one.contains("found"));
  EXPECT_FALSE(one.contains("histogram"));
  EXPECT_EQ(one["exemplars"][0]["word"], "");
}

TEST_F(Browse, RefusesForeignAndDamagedFiles) {
  put("text.db", std::string(4096, 'x'));
  EXPECT_NE(error_of([&] { index_beside(in("text.db"), in("cache")); }), "");
  {
    Database db(in("foreign.db"), Database::Access::create);
    db.run("CREATE TABLE browse(x); PRAGMA user_version = 2");
  }
  EXPECT_NE(error_of([&] { Browser(in("foreign.db"), in("foreign.db")); }), "");
  {
    Database db(in("a.db"), Database::Access::create);
    db.run("UPDATE browse_layers SET neurons = -1");
  }
  EXPECT_NE(error_of([&] { open(); }), "");
}

TEST_F(Browse, AQueryThatTakesTooLongEnds) {
  Database db(in("a.db"), Database::Access::read);
  db.deadline(0.02);
  const auto error = error_of([&] {
    db.integer(
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c");
  });
  EXPECT_NE(error.find("took too long"), std::string::npos) << error;
}

}  // namespace
}  // namespace cajal::atlas
