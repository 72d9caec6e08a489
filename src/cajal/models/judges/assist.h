#pragma once
#include <filesystem>
#include <iosfwd>

#include "cajal/models/judges/network.h"

namespace cajal::judges {

/// What people did with verdicts that were filled in for them.
struct Assisted {
  int64_t pairs = 0;   // decided, in this session and before
  int64_t agreed = 0;  // with the verdict filled in
  double seconds = 0;  // over all decisions
};

/// Shows each pair of a trace file with its reviews and verdict, and asks for 1, 2, t (tie), an
/// empty line (as filled in) or q. Each decision is appended to `log` at once with its seconds, so
/// that pairs decided there are not asked again. Throws Error that names file and line.
Assisted assist(const std::filesystem::path& trace, const std::filesystem::path& log,
                std::istream& in, std::ostream& out);

std::string assisted_text(const Assisted& result);
Json write_assisted(const Assisted& result);

}  // namespace cajal::judges
