#pragma once
#include <filesystem>

#include "cajal/atlas/census.h"

namespace cajal::atlas {

/// Writes the census as one SQLite file (tables in docs/atlas.md), beside its place and renamed
/// there.
void save(const Census& census, const std::filesystem::path& path);

/// Reads it back, equal in every bit. Throws Error that names the file and what is wrong with it
/// when it is missing, no SQLite file, no atlas, of another schema, or damaged.
Census load(const std::filesystem::path& path);

}  // namespace cajal::atlas
