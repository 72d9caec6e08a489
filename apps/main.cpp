#include <csignal>
#include <cstdio>

#include "cajal/core/error.h"
#include "cajal/core/machine.h"
#include "verb.h"

namespace cajal {
namespace {

int run(int argc, char** argv) {
  CommandLine app("See every neuron. Run only the ones that matter.", "cajal");
  app.set_version_flag(version());
  int exit_code = 0;
  for (const auto& [name, verb] : verbs().entries())
    verb.setup(*app.add_subcommand(name, verb.summary), exit_code);
  if (argc < 2) {
    fmt::print(stderr, "{}", app.help());
    return 2;
  }
  if (argv[1][0] != '-') verbs().at(argv[1]);  // names the nearest verb there is
  if (const auto answered = app.parse(argc, argv)) return *answered;
  require(std::fflush(stdout) == 0, "the output could not be written");
  return exit_code;
}

}  // namespace
}  // namespace cajal

int main(int argc, char** argv) {
  // A reader that goes away or a file size limit is an error to report, not a reason to die.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    return cajal::run(argc, argv);
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "cajal: out of memory\n");
  } catch (const std::exception& error) {
    // A deeper library's message may run over many lines; the first one says what was wrong.
    const std::string message = error.what();
    fmt::print(stderr, "cajal: {}\n", message.substr(0, message.find('\n')));
  }
  return 2;
}
