#include "cajal/study/page_marks.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"

namespace cajal::study {
namespace {

std::vector<Result> results() {
  Result result;
  result.slug = "a";
  result.claims.push_back(
      {.claim = "size cut by", .measured = 0.5, .at_least = 0.4, .percent = true, .passed = true});
  result.claims.push_back({.claim = "speed of it", .measured = 1.5, .at_least = 2});
  result.tables.push_back(
      {"speed, one token", {"form", "bits", "ms"}, {{"dense", 16, 3}, {"cut", 4, 1}}});
  return {result};
}

std::string filled(const std::string& mark) {
  const auto page =
      fill_marks("x <!-- result " + mark + " -->old<!-- end --> y", results(), "p.md");
  const auto begin = page.find("-->") + 3;
  return page.substr(begin, page.find("<!-- end -->") - begin);
}

TEST(PageMarks, TakeTheFigureOfAClaimAndSayWhenItFailed) {
  EXPECT_EQ(filled("a: size cut"), measured_text(results()[0].claims[0]));
  EXPECT_EQ(filled("a: speed"), measured_text(results()[0].claims[1]) + " (failed)");
}

TEST(PageMarks, TakeAFieldOfATable) {
  EXPECT_EQ(filled("a: speed, one / cut, 4 / ms"), text(Cell(1)));
  EXPECT_EQ(filled("a: speed, one / dense / bits"), text(Cell(16)));
}

TEST(PageMarks, SayWhatIsNotThere) {
  EXPECT_EQ(filled("b: size cut"), "not measured yet");
  EXPECT_EQ(filled("a: colour"), "not in the result");
  EXPECT_EQ(filled("a: speed, one / cut / colour"), "not in the result");
}

TEST(PageMarks, LeaveAllElseAndFillingAgainChangesNothing) {
  const std::string page = "| <!-- result a: size -->?<!-- end --> | text <!-- a comment --> |\n";
  const auto once = fill_marks(page, results(), "p.md");
  EXPECT_EQ(once.find("| <!-- result a: size -->"), 0u);
  EXPECT_NE(once.find("<!-- end --> | text <!-- a comment --> |\n"), std::string::npos);
  EXPECT_EQ(fill_marks(once, results(), "p.md"), once);
}

TEST(PageMarks, RefuseMarksThatAreBroken) {
  EXPECT_THROW(fill_marks("<!-- result a: size -->", results(), "p.md"), Error);
  EXPECT_THROW(fill_marks("<!-- result size --><!-- end -->", results(), "p.md"), Error);
  EXPECT_THROW(fill_marks("<!-- result a: x / y --><!-- end -->", results(), "p.md"), Error);
}

}  // namespace
}  // namespace cajal::study
