#pragma once
#include <string>

#include "cajal/models/lm/summary.h"
#include "cajal/surgery/plan.h"

namespace cajal {

/// "12,345" and "1.2 MB": numbers for people.
std::string grouped(int64_t number);
std::string megabytes(int64_t bytes);

/// Where an 8-bit / 4-bit split can win, layer by layer: the share of energy its heavy neurons hold
/// against the share they need.
std::string forecast_table(const atlas::Census& census, surgery::Score score);

/// The groups of every layer of a plan; layers that are alike on one line.
std::string plan_table(const surgery::Plan& plan);

/// A model's bytes before and after.
std::string sizes_text(const lm::Summary& before, const lm::Summary& after);

}  // namespace cajal
