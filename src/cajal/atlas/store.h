#pragma once
#include <filesystem>
#include <optional>

#include "cajal/atlas/findings.h"

namespace cajal::atlas {

/// Writes the census as one SQLite file (tables in docs/atlas.md), beside its place and renamed
/// there; with what was found about its neurons, where that is given.
void save(const Census& census, const std::filesystem::path& path,
          const Findings* findings = nullptr);

/// What to read: all, or only what the sums of LayerCensus need, without the collectors' tables.
enum class Parts { all, sums };

/// Reads it back, equal in every bit. Throws Error that names the file and what is wrong with it
/// when it is missing, no SQLite file, no atlas, of another schema, or damaged.
Census load(const std::filesystem::path& path, Parts parts = Parts::all);

/// What was found about the neurons, or nothing where the file says nothing of it. Errors as
/// `load`.
std::optional<Findings> load_findings(const std::filesystem::path& path);

}  // namespace cajal::atlas
