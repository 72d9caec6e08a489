#pragma once
#include <filesystem>
#include <string_view>

#include "cajal/data/array.h"

namespace cajal::data {

/// Reads a NumPy .npy file, version 1 to 3 (plain, .gz or .xz): little-endian f4, f8, i2, i4, i8,
/// and i1, u1, b1. An array in Fortran order is turned to row-major.
/// Throws Error that names the file and what is unsound or not read (other types, objects).
/// Source: numpy.lib.format.
Array read_npy(const std::filesystem::path& path);
Array parse_npy(std::string_view bytes, std::string_view where);

/// Writes version 1.0, row-major.
void write_npy(const std::filesystem::path& path, const Array& array);

}  // namespace cajal::data
