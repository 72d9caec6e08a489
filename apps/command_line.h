#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace cajal {

/// One option of a command line, as CommandLine::add_option gives it; it lives as long as that.
class CommandOption {
 public:
  explicit CommandOption(void* option) : option_(option) {}

  CommandOption* required();
  CommandOption* capture_default_str();  // help tells the value that the variable holds now
  CommandOption* delimiter(char between);
  CommandOption* expected(int least, int most);  // values; most < 0: any number
  CommandOption* between(int64_t low, int64_t high);
  CommandOption* positive();
  CommandOption* not_negative();
  CommandOption* one_of(const std::vector<std::string>& values);
  CommandOption* excludes(CommandOption* other);
  CommandOption* needs(CommandOption* other);
  size_t count() const;  // how often it was given

 private:
  void* option_;  // the parser's
};

/// The options of a program or of one of its verbs. The parser, CLI11, is known to command_line.cpp
/// alone: its headers would cost every file that declares options half of its compile time.
class CommandLine {
 public:
  CommandLine(const std::string& summary, const std::string& name);
  explicit CommandLine(void* app);  // of a verb
  ~CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  /// Reads a value of the command line into `out`: text, a path, a number, a list or an optional.
  template <class T>
  CommandOption* add_option(const std::string& name, T& out, const std::string& help = "");
  CommandOption* add_flag(const std::string& name, bool& out, const std::string& help = "");

  CommandLine* add_subcommand(const std::string& name, const std::string& summary);
  void require_subcommand(int count);
  void callback(const std::function<void()>& work);
  void set_version_flag(const std::string& version);

  /// Everything after this verb is left to `rest`, --help too.
  void pass_on(const std::function<void(const std::vector<std::string>& rest)>& work);

  std::string help() const;

  /// Runs the callbacks of what was asked for. Returns an exit code where the answer was --help or
  /// --version; throws Error for a wrong command line.
  std::optional<int> parse(int count, char** arguments);

 private:
  struct Parser;
  std::unique_ptr<Parser> parser_;
};

}  // namespace cajal
