#pragma once
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cajal/core/options.h"

/// What a study leaves behind: figures, claims and how they were judged, written as JSON.
namespace cajal::study {

enum class Scale { smoke, standard, full };

/// A number as it was measured: once, or once a seed.
struct Figure {
  std::vector<double> values;

  Figure() = default;
  Figure(double value) : values{value} {}
  Figure(std::vector<double> per_seed) : values(std::move(per_seed)) {}

  double mean() const;    // NaN without values
  double spread() const;  // standard deviation over the seeds; 0 for fewer than two
};

/// A field of a table: text or a figure.
struct Cell {
  std::string text;  // used where there is no figure
  std::optional<Figure> figure;

  Cell() = default;
  Cell(const char* words) : text(words) {}
  Cell(std::string words) : text(std::move(words)) {}
  Cell(Figure measured) : figure(std::move(measured)) {}
  template <class Number>
  requires std::is_arithmetic_v<Number> Cell(Number number) : figure(static_cast<double>(number)) {}
};

struct Table {
  std::string name;
  std::vector<std::string> columns;
  std::vector<std::vector<Cell>> rows;
};

/// A statement of the paper, what was measured here and the bar it must reach. Judged on the mean.
struct Claim {
  std::string claim = "";
  std::string paper = "";  // the paper's figure, in its words
  Figure measured = {};
  std::optional<double> at_least = {}, at_most = {};  // the bar; both for a range
  bool percent = false;                               // shown times 100 with %
  bool fact = false;  // measured is 1 (holds) or 0, shown as yes or no
  bool passed = false;
};

struct NotShown {
  std::string what, why;
};

struct Plot {
  std::string title, file;  // without ending: FILE.svg and FILE.csv beside the result
};

struct Result {
  std::string slug, title;
  int64_t year = 0;
  std::string paper;
  Scale scale = Scale::standard;
  std::vector<int64_t> seeds;
  std::string command, finished;  // UTC, 2025-01-31T12:00:00Z
  double seconds = 0;
  std::string device;
  Json provenance = Json::object();  // version, machine, threads
  std::vector<Table> tables;
  std::vector<Claim> claims;
  std::vector<NotShown> not_shown;
  std::vector<std::string> notes;
  std::vector<Plot> plots;
};

/// Whether the measured mean reaches the bar; never for a figure that is not finite.
bool reaches_bar(const Claim& claim);

/// Whether every claim passed; smoke runs check mechanics and are not judged.
bool passed(const Result& result);

/// "0.8312 ± 0.0021": as many digits as the spread supports, four where there is none.
std::string text(const Figure& figure, bool percent = false);
std::string text(const Cell& cell);
std::string bar_text(const Claim& claim);       // ">= 43.1 %"
std::string measured_text(const Claim& claim);  // "44.9 %", "yes"

void read_options(const Json& json, const std::string& where, Figure& out);
Json write_options(const Figure& figure);
void read_options(const Json& json, const std::string& where, Cell& out);
Json write_options(const Cell& cell);

CAJAL_OPTIONS(Table, name, columns, rows)
CAJAL_OPTIONS(Claim, claim, paper, measured, at_least, at_most, percent, fact, passed)
CAJAL_OPTIONS(NotShown, what, why)
CAJAL_OPTIONS(Plot, title, file)

}  // namespace cajal::study

CAJAL_ENUM(cajal::study::Scale, {cajal::study::Scale::smoke, "smoke"},
           {cajal::study::Scale::standard, "standard"}, {cajal::study::Scale::full, "full"})

namespace cajal::study {
CAJAL_OPTIONS(Result, slug, title, year, paper, scale, seeds, command, finished, seconds, device,
              provenance, tables, claims, not_shown, notes, plots)
}  // namespace cajal::study
