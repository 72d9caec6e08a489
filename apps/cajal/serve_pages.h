#pragma once
#include <filesystem>

#include "serve_http.h"

namespace cajal::serve {

/// The folder with the pages: as built beside the program, as installed, or the plain ones of the
/// source, whose charts are tables. Throws Error that says how to get them.
std::filesystem::path find_pages();

/// Keeps every file of the folder in memory and serves it under its name; index.html also as "/".
void add_pages(HttpServer& server, const std::filesystem::path& folder);

}  // namespace cajal::serve
