#pragma once
#include <functional>
#include <string>

#include "cajal/core/registry.h"
#include "command_line.h"

namespace cajal {

/// One verb of the command. `setup` declares its options and sets the callback that does the work;
/// the callback may set `exit_code` (1: a claim or check failed) and throws Error for bad input.
struct Verb {
  std::string summary;
  std::function<void(CommandLine& app, int& exit_code)> setup;
};

inline Registry<Verb>& verbs() {
  static Registry<Verb> registry("verb");
  return registry;
}

}  // namespace cajal
