#pragma once
#include <functional>
#include <string>

#include "../command_line.h"
#include "cajal/core/registry.h"

namespace cajal {

/// One thing that `cajal bench` times, in a file of its own: apps/cajal/bench_<name>.cpp. `setup`
/// declares its options and sets the callback that runs it and prints a table or, with --json, one
/// JSON object; the callback throws Error for bad options.
struct Bench {
  std::string summary;
  std::function<void(CommandLine& app)> setup;
};

inline Registry<Bench>& benches() {
  static Registry<Bench> registry("bench");
  return registry;
}

/// What benches of single blocks have in common.
struct ColdArguments {
  int64_t cold_mib = 1024;
  int threads = 0, rounds = 100;
  bool json = false;
};
inline void add_cold_options(CommandLine& app, ColdArguments& a) {
  app.add_option("--cold-mib", a.cold_mib, "weights that are rotated, in MiB")
      ->capture_default_str();
  app.add_option("--threads", a.threads, "0: one for each processor")->capture_default_str();
  app.add_option("--rounds", a.rounds, "timed rounds")->capture_default_str();
  app.add_flag("--json", a.json, "one JSON object on stdout");
}

}  // namespace cajal
