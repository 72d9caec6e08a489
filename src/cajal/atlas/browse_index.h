#pragma once
#include <array>
#include <filesystem>
#include <string>
#include <string_view>

#include "cajal/atlas/findings.h"
#include "cajal/atlas/sqlite.h"

// Tables that answer "which neurons ..." a page at a time, however many there are. They follow from
// the rest of the atlas: `save` writes them for a whole text, `index_beside` for any other file.
namespace cajal::atlas {

/// Where a word was found at a neuron.
enum class WordRole { promoted, lowered, trigger, peak };

/// Edges of the bins in which neurons are counted; bin 0 is exactly 0, bin b > 0 is
/// [edges[b - 1], edges[b]), the last one closed and without end.
inline constexpr std::array<double, 15> share_edges = {0,   1e-4, 1e-3, 0.01, 0.03, 0.1, 0.2, 0.3,
                                                       0.4, 0.5,  0.6,  0.7,  0.8,  0.9, 1};
/// The same for output energy in units of the layer's mean.
inline constexpr std::array<double, 11> energy_edges = {0, 1e-3, 0.01, 0.03, 0.1, 0.3,
                                                        1, 3,    10,   30,   100};

/// How a word is looked for: lower case, without spaces around it (unless it is nothing else).
std::string folded(std::string_view word);

/// Writes the tables into an open file that has none of them.
void save_browse(Database& db, const Census& census, const Findings* findings);

/// A file with these tables for the atlas at `path`: the atlas itself where it has them, else one
/// in `folder` (made if missing), which is written once for each state of the atlas.
std::filesystem::path index_beside(const std::filesystem::path& path,
                                   const std::filesystem::path& folder);

}  // namespace cajal::atlas

CAJAL_ENUM(cajal::atlas::WordRole, {cajal::atlas::WordRole::promoted, "promoted"},
           {cajal::atlas::WordRole::lowered, "lowered"},
           {cajal::atlas::WordRole::trigger, "trigger"}, {cajal::atlas::WordRole::peak, "peak"})
