#include "cajal/study/plot.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cajal/core/error.h"
#include "cajal/study/html.h"
#include "cajal/study/range.h"

namespace cajal::plot {
namespace {

std::vector<std::string> texts(const Range& range, int count) {
  std::vector<std::string> out;
  for (const auto& tick : ticks(range, count)) out.push_back(tick.text);
  return out;
}

size_t count(const std::string& text, std::string_view part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST(Ticks, AreRoundNumbers) {
  EXPECT_EQ(texts({0, 1}, 5), (std::vector<std::string>{"0", "0.2", "0.4", "0.6", "0.8", "1"}));
  EXPECT_EQ(texts({-3e4, 3e4}, 6),
            (std::vector<std::string>{"-30k", "-20k", "-10k", "0", "10k", "20k", "30k"}));
}

TEST(Ticks, OfALogarithmicAxisAreDecades) {
  EXPECT_EQ(texts({1e-5, 1, true}, 6),
            (std::vector<std::string>{"10⁻⁵", "0.0001", "0.001", "0.01", "0.1", "1"}));
}

TEST(Ticks, EndWhereStepsAreLostToRounding) { EXPECT_LE(ticks({1e17, 1e17 + 64}, 6).size(), 101u); }

TEST(RangeOf, RoundsTheDataOutwards) {
  const auto range = range_of({}, {0.13, 0.94});
  EXPECT_DOUBLE_EQ(range.low, 0);
  EXPECT_DOUBLE_EQ(range.high, 1);
}

TEST(RangeOf, OneValueStillHasARange) {
  const auto range = range_of({}, {5, 5});
  EXPECT_LT(range.low, 5);
  EXPECT_GT(range.high, 5);
}

TEST(RangeOf, SkipsWhatALogarithmCannotShow) {
  const auto range = range_of({"", Spacing::logarithmic}, {-1, 0, NAN, INFINITY, 10, 1000});
  EXPECT_DOUBLE_EQ(range.low, 10);
  EXPECT_DOUBLE_EQ(range.high, 1000);
}

TEST(LinePlot, LeavesAGapWhereAValueIsMissing) {
  const auto picture = svg(Lines{.title = "t", .series = {{"a", {0, 1, 2, 3}, {1, NAN, 2, 3}}}});
  const auto path = picture.substr(picture.find("<path d='M"));
  EXPECT_EQ(count(path.substr(0, path.find("fill")), "M"), 2u);
}

TEST(LinePlot, ALongSeriesKeepsItsPeak) {
  std::vector<double> x(100'000), y(100'000, 1.0);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(i);
  y[77'777] = 9;
  const auto picture =
      svg(Lines{.title = "t", .y = {"", Spacing::linear, 0, 9}, .series = {{"a", x, y}}});
  EXPECT_LT(picture.size(), 200'000u);
  EXPECT_NE(picture.find(" 54.0L"), std::string::npos);  // the top of the frame
}

TEST(LinePlot, RefusesSeriesWhoseSizesDoNotFit) {
  EXPECT_THROW(svg(Lines{.title = "t", .series = {{"a", {1, 2}, {1}}}}), Error);
}

TEST(BarChart, RefusesBarsThatDoNotFitTheGroups) {
  EXPECT_THROW(svg(BarChart{.title = "t", .groups = {"a", "b"}, .bars = {{"x", {1}}}}), Error);
}

TEST(HeatMap, RefusesRowsOfDifferentLengths) {
  EXPECT_THROW(svg(HeatMap{.title = "t", .values = {{1, 2}, {3}}}), Error);
}

TEST(Pictures, AreEmbeddedOnceEach) {
  const auto text = svg(Pictures{.title = "t",
                                 .columns = {"a", "b"},
                                 .rows = {"r"},
                                 .pictures = {{{0, 1, 0.5, 1}, {1, 1, 0, 0}}},
                                 .widths = {2}});
  size_t count = 0;
  for (size_t at = 0; (at = text.find("data:image/png;base64,iVBOR", at)) != std::string::npos;
       ++at)
    ++count;
  EXPECT_EQ(count, 2u);
}

TEST(Pictures, RefuseLinesThatDoNotFit) {
  EXPECT_THROW(
      svg(Pictures{
          .title = "t", .columns = {"a"}, .rows = {"r"}, .pictures = {{{0, 1, 1}}}, .widths = {2}}),
      Error);
}

TEST(HeatMap, ALargeOneIsDrawnInBlocks) {
  const HeatMap chart{
      .title = "t",
      .values = std::vector<std::vector<double>>(1000, std::vector<double>(700, 1.0))};
  EXPECT_LT(count(svg(chart), "<rect"), 128u * 128u + 100u);
}

TEST(Chart, EmptyOnesAreDrawnToo) {
  for (const Chart& chart :
       {Chart(Lines{.title = "t"}), Chart(BarChart{.title = "t"}), Chart(HeatMap{.title = "t"})}) {
    const auto picture = svg(chart);
    EXPECT_TRUE(picture.ends_with("</svg>\n"));
    EXPECT_EQ(picture.find("nan"), std::string::npos);
    EXPECT_EQ(picture.find("inf"), std::string::npos);
  }
}

TEST(Chart, NamesCannotBreakTheMarkup) {
  const auto picture = svg(
      BarChart{.title = "a <b> & 'c'", .y = {"\"y\""}, .groups = {"</svg>"}, .bars = {{"x", {1}}}});
  EXPECT_EQ(count(picture, "</svg>"), 1u);
  EXPECT_NE(picture.find("a &lt;b&gt; &amp; &#39;c&#39;"), std::string::npos);
}

TEST(Csv, QuotesWhatHoldsACommaOrAQuote) {
  EXPECT_EQ(csv(BarChart{.title = "t", .groups = {"a, \"b\""}, .bars = {{"x", {1.5}}}}),
            "group,bar,value,spread\n\"a, \"\"b\"\"\",x,1.5,\n");
}

TEST(HtmlPage, EscapesEveryText) {
  html::Page page("<title>");
  page.heading("<h>").paragraph("<p>").note("<n>").code("<c>").table({"<col>"}, {{"<cell>"}});
  page.figures({{"<what>", "<much>"}})
      .shaded({{"<piece>", 0.5}})
      .picture("<svg></svg>", "<caption>");
  const auto text = page.html();
  for (const char* part :
       {"title", "h", "p", "n", "c", "col", "cell", "what", "much", "piece", "caption"})
    EXPECT_NE(text.find(fmt::format("&lt;{}&gt;", part)), std::string::npos) << part;
  for (const char* part : {"<cell>", "<piece>", "<what>", "<much>", "<caption>", "<n>"})
    EXPECT_EQ(text.find(part), std::string::npos) << part;
}

TEST(HtmlPage, NeedsNothingFromOutside) {
  html::Page page("p");
  page.picture(svg(Lines{.title = "t"}));
  const auto text = page.html();
  EXPECT_EQ(text.find("href="), std::string::npos);
  EXPECT_EQ(text.find("src="), std::string::npos);
  EXPECT_EQ(text.find("<script"), std::string::npos);
}

TEST(HtmlPage, BrokenUtf8BecomesAReplacementCharacter) {
  EXPECT_EQ(html::escape("a\xff"
                         "b\xc3"),
            "a\uFFFD"
            "b\uFFFD");
  EXPECT_EQ(html::escape("\xed\xa0\x80"), "\uFFFD\uFFFD\uFFFD");  // a surrogate
  EXPECT_EQ(html::escape("é € 🙂"), "é € 🙂");
}

}  // namespace
}  // namespace cajal::plot
