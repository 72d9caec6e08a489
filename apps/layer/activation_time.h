#pragma once
#include <CLI/CLI.hpp>

namespace cajal {

/// `cajal activation time`: every activation, forward and backward, over a copy of its bytes.
void setup_activation_time(CLI::App& app);

}  // namespace cajal
