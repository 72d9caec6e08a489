#include "cajal/study/result.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace cajal::study {
namespace {

/// Whole numbers in full, others with four digits.
std::string number_text(double value) {
  if (std::isnan(value)) return "nan";
  if (value == std::round(value) && std::abs(value) < 1e9) return fmt::format("{:.0f}", value);
  return fmt::format("{:.4g}", value);
}

std::string number_text(double value, bool percent) {
  return percent ? fmt::format("{:.4g} %", 100 * value) : number_text(value);
}

Json number_json(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

double read_number(const Json& json, const std::string& where) {
  if (json.is_null()) return std::numeric_limits<double>::quiet_NaN();
  double value = 0;
  options::read(json, where, value);
  return value;
}

}  // namespace

double Figure::mean() const {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double Figure::spread() const {
  if (values.size() < 2) return 0;
  const double center = mean();
  double sum = 0;
  for (const double value : values) sum += (value - center) * (value - center);
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

bool reaches_bar(const Claim& claim) {
  const double value = claim.measured.mean();
  return std::isfinite(value) && (!claim.at_least || value >= *claim.at_least) &&
         (!claim.at_most || value <= *claim.at_most);
}

bool passed(const Result& result) {
  return result.scale == Scale::smoke || std::all_of(result.claims.begin(), result.claims.end(),
                                                     [](const Claim& c) { return c.passed; });
}

std::string text(const Figure& figure, bool percent) {
  const double factor = percent ? 100 : 1;
  const double mean = figure.mean() * factor, spread = figure.spread() * factor;
  if (figure.values.size() < 2 || !std::isfinite(spread))
    return number_text(figure.mean(), percent);
  const int decimals =
      spread > 0 ? std::clamp(1 - static_cast<int>(std::floor(std::log10(spread))), 0, 9) : 4;
  const bool huge = std::abs(mean) >= 1e9;
  return huge ? fmt::format("{:.4g} ± {:.2g}{}", mean, spread, percent ? " %" : "")
              : fmt::format("{:.{}f} ± {:.{}f}{}", mean, decimals, spread, decimals,
                            percent ? " %" : "");
}

std::string text(const Cell& cell) { return cell.figure ? text(*cell.figure) : cell.text; }

std::string bar_text(const Claim& claim) {
  if (claim.fact) return "yes";
  const auto show = [&](double bar) { return number_text(bar, claim.percent); };
  if (claim.at_least && claim.at_most) return show(*claim.at_least) + " to " + show(*claim.at_most);
  return claim.at_least ? ">= " + show(*claim.at_least) : "<= " + show(*claim.at_most);
}

std::string measured_text(const Claim& claim) {
  if (claim.fact) return claim.measured.mean() == 1 ? "yes" : "no";
  return text(claim.measured, claim.percent);
}

void read_options(const Json& json, const std::string& where, Figure& out) {
  out.values.clear();
  if (!json.is_array()) {
    out.values.push_back(read_number(json, where));
    return;
  }
  for (const auto& value : json) out.values.push_back(read_number(value, where));
}

Json write_options(const Figure& figure) {
  if (figure.values.size() == 1) return number_json(figure.values[0]);
  Json array = Json::array();
  for (const double value : figure.values) array.push_back(number_json(value));
  return array;
}

void read_options(const Json& json, const std::string& where, Cell& out) {
  out = Cell();
  if (json.is_string()) {
    out.text = json.get<std::string>();
  } else {
    read_options(json, where, out.figure.emplace());
  }
}

Json write_options(const Cell& cell) {
  return cell.figure ? write_options(*cell.figure) : Json(cell.text);
}

}  // namespace cajal::study
