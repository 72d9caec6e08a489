#include "cajal/data/csv.h"

#include <gtest/gtest.h>

#include "core/scratch.h"
#include "says.h"

namespace cajal::data {
namespace {

std::string refusal(const std::string& text, const CsvFormat& format = {}) {
  return error_of([&] { parse_csv(text, "x.csv", format); });
}

TEST(Csv, ReadsHeaderAndNumbersByName) {
  const auto table = parse_csv("date,OT\n2016,1.5\n2017,-2e3\n", "x");
  EXPECT_EQ(table.rows(), 2);
  EXPECT_EQ(table.numbers("OT"), (std::vector<double>{1.5, -2000}));
}

TEST(Csv, ReadsQuotedCellsWithSeparatorsQuotesAndLineEnds) {
  const auto table = parse_csv("a,b\n\"x,\"\"y\"\"\n z\",2\r\n", "x");
  EXPECT_EQ(table.cell(0, 0), "x,\"y\"\n z");
  EXPECT_EQ(table.cell(0, 1), "2");
}

TEST(Csv, EndsLinesInLfCrlfOrTheEnd) {
  for (const auto* text : {"a,b\n1,2", "a,b\n1,2\n", "a,b\r\n1,2\r\n",
                           "\xEF\xBB\xBF"
                           "a,b\r\n1,2"}) {
    const auto table = parse_csv(text, "x");
    EXPECT_EQ(table.rows(), 1);
    EXPECT_EQ(table.header(), (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(table.cell(0, 1), "2");
  }
}

TEST(Csv, ReadsEmptyCellsAndOtherSeparators) {
  const auto table = parse_csv(";;\n;7;\n", "x", {';', false});
  EXPECT_EQ(table.columns(), 3);
  EXPECT_EQ(table.rows(), 2);
  EXPECT_EQ(table.cell(1, 1), "7");
}

TEST(Csv, NamesTheLineOfARowOfAnotherLength) {
  EXPECT_TRUE(says(refusal("a,b\n\"1\n1\",2\n3\n"), "x.csv: line 4: 1 cells, expected 2"));
  EXPECT_TRUE(says(refusal("a,b\n1,2\n\n"), "line 3: 1 cells"));
}

TEST(Csv, RefusesMisplacedQuotes) {
  EXPECT_TRUE(says(refusal("a\n\"open\nmore\n"), "line 2: a quoted cell does not end"));
  EXPECT_TRUE(says(refusal("a\n\"x\"y\n"), "line 2: text behind a quoted cell"));
  EXPECT_TRUE(says(refusal("a\nx\"y\n"), "line 2: a quote inside"));
  EXPECT_TRUE(says(refusal(""), "empty"));
  EXPECT_TRUE(says(refusal("\""), "does not end"));
}

TEST(Csv, NamesTheCellThatIsNoNumber) {
  for (const auto* cell : {"abc", "", "1.5x", "nan", "inf", "1e999", "0x10", " 1", "1,5"}) {
    const auto table = parse_csv("a;OT\n1;2\n3;" + std::string(cell) + "\n", "x.csv", {';', true});
    EXPECT_TRUE(says(error_of([&] { table.numbers("OT"); }),
                     fmt::format("x.csv: line 3: '{}' in column OT", cell)));
  }
}

TEST(Csv, NamesTheNearestColumn) {
  const auto table = parse_csv("date,HUFL\n1,2\n", "x");
  EXPECT_TRUE(says(error_of([&] { table.numbers("HULF"); }), "HUFL"));
  EXPECT_NE(error_of([&] { table.numbers(7); }), "");
}

}  // namespace
}  // namespace cajal::data
