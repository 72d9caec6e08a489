#pragma once
#include <filesystem>
#include <string_view>

#include "cajal/data/array.h"

namespace cajal::data {

/// Reads an IDX file (plain, .gz or .xz): numbers of any of its six types, up to 8 axes.
/// Throws Error that names the file when its header is unsound or its length is not what the shape
/// says. Source: the MNIST page's description of the format.
Array read_idx(const std::filesystem::path& path);
Array parse_idx(std::string_view bytes, std::string_view where);

}  // namespace cajal::data
