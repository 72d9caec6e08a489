// Feeds damaged files to every reader: each must succeed or throw cajal::Error, whatever it is
// given. The n-th input of a reader is the same on every machine, so a failure is found again by
// its number.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>

#include "cajal/core/error.h"
#include "cajal/core/files.h"
#include "cajal/core/timing.h"
#include "fuzz/mutate.h"
#include "fuzz/readers.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
// A small file that asks for much memory is a failure too.
extern "C" const char* __asan_default_options() {
  return "max_allocation_size_mb=512:detect_stack_use_after_return=1";
}
#endif

namespace {

namespace fs = std::filesystem;

char current[256];  // how to repeat the run, for when the process dies in it

std::vector<std::string> seeds_of(const std::string& reader) {
  const fs::path folder = fs::path(CAJAL_TEST_GOLDEN) / "corpus" / reader;
  std::vector<fs::path> paths;
  if (fs::exists(folder))
    for (const auto& entry : fs::directory_iterator(folder)) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> seeds;
  for (const auto& path : paths) seeds.push_back(cajal::read_file(path));
  cajal::require(!seeds.empty(), "{}: no seeds", folder.string());
  return seeds;
}

uint64_t stream_of(const std::string& reader) {
  uint64_t hash = 14695981039346656037u;  // FNV-1a
  for (const unsigned char c : reader) hash = (hash ^ c) * 1099511628211u;
  return hash;
}

/// Whether the reader took the input; a copy of exactly its size lets the sanitizer see its ends.
bool takes(const fuzz::Reader& reader, const std::string& input) {
  const auto copy = std::make_unique<std::byte[]>(input.size());
  std::memcpy(copy.get(), input.data(), input.size());
  try {
    reader.read({copy.get(), input.size()});
  } catch (const cajal::Error&) {
    return false;
  }
  return true;
}

/// Runs until `runs` are done or `seconds` are over.
void run(const fuzz::Reader& reader, uint64_t first, uint64_t runs, double seconds) {
  const auto seeds = seeds_of(reader.name);
  for (const auto& seed : seeds)
    cajal::require(takes(reader, seed), "{}: a seed of its corpus is refused", reader.name);
  const cajal::Stopwatch watch;
  uint64_t done = 0, taken = 0;
  for (; done < runs && watch.seconds() < seconds; ++done) {
    std::snprintf(current, sizeof current, "fuzz --reader %s --first %llu --runs 1",
                  reader.name.c_str(), static_cast<unsigned long long>(first + done));
    cajal::Random random(first + done, stream_of(reader.name));
    taken += takes(reader, fuzz::mutate(seeds, random));
  }
  fmt::print("{:<16} {:>8} inputs, {:>7} taken, {:.1f} s\n", reader.name, done, taken,
             watch.seconds());
}

void say_how_to_repeat() { std::fprintf(stderr, "\nagain: %s\n", current); }

}  // namespace

int main(int count, char** arguments) {
  std::string only;
  uint64_t first = 0, runs = UINT64_MAX;
  double seconds = 12;
  CLI::App app{"feeds damaged files to the readers"};
  app.add_option("--reader", only, "this reader alone");
  app.add_option("--first", first, "number of the first input");
  app.add_option("--runs", runs, "inputs for each reader");
  app.add_option("--seconds", seconds, "time for all readers");
  CLI11_PARSE(app, count, arguments);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_set_death_callback(say_how_to_repeat);
#endif
  const double share =
      only.empty() ? seconds / static_cast<double>(fuzz::readers().size()) : seconds;
  try {
    for (const auto& reader : fuzz::readers())
      if (only.empty() || only == reader.name) run(reader, first, runs, share);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    say_how_to_repeat();
    return 1;
  }
  return 0;
}
