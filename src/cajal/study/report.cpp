#include "cajal/study/report.h"

#include <algorithm>
#include <csignal>
#include <map>

#include "cajal/core/files.h"
#include "cajal/study/catalogue.h"
#include "cajal/study/html.h"

namespace cajal::study {
namespace {

/// SIGINT and SIGTERM wait while this lives: what is being written gets finished.
class InterruptsWait {
 public:
  InterruptsWait()
      : interrupt_(std::signal(SIGINT, SIG_IGN)), end_(std::signal(SIGTERM, SIG_IGN)) {}
  ~InterruptsWait() {
    std::signal(SIGINT, interrupt_);
    std::signal(SIGTERM, end_);
  }
  InterruptsWait(const InterruptsWait&) = delete;
  InterruptsWait& operator=(const InterruptsWait&) = delete;

 private:
  void (*interrupt_)(int);
  void (*end_)(int);
};

std::vector<std::vector<std::string>> texts(const Table& table) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& row : table.rows) {
    auto& out = rows.emplace_back();
    for (const auto& cell : row) out.push_back(text(cell));
  }
  return rows;
}

/// Characters, not bytes.
size_t text_length(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

/// Columns side by side; a column is as wide as its widest cell.
std::string aligned(const std::vector<std::string>& columns,
                    const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& column : columns) widths.push_back(text_length(column));
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], text_length(row[i]));
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string out = "  ";
    for (size_t i = 0; i < cells.size(); ++i) {
      out += cells[i];
      if (i + 1 < cells.size()) out += std::string(widths[i] - text_length(cells[i]) + 3, ' ');
    }
    return out + '\n';
  };
  std::string out = line(columns);
  for (const auto& row : rows) out += line(row);
  return out;
}

std::string verdict(const Claim& claim, Scale scale) {
  if (scale == Scale::smoke) return "not judged";
  return claim.passed ? "passed" : "FAILED";
}

std::vector<std::vector<std::string>> claim_rows(const Result& result) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& claim : result.claims)
    rows.push_back({claim.claim, claim.paper, measured_text(claim), bar_text(claim),
                    verdict(claim, result.scale)});
  return rows;
}

const std::vector<std::string> kClaimColumns = {"claim", "paper", "measured", "bar", "verdict"};

std::string run_line(const Result& result) {
  const auto of = [&](const char* key) -> std::string {
    const auto it = result.provenance.find(key);
    if (it == result.provenance.end()) return "?";
    return it->is_string() ? it->get<std::string>() : it->dump();
  };
  return fmt::format("{} scale, {} seed{}, {:.1f} s on {} ({} threads, {}), cajal {}",
                     to_name(result.scale), result.seeds.size(),
                     result.seeds.size() == 1 ? "" : "s", result.seconds, result.device,
                     of("threads"), of("processor"), of("version"));
}

std::string heading_line(const Result& result) {
  return fmt::format("{}: {} ({}{}{})", result.slug, result.title, result.year,
                     result.paper.empty() ? "" : ", ", result.paper);
}

/// Text inside a cell of a Markdown table.
std::string cell_text(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    if (c == '<') {
      out += "&lt;";
    } else {
      out += c == '\n' ? ' ' : c;
    }
  }
  return out;
}

std::string markdown_row(const std::vector<std::string>& cells) {
  std::string out = "|";
  for (const auto& cell : cells) out += " " + cell + " |";
  return out + '\n';
}

std::string markdown_table(const std::vector<std::string>& columns,
                           const std::vector<std::vector<std::string>>& rows) {
  const auto safe = [](std::vector<std::string> cells) {
    for (auto& cell : cells) cell = cell_text(cell);
    return cells;
  };
  std::string out = markdown_row(safe(columns));
  out += markdown_row(std::vector<std::string>(columns.size(), "---"));
  for (const auto& row : rows) out += markdown_row(safe(row));
  return out;
}

/// The row of one system: every claim on its own line inside the cells.
std::string system_row(std::string_view slug, std::string_view title, int64_t year,
                       const Result* result, bool built) {
  std::vector<std::string> cells = {fmt::format("**{}** {} ({})", slug, cell_text(title), year)};
  if (result == nullptr) {
    const char* state = built ? "built, no result yet" : "not yet built";
    cells.insert(cells.end(), {state, "", "", "", "", ""});
    return markdown_row(cells);
  }
  std::vector<std::string> joined(5);
  for (const auto& row : claim_rows(*result))
    for (size_t i = 0; i < row.size(); ++i) joined[i] += cell_text(row[i]) + "<br>";
  for (auto& cell : joined) cells.push_back(cell.empty() ? "" : cell.substr(0, cell.size() - 4));
  cells.push_back(to_name(result->scale));
  return markdown_row(cells);
}

std::string details(const Result& result) {
  std::string out = fmt::format("\n## {}\n{}\n", heading_line(result), run_line(result));
  for (const auto& table : result.tables)
    out += fmt::format("\n**{}**\n\n{}", cell_text(table.name),
                       markdown_table(table.columns, texts(table)));
  if (!result.not_shown.empty()) out += "\nNot shown here\n";
  for (const auto& gap : result.not_shown) out += fmt::format("- {}: {}\n", gap.what, gap.why);
  if (!result.notes.empty()) out += '\n';
  for (const auto& note : result.notes) out += fmt::format("{}\n", note);
  return out;
}

}  // namespace

std::string text(const Result& result) {
  std::string out = fmt::format("{}\n{}\n", heading_line(result), run_line(result));
  for (const auto& table : result.tables)
    out += fmt::format("\n{}\n{}", table.name, aligned(table.columns, texts(table)));
  if (!result.claims.empty())
    out += fmt::format("\nclaims\n{}", aligned(kClaimColumns, claim_rows(result)));
  for (const auto& gap : result.not_shown)
    out += fmt::format("\nnot shown here: {}: {}", gap.what, gap.why);
  if (!result.not_shown.empty()) out += '\n';
  for (const auto& note : result.notes) out += fmt::format("\nnote: {}", note);
  if (!result.notes.empty()) out += '\n';
  return out;
}

void refuse_overwrite(const std::filesystem::path& folder, const std::string& slug, Scale scale) {
  const auto path = folder / (slug + ".json");
  if (scale != Scale::smoke || !std::filesystem::exists(path)) return;
  const auto kept = options::parse<Result>(read_json(path), path.string());
  require(kept.scale == Scale::smoke, "{}: holds a {} result, which a smoke run must not replace",
          path.string(), to_name(kept.scale));
}

std::filesystem::path store(const std::filesystem::path& folder, const Outcome& outcome) {
  const auto& result = outcome.result;
  refuse_overwrite(folder, result.slug, result.scale);
  const auto path = folder / (result.slug + ".json");
  const InterruptsWait until_written;
  std::error_code failure;
  const auto charts = folder / result.slug;
  std::filesystem::create_directories(outcome.charts.empty() ? folder : charts, failure);
  require(!failure, "{}: cannot be made: {}", charts.string(), failure.message());
  for (size_t i = 0; i < outcome.charts.size(); ++i) {
    const auto& file = result.plots.at(i).file;
    write_file(charts / (file + ".svg"), plot::svg(outcome.charts[i]));
    if (const auto rows = plot::csv(outcome.charts[i]); !rows.empty())
      write_file(charts / (file + ".csv"), rows);
  }
  write_json(path, write_options(result));
  return path;
}

std::vector<Result> load_results(const std::filesystem::path& folder) {
  std::map<std::string, Result> by_slug;
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failure)) {
    if (entry.path().extension() != ".json") continue;
    auto result = options::parse<Result>(read_json(entry.path()), entry.path().string());
    require(result.slug == entry.path().stem().string(), "{}: slug is '{}', expected '{}'",
            entry.path().string(), result.slug, entry.path().stem().string());
    by_slug[result.slug] = std::move(result);
  }
  std::vector<Result> out;
  for (auto& [slug, result] : by_slug) out.push_back(std::move(result));
  return out;
}

std::string results_page(const std::vector<Result>& results,
                         const std::vector<std::string_view>& built) {
  const auto result_of = [&](std::string_view slug) -> const Result* {
    const auto it = std::find_if(results.begin(), results.end(),
                                 [&](const Result& r) { return r.slug == slug; });
    return it == results.end() ? nullptr : &*it;
  };
  const auto exists = [&](std::string_view slug) {
    return std::find(built.begin(), built.end(), slug) != built.end();
  };
  const auto count = static_cast<size_t>(std::count_if(
      catalogue().begin(), catalogue().end(), [&](const System& s) { return exists(s.slug); }));
  std::string out = fmt::format(
      "# Results\nGenerated by `cajal study report` from `studies/results/`; not written by hand. "
      "{} of {} systems are built. A claim passes when its measured mean reaches the bar, which "
      "was "
      "set before the run and is never loosened; \"paper\" is what the paper reports at its own "
      "scale.\n\n",
      count, catalogue().size());
  out += markdown_row({"system", "claim", "paper's figure", "measured", "bar", "pass", "scale"});
  out += markdown_row(std::vector<std::string>(7, "---"));
  for (const auto& system : catalogue())
    out += system_row(system.slug, system.title, system.year, result_of(system.slug),
                      exists(system.slug));
  for (const auto& result : results)
    if (find_system(result.slug) == nullptr)
      out += system_row(result.slug, result.title, result.year, &result, true);
  for (const auto& result : results) out += details(result);
  return out;
}

std::string html_page(const Outcome& outcome) {
  const auto& result = outcome.result;
  html::Page page(result.title.empty() ? result.slug : result.title);
  page.note(
      fmt::format("{}{}{}", result.paper, result.paper.empty() ? "" : ". ", run_line(result)));
  if (!result.claims.empty()) page.heading("Claims").table(kClaimColumns, claim_rows(result));
  for (const auto& table : result.tables)
    page.heading(table.name).table(table.columns, texts(table));
  for (const auto& chart : outcome.charts) page.picture(plot::svg(chart));
  if (!result.not_shown.empty()) page.heading("Not shown here");
  for (const auto& gap : result.not_shown) page.paragraph(gap.what + ": " + gap.why);
  for (const auto& note : result.notes) page.note(note);
  return page.html();
}

}  // namespace cajal::study
