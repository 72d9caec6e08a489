#include "cajal/core/machine.h"
#include "cajal/core/torch.h"
#include "verb.h"

namespace cajal {
namespace {

void setup(CLI::App& app, int&) {
  app.callback([] {
    const auto machine = this_machine();
    fmt::print("cajal {}\nprocessor  {} ({} threads)\nlibtorch   {}\n", version(),
               machine.processor, machine.threads, TORCH_VERSION);
  });
}

const auto registered = verbs().add("doctor", {"what this machine and build can do", setup});

}  // namespace
}  // namespace cajal
