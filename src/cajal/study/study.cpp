#include "cajal/study/study.h"

#include <algorithm>
#include <chrono>
#include <ctime>

#include "cajal/core/machine.h"
#include "cajal/core/timing.h"
#include "cajal/data/catalogue.h"
#include "cajal/study/catalogue.h"

namespace cajal::study {
namespace {

/// A name for files: letters, digits and dashes.
std::string file_name(std::string_view title) {
  std::string out;
  for (const char c : title) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    const bool capital = c >= 'A' && c <= 'Z';
    if (plain || capital) {
      out += static_cast<char>(capital ? c - 'A' + 'a' : c);
    } else if (!out.empty() && out.back() != '-') {
      out += '-';
    }
  }
  while (!out.empty() && out.back() == '-') out.pop_back();
  return out.substr(0, 60);
}

std::string utc_now() {
  const auto now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

}  // namespace

void TableWriter::add(std::vector<Cell> cells) {
  require(cells.size() == table_->columns.size(), "table '{}': a row of {} cells, expected {}: {}",
          table_->name, cells.size(), table_->columns.size(), fmt::join(table_->columns, ", "));
  table_->rows.push_back(std::move(cells));
}

ClaimWriter& ClaimWriter::paper(std::string figure) {
  claim_->paper = std::move(figure);
  return *this;
}

ClaimWriter& ClaimWriter::measured(Figure figure) {
  claim_->measured = std::move(figure);
  return *this;
}

ClaimWriter& ClaimWriter::in_percent() {
  claim_->percent = true;
  return *this;
}

void ClaimWriter::holds(bool yes) {
  claim_->fact = true;
  claim_->measured = yes ? 1.0 : 0.0;
  judge(1.0, std::nullopt);
}

void ClaimWriter::judge(std::optional<double> low, std::optional<double> high) {
  require(!claim_->measured.values.empty(), "claim '{}': nothing was measured", claim_->claim);
  claim_->at_least = low;
  claim_->at_most = high;
  claim_->passed = reaches_bar(*claim_);
}

Lab::Lab(std::string slug, const RunOptions& options)
    : slug_(std::move(slug)), scale_(options.scale), device_(pick_device(options.device)) {
  require(options.seeds >= 0, "seeds: expected at least 1, got {}", options.seeds);
  const int count = options.seeds ? options.seeds : by_scale(1, 3, 3);
  for (int seed = 0; seed < count; ++seed) seeds_.push_back(static_cast<uint64_t>(seed));
  if (options.record.empty()) return;
  record_ = Record(options.record, {{"study", slug_},
                                    {"scale", to_name(scale_)},
                                    {"device", device_.str()},
                                    {"program", program_identity()},
                                    {"made by", provenance()}});
  if (record_.size() > 0)
    fmt::print(stderr, "{}: goes on after {} parts that an earlier run measured in {:.0f} s\n",
               slug_, record_.size(), record_.seconds());
}

void Lab::measure(const std::string& part, uint64_t seed, const std::function<Json()>& make,
                  const std::function<void(const Json& kept)>& take) {
  if (const auto* kept = record_.find(part)) return take(*kept);
  seed_everything(seed);
  const Stopwatch watch;
  const auto value = make();
  record_.add(part, watch.seconds(), value);
  if (!smoke()) fmt::print(stderr, "{}: {}: {:.1f} s\n", slug_, part, watch.seconds());
}

Figure Lab::over_seeds(const std::string& name, const std::function<double(uint64_t seed)>& run) {
  return over_seeds(name, [&](uint64_t seed) { return std::vector<double>{run(seed)}; }).at(0);
}

std::vector<Figure> Lab::over_seeds(const std::string& name,
                                    const std::function<std::vector<double>(uint64_t seed)>& run) {
  std::vector<Figure> figures;
  for (const uint64_t seed : seeds_) {
    // A Figure, because its numbers may be infinite or none.
    const auto values = part(name, seed, [&] { return Figure(run(seed)); }).values;
    if (figures.empty()) figures.resize(values.size());
    require(values.size() == figures.size(), "{}: {}: seed {} gave {} numbers, the first one {}",
            slug_, name, seed, values.size(), figures.size());
    for (size_t i = 0; i < values.size(); ++i) figures[i].values.push_back(values[i]);
  }
  return figures;
}

TableWriter Lab::table(std::string name, std::vector<std::string> columns) {
  return TableWriter(tables_.emplace_back(Table{std::move(name), std::move(columns), {}}));
}

ClaimWriter Lab::claim(std::string text) {
  auto& claim = claims_.emplace_back();
  claim.claim = std::move(text);
  return ClaimWriter(claim);
}

void Lab::not_shown(std::string what, std::string why) {
  not_shown_.push_back({std::move(what), std::move(why)});
}

bool Lab::has(std::string_view dataset, std::string what) {
  try {
    data::find_dataset(dataset);
    return true;
  } catch (const Error& absent) {
    not_shown(std::move(what), absent.what());
    return false;
  }
}

void Lab::note(std::string text) { notes_.push_back(std::move(text)); }

void Lab::plot(plot::Chart chart) {
  plot::svg(chart);  // a chart whose sizes do not fit fails here, not after the run
  charts_.push_back(std::move(chart));
}

Registry<Study>& registry() {
  static Registry<Study> all("study");
  return all;
}

bool add(About about, std::function<void(Lab&)> run) {
  require(!about.slug.empty() && about.slug.find_first_not_of(
                                     "abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos,
          "study '{}': a slug is written with a-z, 0-9 and -", about.slug);
  if (const auto* system = find_system(about.slug)) {
    if (about.title.empty()) about.title = system->title;
    if (about.year == 0) about.year = system->year;
    if (about.paper.empty()) about.paper = system->paper;
  }
  const auto slug = about.slug;
  return registry().add(slug, {std::move(about), std::move(run)});
}

/// Takes what a lab has gathered.
struct Session {
  static Outcome finish(Lab& lab, const About& about, const RunOptions& options, double seconds) {
    for (const auto& claim : lab.claims_)
      require(claim.at_least || claim.at_most, "study {}: claim '{}' has no bar", about.slug,
              claim.claim);
    require(!lab.claims_.empty() || !lab.not_shown_.empty(),
            "study {}: neither makes a claim nor says what is not shown", about.slug);
    Outcome out;
    auto& result = out.result;
    result.slug = about.slug, result.title = about.title, result.paper = about.paper;
    result.year = about.year, result.scale = lab.scale_;
    result.seeds.assign(lab.seeds_.begin(), lab.seeds_.end());
    result.command = options.command, result.finished = utc_now();
    result.seconds = seconds + lab.record_.seconds();
    result.device = lab.device_.str();
    result.provenance = provenance();
    result.tables = {lab.tables_.begin(), lab.tables_.end()};
    result.claims = {lab.claims_.begin(), lab.claims_.end()};
    result.not_shown = lab.not_shown_, result.notes = lab.notes_;
    out.charts = lab.charts_;
    for (const auto& chart : out.charts) {
      auto file = file_name(plot::title(chart));
      const auto taken = [&](const Plot& plot) { return plot.file == file; };
      if (file.empty() || std::any_of(result.plots.begin(), result.plots.end(), taken))
        file += fmt::format("-{}", result.plots.size() + 1);
      result.plots.push_back({plot::title(chart), file});
    }
    return out;
  }
};

Outcome run(std::string_view slug, const RunOptions& options) {
  const auto& study = registry().at(slug);
  Lab lab(study.about.slug, options);
  set_torch_threads(0);
  seed_everything(lab.seeds()[0]);
  const Stopwatch watch;
  study.run(lab);
  return Session::finish(lab, study.about, options, watch.seconds());
}

}  // namespace cajal::study
