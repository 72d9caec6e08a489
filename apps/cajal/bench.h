#pragma once
#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "cajal/core/registry.h"

namespace cajal {

/// One thing that `cajal bench` times, in a file of its own: apps/cajal/bench_<name>.cpp. `setup`
/// declares its options and sets the callback that runs it and prints a table or, with --json, one
/// JSON object; the callback throws Error for bad options.
struct Bench {
  std::string summary;
  std::function<void(CLI::App& app)> setup;
};

inline Registry<Bench>& benches() {
  static Registry<Bench> registry("bench");
  return registry;
}

}  // namespace cajal
