#include "cajal/atlas/store.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "cajal/atlas/sqlite.h"
#include "cajal/core/error.h"
#include "cajal/core/files.h"
#include "cajal/core/random.h"

namespace cajal::atlas {
namespace {

namespace fs = std::filesystem;

class AtlasStore : public testing::Test {
 protected:
  AtlasStore() : folder(fs::temp_directory_path() / fmt::format("cajal_atlas_{}", ::getpid())) {
    fs::create_directories(folder);
  }
  ~AtlasStore() override { fs::remove_all(folder); }

  static Census sample() {
    ThreadPool threads(1);
    Random random(3);
    Census census{.model = "opt",
                  .text = "it's \"text\"",
                  .model_hash = ~0ull,
                  .text_hash = 1,
                  .text_tokens = 30};
    census.context = 10, census.batch = 2, census.units = 2, census.covered = {{1, 2}};
    census.sample_tokens = {20, 24};
    std::vector<int32_t> ids;
    for (int t = 0; t < 30; ++t) ids.push_back(t * t % 8);
    census.token_totals.assign(8, 1), census.position_totals.assign(10, 1);
    for (int l = 0; l < 2; ++l) {
      LayerCensus layer(std::vector<float>(17, 0.1f), std::vector<float>(17, 0.3f), l == 1,
                        {.shapes = true, .positions = 10, .vocabulary = 8, .orders = 3});
      std::vector<float> a(17 * 10);
      for (auto& x : a) x = static_cast<float>(random.normal());
      layer.add({.post = a, .pre = a, .ids = ids, .first_token = 20, .window = 10, .fired = {}},
                threads);
      layer.tables.pack();
      layer.samples.assign(a.begin(), a.begin() + 2 * 17);
      census.layers.push_back(layer);
    }
    census.contexts[21] = {"the ", "\xc3\xa9", " end"};
    return census;
  }

  std::string error_of(const fs::path& path) {
    try {
      load(path);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  const fs::path folder;
};

TEST_F(AtlasStore, GivesBackWhatWasSaved) {
  const auto census = sample();
  save(census, folder / "a.db");
  EXPECT_EQ(load(folder / "a.db"), census);
}

TEST_F(AtlasStore, GivesBackFindings) {
  Findings findings;
  findings.layers.resize(2), findings.neurons.resize(2);
  for (auto& layer : findings.neurons) layer.resize(17);
  auto& one = findings.neurons[1][4];
  one.triggers = {.order = 2, .pure = true, .covered = 0.5, .keys = {3, 9}, .counts = {7, 1}};
  one.trigger_texts = {"\"a\"", "\xff"};  // a token need not be UTF-8
  one.position = PositionKind::range;
  one.universal = {{"other", 1, 3, 0.8, 0.1}};
  save(sample(), folder / "f.db", &findings);
  const auto back = load_findings(folder / "f.db");
  ASSERT_TRUE(back);
  const auto& other = back->neurons[1][4];
  EXPECT_EQ(other.triggers.keys, one.triggers.keys);
  EXPECT_EQ(other.trigger_texts[0], one.trigger_texts[0]);
  EXPECT_EQ(other.position, PositionKind::range);
  EXPECT_EQ(other.universal.at(0).neuron, 3);
  save(sample(), folder / "g.db");
  EXPECT_FALSE(load_findings(folder / "g.db"));
}

TEST_F(AtlasStore, LeavesNothingBesideTheFile) {
  save(sample(), folder / "a.db");
  save(sample(), folder / "a.db");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), fs::directory_iterator()), 1);
}

TEST_F(AtlasStore, CanBeQueriedByAnyone) {
  const auto census = sample();
  save(census, folder / "a.db");
  Database db(folder / "a.db", Database::Access::read);
  Statement query(db, "SELECT energy FROM neurons WHERE layer = 1 AND neuron = 5");
  double energy = 0;
  ASSERT_TRUE(query.next());
  query >> energy;
  EXPECT_EQ(energy, census.layers[1].energy(5));
}

TEST_F(AtlasStore, RefusesWhatIsNoSqliteFile) {
  write_file(folder / "text.db", std::string(5000, 'x'));
  EXPECT_NE(error_of(folder / "text.db").find("not an SQLite file"), std::string::npos);
  EXPECT_NE(error_of(folder / "none.db").find("no such file"), std::string::npos);
  EXPECT_NE(error_of(folder), "");
}

TEST_F(AtlasStore, RefusesAForeignSqliteFile) {
  {
    Database db(folder / "b.db", Database::Access::create);
    db.run("CREATE TABLE birds(name TEXT)");
  }
  EXPECT_NE(error_of(folder / "b.db").find("not an atlas"), std::string::npos);
}

TEST_F(AtlasStore, RefusesAnotherSchemaAndDamagedRows) {
  const auto broken = [&](const char* change) {
    save(sample(), folder / "c.db");
    {
      Database db(folder / "c.db", Database::Access::create);
      db.run(change);
    }
    return error_of(folder / "c.db");
  };
  EXPECT_NE(broken("PRAGMA user_version = 9").find("schema 9"), std::string::npos);
  for (const char* change :
       {"UPDATE neurons SET sums = x'00' WHERE neuron = 3",
        "DELETE FROM neurons WHERE neuron = 3",
        "UPDATE layers SET neurons = 1 << 40",
        "UPDATE neurons SET top = -1",
        "DELETE FROM layers",
        "UPDATE peaks SET token = -4",
        "DELETE FROM meta WHERE key = 'seed'",
        "DROP TABLE samples",
        "UPDATE meta SET value = 'x' WHERE key = 'context'",
        "UPDATE neurons SET samples = 'hi'",
        "UPDATE covered SET end_unit = 0",
        "UPDATE counts SET tokens = x'ff' WHERE neuron = 2",
        "UPDATE counts SET histogram = x'00'",
        "DELETE FROM counts WHERE neuron = 5",
        "UPDATE grams SET tokens = 9 WHERE neuron = 1 AND tokens = 2",
        "UPDATE grams SET grams = x'00112233'",
        "UPDATE totals SET counts = x'00'",
        "DROP TABLE grams",
        "UPDATE meta SET value = '{' WHERE key = 'collectors'",
        "UPDATE meta SET value = '{\"positions\": 99999999999}' WHERE key = 'collectors'"})
    EXPECT_NE(broken(change), "") << change;
}

TEST_F(AtlasStore, RefusesATruncatedFile) {
  save(sample(), folder / "a.db");
  const auto whole = read_file(folder / "a.db");
  for (const size_t size : {size_t{50}, size_t{4096}, whole.size() / 2}) {
    std::ofstream(folder / "t.db", std::ios::binary) << whole.substr(0, size);
    EXPECT_NE(error_of(folder / "t.db"), "") << size;
  }
}

}  // namespace
}  // namespace cajal::atlas
