#pragma once
#include <string>
#include <vector>

#include "cajal/core/json.h"

namespace cajal {

struct Machine {
  std::string processor;  // marketing name
  int threads = 0;        // processors that this process may use
  int64_t memory_bytes = 0;
  std::vector<std::string> simd;  // instruction sets that matter here, e.g. "avx512f", "amx_int8"
};

/// This machine, read from the system.
Machine this_machine();

/// Version of this build and the git revision it was built from, e.g. "0.1.0 (1a2b3c4)".
std::string version();

/// The linker's fingerprints of this program and of the libraries of this project that it has
/// loaded: equal only for the same code.
std::string program_identity();

/// What a result must carry to be compared: version, machine, threads.
Json provenance();

}  // namespace cajal
