#pragma once
#include <span>
#include <string_view>

namespace cajal::study {

/// A published system that the library holds or will hold.
struct System {
  std::string_view slug, title;
  int year;
  std::string_view paper;  // venue and arXiv number
};

/// All of them, by slug in alphabetical order.
std::span<const System> catalogue();

/// The system of that slug, or nullptr.
const System* find_system(std::string_view slug);

}  // namespace cajal::study
