#include <CLI/CLI.hpp>

#include "cajal/core/error.h"
#include "cajal/core/machine.h"
#include "verb.h"

int main(int argc, char** argv) {
  CLI::App app("See every neuron. Run only the ones that matter.", "cajal");
  app.set_version_flag("--version", cajal::version());
  app.require_subcommand(1);
  int exit_code = 0;
  for (const auto& [name, verb] : cajal::verbs().entries()) {
    auto* sub = app.add_subcommand(name, verb.summary);
    verb.setup(*sub, exit_code);
  }
  try {
    app.parse(argc, argv);
    return exit_code;
  } catch (const CLI::Success& done) {
    return app.exit(done);  // --help, --version
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "cajal: {}; see cajal --help\n", error.what());
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "cajal: out of memory\n");
  } catch (const std::exception& error) {
    // A deeper library's message may run over many lines; the first one says what was wrong.
    const std::string message = error.what();
    fmt::print(stderr, "cajal: {}\n", message.substr(0, message.find('\n')));
  }
  return 2;
}
