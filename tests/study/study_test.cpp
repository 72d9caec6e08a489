#include "cajal/study/study.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "cajal/core/files.h"
#include "cajal/study/catalogue.h"
#include "cajal/study/report.h"
#include "checks.h"

namespace cajal::study {
namespace {

using testing::message;

double bar = 0.4;  // what the study of these tests must reach; a test may raise it

int runs = 0;  // how often its part was measured

void measure(Lab& lab) {
  const auto losses = lab.over_seeds("loss", [](uint64_t seed) {
    ++runs;
    return std::vector<double>{0.5 + 0.01 * static_cast<double>(seed),
                               torch::rand({1}).item<double>()};
  });
  auto table = lab.table("losses | by method", {"method", "loss", "neurons"});
  table.row("ours", losses[0], 64);
  table.row("baseline", losses[1], 128);
  lab.claim("loss").paper("0.5").measured(losses[0]).at_least(bar);
  lab.claim("share").paper("50 %").measured(losses[0]).in_percent().between(0.4, 0.6);
  lab.claim("order kept").holds(true);
  lab.not_shown("ImageNet", "it does not ship");
  lab.note("a study of the tests");
  lab.plot(plot::Lines{.title = "Loss & spread",
                       .x = {"step"},
                       .y = {"loss"},
                       .series = {{"ours", {1, 2, 3}, {3, 2, 1}}}});
}

const auto registered =
    add({.slug = "of-the-tests", .title = "A study of the tests", .year = 2024}, measure);
const auto catalogued = add({.slug = "ffsplit"}, [](Lab& lab) { lab.not_shown("all", "a test"); });
const auto unbarred = add({.slug = "no-bar"}, [](Lab& lab) { lab.claim("loose").measured(1.0); });
const auto silent = add({.slug = "silent"}, [](Lab&) {});
const auto cut_off = add({.slug = "cut-off"}, [](Lab& lab) {
  const auto kept = lab.part("first", [] {
    return std::vector<double>{torch::rand({1}).item<double>(), 1e300 / 3};
  });
  lab.claim("kept").measured(kept).at_least(0);
  require(++runs > 1, "killed");
});
const auto failing = add({.slug = "failing"}, [](Lab&) { fail("data is absent"); });

class StudyFrame : public ::testing::Test {
 protected:
  void SetUp() override { bar = 0.4; }
  void TearDown() override { std::filesystem::remove_all(folder); }
  static Outcome at(Scale scale, int seeds = 0) {
    return run("of-the-tests", {.scale = scale, .seeds = seeds, .command = "cajal study run"});
  }

  const std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) /
      ::testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(StudyFrame, RunsOnceASeedAndKeepsEveryValue) {
  const auto result = at(Scale::standard).result;
  EXPECT_EQ(result.seeds, (std::vector<int64_t>{0, 1, 2}));
  EXPECT_EQ(result.tables.at(0).rows.at(0).at(1).figure->values,
            (std::vector<double>{0.50, 0.51, 0.52}));
}

TEST_F(StudyFrame, SeedsTorchSoThatARunRepeats) {
  const auto first = at(Scale::standard).result, second = at(Scale::standard).result;
  EXPECT_EQ(first.tables[0].rows[1][1].figure->values, second.tables[0].rows[1][1].figure->values);
  EXPECT_NE(first.tables[0].rows[1][1].figure->values[0],
            first.tables[0].rows[1][1].figure->values[1]);
}

TEST_F(StudyFrame, SmokeRunsOneSeedAndIsNotJudged) {
  bar = 0.9;
  const auto result = at(Scale::smoke).result;
  EXPECT_EQ(result.seeds.size(), 1u);
  EXPECT_TRUE(passed(result));
  EXPECT_NE(text(result).find("not judged"), std::string::npos);
  EXPECT_EQ(text(result).find("passed"), std::string::npos);
}

TEST_F(StudyFrame, AClaimBelowItsBarFails) {
  bar = 0.9;
  const auto result = at(Scale::standard).result;
  EXPECT_FALSE(passed(result));
  EXPECT_NE(text(result).find("FAILED"), std::string::npos);
}

TEST_F(StudyFrame, AClaimMeasuredAsNanFails) {
  EXPECT_FALSE(reaches_bar({.measured = NAN, .at_least = 0.0}));
  EXPECT_FALSE(reaches_bar({.measured = INFINITY, .at_least = 0.0}));
}

TEST_F(StudyFrame, AClaimIsJudgedOnTheMeanOverSeeds) {
  EXPECT_TRUE(reaches_bar({.measured = std::vector<double>{0.2, 0.8}, .at_least = 0.5}));
  EXPECT_FALSE(reaches_bar({.measured = std::vector<double>{0.2, 0.8}, .at_most = 0.4}));
}

TEST_F(StudyFrame, AClaimWithoutABarIsAnError) {
  EXPECT_EQ(message([] { run("no-bar", {}); }), "study no-bar: claim 'loose' has no bar");
}

TEST_F(StudyFrame, AStudyThatShowsNothingIsAnError) {
  EXPECT_EQ(message([] { run("silent", {}); }),
            "study silent: neither makes a claim nor says what is not shown");
}

TEST_F(StudyFrame, ARunThatWasCutOffGoesOnAfterItsParts) {
  const RunOptions options{.record = folder / "cut-off.parts.jsonl"};
  const auto whole = [&] { return run("cut-off", options).result.claims[0].measured.values; };
  runs = 0;
  EXPECT_EQ(message([&] { run("cut-off", options); }), "killed");
  const auto before = read_file(options.record);
  const auto resumed = whole();
  EXPECT_EQ(read_file(options.record), before);  // the part was not measured again
  std::filesystem::remove(options.record);
  EXPECT_EQ(resumed, whole());
}

TEST_F(StudyFrame, WhatAnotherRunHasRecordedIsDropped) {
  const auto file = folder / "of-the-tests.parts.jsonl";
  runs = 0;
  run("of-the-tests", {.scale = Scale::full, .record = file});
  EXPECT_EQ(runs, 3);
  run("of-the-tests", {.record = file});
  EXPECT_EQ(runs, 6);
  run("of-the-tests", {.record = file});
  EXPECT_EQ(runs, 6);
}

TEST_F(StudyFrame, ALineThatAKillCutOffIsMeasuredAgain) {
  const auto file = folder / "of-the-tests.parts.jsonl";
  runs = 0;
  run("of-the-tests", {.record = file});
  const auto content = read_file(file);
  write_file(file, content.substr(0, content.size() - 9));
  run("of-the-tests", {.record = file});
  EXPECT_EQ(runs, 4);
}

TEST_F(StudyFrame, AnErrorInsideAStudyComesOut) {
  EXPECT_EQ(message([] { run("failing", {}); }), "data is absent");
}

TEST_F(StudyFrame, ARowMustFillItsColumns) {
  Lab lab("x", {});
  auto table = lab.table("sizes", {"a", "b"});
  EXPECT_EQ(message([&] { table.row("only one"); }),
            "table 'sizes': a row of 1 cells, expected 2: a, b");
}

TEST_F(StudyFrame, TheCatalogueGivesTitleYearAndPaper) {
  const auto& about = registry().at("ffsplit").about;
  EXPECT_TRUE(about.title.starts_with("FFSplit"));
  EXPECT_EQ(about.year, 2024);
  EXPECT_EQ(about.paper, "arXiv 2401.04044");
}

TEST_F(StudyFrame, ResultsComeBackFromTheirJson) {
  const auto outcome = at(Scale::standard);
  store(folder, outcome);
  const auto loaded = load_results(folder);
  ASSERT_EQ(loaded.size(), 1u);
  EXPECT_EQ(write_options(loaded[0]).dump(), write_options(outcome.result).dump());
}

TEST_F(StudyFrame, AFigureThatIsNotFiniteSurvivesItsJson) {
  Figure read;
  read_options(write_options(Figure({1.0, NAN})), "it", read);
  EXPECT_EQ(read.values[0], 1.0);
  EXPECT_TRUE(std::isnan(read.values[1]));
}

TEST_F(StudyFrame, StoresEveryPlotAsPictureAndData) {
  store(folder, at(Scale::standard));
  EXPECT_TRUE(read_file(folder / "of-the-tests" / "loss-spread.svg").starts_with("<svg"));
  EXPECT_EQ(read_file(folder / "of-the-tests" / "loss-spread.csv"),
            "series,step,loss,spread\nours,1,3,\nours,2,2,\nours,3,1,\n");
}

TEST_F(StudyFrame, ASmokeRunNeverReplacesAStandardResult) {
  store(folder, at(Scale::standard));
  const auto before = read_file(folder / "of-the-tests.json");
  EXPECT_NE(message([&] { store(folder, at(Scale::smoke)); }).find("must not replace"),
            std::string::npos);
  EXPECT_EQ(read_file(folder / "of-the-tests.json"), before);
}

TEST_F(StudyFrame, AStandardRunReplacesASmokeResult) {
  store(folder, at(Scale::smoke));
  store(folder, at(Scale::standard));
  EXPECT_EQ(load_results(folder)[0].scale, Scale::standard);
}

TEST_F(StudyFrame, ADamagedResultIsNamedWithItsField) {
  std::filesystem::create_directories(folder);
  write_file(folder / "of-the-tests.json", R"({"slug": "of-the-tests", "year": "old"})");
  EXPECT_EQ(message([&] { load_results(folder); }),
            (folder / "of-the-tests.json").string() + ".year: expected an integer, got \"old\"");
}

TEST_F(StudyFrame, TheResultsPageHasARowForEverySystem) {
  const auto page = results_page({at(Scale::standard).result}, {"ffsplit", "of-the-tests"});
  for (const auto& system : catalogue())
    EXPECT_NE(page.find(fmt::format("| **{}** ", system.slug)), std::string::npos) << system.slug;
  EXPECT_NE(page.find("| **ffsplit** "), std::string::npos);
  EXPECT_NE(page.find("built, no result yet"), std::string::npos);
  EXPECT_NE(page.find("| loss<br>share<br>order kept | 0.5<br>50 %<br> | 0.510 ± 0.010<br>"),
            std::string::npos)
      << page;
  EXPECT_NE(page.find("losses \\| by method"), std::string::npos);
}

TEST_F(StudyFrame, ASlugIsWrittenInSmallLetters) {
  EXPECT_THROW(add({.slug = "Not A Slug"}, measure), Error);
  EXPECT_THROW(add({.slug = "../up"}, measure), Error);
}

TEST(Catalogue, HoldsSixtyFiveSystemsInOrder) {
  ASSERT_EQ(catalogue().size(), 65u);
  for (size_t i = 1; i < catalogue().size(); ++i)
    EXPECT_LT(catalogue()[i - 1].slug, catalogue()[i].slug);
  for (const auto& system : catalogue()) EXPECT_EQ(find_system(system.slug), &system);
  EXPECT_EQ(find_system("ffspli"), nullptr);
}

TEST(FigureText, ShowsTheDigitsThatItsSpreadSupports) {
  EXPECT_EQ(text(Figure({0.83121, 0.83321})), "0.8322 ± 0.0014");
  EXPECT_EQ(text(Figure({1200.0, 1400.0})), "1300 ± 141");
  EXPECT_EQ(text(Figure(0.123456)), "0.1235");
  EXPECT_EQ(text(Figure(32768)), "32768");
  EXPECT_EQ(text(Figure(0.4312), true), "43.12 %");
}

}  // namespace
}  // namespace cajal::study
