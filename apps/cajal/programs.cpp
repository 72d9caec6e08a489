#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "../verb.h"
#include "cajal/core/error.h"

// Verbs that are programs of their own, so that nobody waits for 65 systems to compile who only
// wants to run, look at or split a model.
namespace cajal {
namespace {

/// Becomes the program `name` that lies beside this one, with `arguments`.
void become(const std::string& name, const std::string& verb,
            const std::vector<std::string>& arguments) {
  std::error_code failure;
  const auto program =
      std::filesystem::read_symlink("/proc/self/exe", failure).parent_path() / name;
  require(!failure && std::filesystem::exists(program),
          "{} is not built; run `./cajal {} ...` in the source tree, which builds it",
          program.string(), verb);
  std::vector<char*> argv = {const_cast<char*>(name.c_str())};
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  fail("{}: cannot be run: {}", program.string(), std::strerror(errno));
}

/// A program takes the arguments of its only verb, or `front` (the verb) and those.
bool add(const std::string& program, const std::string& verb, const std::string& summary,
         const std::vector<std::string>& front = {}) {
  return verbs().add(verb, {summary, [=](CommandLine& app, int&) {
                              app.pass_on([=](const std::vector<std::string>& rest) {
                                auto arguments = front;
                                arguments.insert(arguments.end(), rest.begin(), rest.end());
                                become(program, verb, arguments);
                              });
                            }});
}

const bool registered[] = {
    add("cajal-studies", "study", "the published systems: list, run SLUG, report"),
    add("cajal-layer", "layer", "any registered layer: list, show, run, time", {"layer"}),
    add("cajal-layer", "activation", "the laws of neurons: list, probe", {"activation"}),
};

}  // namespace
}  // namespace cajal
