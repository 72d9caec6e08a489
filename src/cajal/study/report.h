#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "cajal/study/study.h"

namespace cajal::study {

/// The result for people: tables, claims with PASSED or FAILED, what is not shown.
std::string text(const Result& result);

/// Throws Error when `folder` holds a result of this slug that `scale` must not replace: smoke runs
/// never replace standard or full ones.
void refuse_overwrite(const std::filesystem::path& folder, const std::string& slug, Scale scale);

/// Writes FOLDER/SLUG.json, and every chart as FOLDER/SLUG/NAME.svg and .csv; an interrupt waits
/// until all of it stands. Returns the path of the JSON.
std::filesystem::path store(const std::filesystem::path& folder, const Outcome& outcome);

/// Every result in the folder, by slug. Throws Error that names the file and the field.
std::vector<Result> load_results(const std::filesystem::path& folder);

/// docs/RESULTS.md: one row a system, all of the catalogue, then each result's tables.
/// `built` says which studies exist.
std::string results_page(const std::vector<Result>& results,
                         const std::vector<std::string_view>& built);

/// One self-contained HTML page of a run.
std::string html_page(const Outcome& outcome);

}  // namespace cajal::study
