#include "bench.h"

#include "../verb.h"

namespace cajal {
namespace {

void setup(CommandLine& app, int&) {
  app.require_subcommand(1);
  for (const auto& [name, bench] : benches().entries())
    bench.setup(*app.add_subcommand(name, bench.summary));
}

const auto registered =
    verbs().add("bench", {"time parts of the engine beside their dense forms and libtorch", setup});

}  // namespace
}  // namespace cajal
