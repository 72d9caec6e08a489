#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "cajal/core/error.h"
#include "verb.h"

namespace cajal {
namespace {

/// Becomes the program cajal-studies that lies beside this one: the studies are built apart, so
/// that nobody waits for them who only wants to run a model.
void run_studies(const std::vector<std::string>& arguments) {
  std::error_code failure;
  const auto program =
      std::filesystem::read_symlink("/proc/self/exe", failure).parent_path() / "cajal-studies";
  require(!failure && std::filesystem::exists(program),
          "{} is not built; run `./cajal study ...` in the source tree, which builds it",
          program.string());
  std::vector<char*> argv = {const_cast<char*>("cajal-studies")};
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  fail("{}: cannot be run: {}", program.string(), std::strerror(errno));
}

void setup(CLI::App& app, int&) {
  app.prefix_command();  // everything after `study` belongs to cajal-studies
  app.set_help_flag();   // --help, too
  app.callback([&app] { run_studies(app.remaining()); });
}

const auto registered =
    verbs().add("study", {"the published systems: list, run SLUG, report", setup});

}  // namespace
}  // namespace cajal
