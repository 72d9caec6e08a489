#include <CLI/CLI.hpp>

#include "cajal/core/files.h"
#include "cajal/study/catalogue.h"
#include "cajal/study/page_marks.h"
#include "cajal/study/report.h"

// The program behind `cajal study`: every studies/<slug>.cpp registers itself here.
namespace cajal::study {
namespace {

struct Request {
  std::vector<std::string> slugs;
  std::string output, results, page, html;
  bool smoke = false, full = false, all = false, json = false;
  RunOptions run;
};

/// The source tree that this program was built in, or an empty path.
std::filesystem::path source_tree() {
  std::error_code failure;
  auto folder = std::filesystem::read_symlink("/proc/self/exe", failure).parent_path();
  for (; !failure && folder.has_relative_path(); folder = folder.parent_path())
    if (std::filesystem::exists(folder / "studies" / "main.cpp")) return folder;
  return {};
}

/// `given`, or that place in the source tree.
std::filesystem::path place(const std::string& given, const char* option, const char* in_tree) {
  if (!given.empty()) return given;
  const auto tree = source_tree();
  require(!tree.empty(), "this program does not lie in its source tree: say {} PATH", option);
  return tree / in_tree;
}

void list(const Request& request) {
  if (request.json) {
    Json rows = Json::array();
    for (const auto& system : catalogue())
      rows.push_back({{"slug", system.slug},
                      {"title", system.title},
                      {"year", system.year},
                      {"paper", system.paper},
                      {"built", registry().find(system.slug) != nullptr}});
    fmt::print("{}\n", Json{{"studies", rows}}.dump());
    return;
  }
  size_t built = 0;
  for (const auto& system : catalogue()) {
    const bool here = registry().find(system.slug) != nullptr;
    built += here;
    fmt::print("{:<24}  {:<13}  {} ({})\n", system.slug, here ? "built" : "not yet built",
               system.title, system.year);
  }
  fmt::print("{} of {} built\n", built, catalogue().size());
}

/// Tells a system whose study is not there yet from a slug that is wrong.
void require_built(const std::string& slug) {
  if (registry().find(slug) != nullptr) return;
  require(find_system(slug) == nullptr,
          "study '{}' is not yet built; `cajal study list` shows which are", slug);
  std::vector<std::string_view> known = registry().names();
  for (const auto& system : catalogue()) known.push_back(system.slug);
  fail("no study is called '{}'{}", slug, did_you_mean(slug, known));
}

Outcome run_one(const std::string& slug, const Request& request) {
  require_built(slug);
  const bool stored = !request.smoke || !request.output.empty();
  const std::filesystem::path folder =
      stored ? place(request.output, "--output", "studies/results") : "";
  if (stored) refuse_overwrite(folder, slug, request.run.scale);
  auto options = request.run;
  if (stored) options.record = folder / (slug + ".parts.jsonl");
  auto outcome = run(slug, options);
  if (!request.json) fmt::print("{}\n", text(outcome.result));
  if (stored) {
    fmt::print(stderr, "written to {}\n", store(folder, outcome).string());
    std::filesystem::remove(options.record);
  }
  if (!request.html.empty()) write_file(request.html, html_page(outcome));
  return outcome;
}

void run_all(Request& request, int& exit_code) {
  require(!(request.smoke && request.full), "--smoke and --full exclude each other");
  request.run.scale = request.smoke ? Scale::smoke : request.full ? Scale::full : Scale::standard;
  if (request.all)
    for (const auto name : registry().names()) request.slugs.emplace_back(name);
  require(!request.all || !request.slugs.empty(), "no study is built yet");
  require(!request.slugs.empty(),
          "study run: expected a slug or --all; `cajal study list` names them");
  require(request.html.empty() || request.slugs.size() == 1, "--html takes one study");
  Json results = Json::array();
  for (const auto& slug : request.slugs) {
    try {
      const auto outcome = run_one(slug, request);
      results.push_back(write_options(outcome.result));
      if (!passed(outcome.result)) exit_code = std::max(exit_code, 1);
    } catch (const std::exception& error) {
      if (request.slugs.size() == 1) throw;
      const std::string message = error.what();  // the other studies still run
      fmt::print(stderr, "cajal: {}: {}\n", slug, message.substr(0, message.find('\n')));
      exit_code = 2;
    }
  }
  if (request.json)
    fmt::print("{}\n", request.slugs.size() == 1 ? results.at(0).dump()
                                                 : Json{{"results", results}}.dump());
}

/// The pages below `folder` that quote results.
void fill_pages(const std::filesystem::path& folder, const std::vector<Result>& results) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.path().extension() != ".md") continue;
    const auto before = read_file(entry.path());
    const auto after = fill_marks(before, results, entry.path().string());
    if (after == before) continue;
    write_file(entry.path(), after);
    fmt::print(stderr, "figures filled into {}\n", entry.path().string());
  }
}

void report(const Request& request) {
  const auto results = load_results(place(request.results, "--results", "studies/results"));
  const auto page = place(request.page, "--output", "docs/RESULTS.md");
  write_file(page, results_page(results, registry().names()));
  fmt::print(stderr, "{} results, written to {}\n", results.size(), page.string());
  if (request.page.empty()) fill_pages(page.parent_path(), results);
}

void setup(CLI::App& app, Request& request, int& exit_code) {
  app.require_subcommand(1);
  auto* listed = app.add_subcommand("list", "all systems, built or not yet");
  listed->add_flag("--json", request.json, "one JSON object on stdout");
  listed->callback([&] { list(request); });

  auto* ran = app.add_subcommand(
      "run", "runs a study: minutes on two cores; a killed run goes on where it was");
  ran->add_option("slug", request.slugs, "studies of `cajal study list`");
  ran->add_flag("--all", request.all, "every study that is built");
  ran->add_flag("--smoke", request.smoke, "seconds: checks the mechanics, claims are not judged");
  ran->add_flag("--full", request.full, "as large as the machine allows");
  ran->add_option("--seeds", request.run.seeds, "how many seeds (default 3; smoke 1)")
      ->check(CLI::Range(1, 1000));
  ran->add_option("--device", request.run.device, "auto, cpu, cuda or cuda:N");
  ran->add_option("--output", request.output,
                  "folder of the results (default studies/results; smoke: nowhere)");
  ran->add_option("--html", request.html, "also one page of this run");
  ran->add_flag("--json", request.json, "one JSON object on stdout");
  ran->callback([&] { run_all(request, exit_code); });

  auto* reported = app.add_subcommand("report", "writes docs/RESULTS.md from the results");
  reported->add_option("--results", request.results, "folder to read (default studies/results)");
  reported->add_option("--output", request.page, "page to write (default docs/RESULTS.md)");
  reported->callback([&] { report(request); });
}

}  // namespace
}  // namespace cajal::study

int main(int argc, char** argv) {
  using namespace cajal;
  CLI::App app("Published systems, each with the study that repeats its claim.", "cajal study");
  study::Request request;
  int exit_code = 0;
  request.run.command = "cajal study";
  for (int i = 1; i < argc; ++i) request.run.command += std::string(" ") + argv[i];
  study::setup(app, request, exit_code);
  try {
    app.parse(argc, argv);
    return exit_code;
  } catch (const CLI::Success& done) {
    return app.exit(done);  // --help
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "cajal: {}; see cajal study --help\n", error.what());
  } catch (const std::exception& error) {
    // A deeper library's message may run over many lines; the first one says what was wrong.
    const std::string message = error.what();
    fmt::print(stderr, "cajal: {}\n", message.substr(0, message.find('\n')));
  }
  return 2;
}
