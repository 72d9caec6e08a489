#pragma once
#include <cstdint>
#include <filesystem>
#include <string>

#include "cajal/data/chat_server.h"
#include "cajal/models/judges/simulated.h"

/// Whole runs over HTTP on this machine, with simulated judges behind a server: what a client has
/// to outlive before it is let loose on a real endpoint.
namespace cajal::judges {

/// A run that is cut off after some calls, and a second one that goes on from its cache.
struct Rehearsal {
  int64_t pairs = 0, scored = 0;
  int64_t before = 0;             // replies that the first run had
  int64_t calls = 0, cached = 0;  // of the second run; of them from the cache
  int64_t requests = 0;           // that the server got from both
  bool key_kept = false;          // the key is neither in the cache nor in the traces
};
CAJAL_OPTIONS(Rehearsal, pairs, scored, before, calls, cached, requests, key_kept)

/// `cache` is a file that must not exist yet and is removed. Throws Error when this build has no
/// server.
Rehearsal rehearse(const SimulatedWorld& world, const Network& network,
                   const data::ChatFaults& faults, const std::filesystem::path& cache);

/// Pairs a second of a single judge whose replies take `delay` seconds, `workers` pairs at once.
double pairs_a_second(const SimulatedWorld& world, int64_t pairs, int workers, double delay);

}  // namespace cajal::judges
