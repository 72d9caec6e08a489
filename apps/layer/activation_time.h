#pragma once
#include "../command_line.h"

namespace cajal {

/// `cajal activation time`: every activation, forward and backward, over a copy of its bytes.
void setup_activation_time(CommandLine& app);

}  // namespace cajal
