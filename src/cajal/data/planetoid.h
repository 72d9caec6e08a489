#pragma once
#include <filesystem>
#include <string_view>

#include "cajal/data/citations.h"

namespace cajal::data {

/// The graph from Planetoid's own files ind.NAME.{y,tx,ty,allx,ally,graph,test.index}, Python
/// pickles that are read without running anything. Self-loops and double edges are left out; test
/// ids that are in no file get label -1 and no words.
/// Throws Error that names the file and what is unsound.
/// Source: Yang et al. 2016, the files' README; split of Kipf, Welling 2017.
CitationGraph read_planetoid(const std::filesystem::path& folder, std::string_view name);

}  // namespace cajal::data
