#include "command_line.h"

#include <CLI/CLI.hpp>
#include <deque>
#include <filesystem>

#include "cajal/core/error.h"

namespace cajal {
namespace {

CLI::Option* of(void* option) { return static_cast<CLI::Option*>(option); }

}  // namespace

struct CommandLine::Parser {
  std::unique_ptr<CLI::App> owned;  // of the whole program
  CLI::App* app;
  std::deque<CommandOption> options;  // deques: callers point into them
  std::deque<CommandLine> verbs;

  CommandOption* keep(CLI::Option* option) { return &options.emplace_back(option); }
};

CommandOption* CommandOption::required() { return of(option_)->required(), this; }
CommandOption* CommandOption::capture_default_str() {
  return of(option_)->capture_default_str(), this;
}
CommandOption* CommandOption::delimiter(char between) {
  return of(option_)->delimiter(between), this;
}
CommandOption* CommandOption::expected(int least, int most) {
  return of(option_)->expected(least, most), this;
}
CommandOption* CommandOption::between(int64_t low, int64_t high) {
  return of(option_)->check(CLI::Range(low, high)), this;
}
CommandOption* CommandOption::positive() { return of(option_)->check(CLI::PositiveNumber), this; }
CommandOption* CommandOption::not_negative() {
  return of(option_)->check(CLI::NonNegativeNumber), this;
}
CommandOption* CommandOption::one_of(const std::vector<std::string>& values) {
  return of(option_)->check(CLI::IsMember(values)), this;
}
CommandOption* CommandOption::excludes(CommandOption* other) {
  return of(option_)->excludes(of(other->option_)), this;
}
CommandOption* CommandOption::needs(CommandOption* other) {
  return of(option_)->needs(of(other->option_)), this;
}
size_t CommandOption::count() const { return of(option_)->count(); }

CommandLine::CommandLine(const std::string& summary, const std::string& name)
    : parser_(std::make_unique<Parser>()) {
  parser_->owned = std::make_unique<CLI::App>(summary, name);
  parser_->app = parser_->owned.get();
}

CommandLine::CommandLine(void* app) : parser_(std::make_unique<Parser>()) {
  parser_->app = static_cast<CLI::App*>(app);
}

CommandLine::~CommandLine() = default;

template <class T>
CommandOption* CommandLine::add_option(const std::string& name, T& out, const std::string& help) {
  return parser_->keep(parser_->app->add_option(name, out, help));
}

// A type that is missing here shows as an undefined symbol when a program is linked.
#define CAJAL_OPTION_TYPE(...)                                                          \
  template CommandOption* CommandLine::add_option(const std::string&, __VA_ARGS__& out, \
                                                  const std::string&);
CAJAL_OPTION_TYPE(std::string)
CAJAL_OPTION_TYPE(std::filesystem::path)
CAJAL_OPTION_TYPE(int)
CAJAL_OPTION_TYPE(int64_t)
CAJAL_OPTION_TYPE(uint64_t)
CAJAL_OPTION_TYPE(float)
CAJAL_OPTION_TYPE(double)
CAJAL_OPTION_TYPE(std::optional<std::string>)
CAJAL_OPTION_TYPE(std::optional<int64_t>)
CAJAL_OPTION_TYPE(std::optional<double>)
CAJAL_OPTION_TYPE(std::vector<std::string>)
CAJAL_OPTION_TYPE(std::vector<std::filesystem::path>)
CAJAL_OPTION_TYPE(std::vector<int>)
CAJAL_OPTION_TYPE(std::vector<int64_t>)
CAJAL_OPTION_TYPE(std::vector<double>)
#undef CAJAL_OPTION_TYPE

CommandOption* CommandLine::add_flag(const std::string& name, bool& out, const std::string& help) {
  return parser_->keep(parser_->app->add_flag(name, out, help));
}

CommandLine* CommandLine::add_subcommand(const std::string& name, const std::string& summary) {
  return &parser_->verbs.emplace_back(parser_->app->add_subcommand(name, summary));
}

void CommandLine::require_subcommand(int count) { parser_->app->require_subcommand(count); }

void CommandLine::callback(const std::function<void()>& work) { parser_->app->callback(work); }

void CommandLine::set_version_flag(const std::string& version) {
  parser_->app->set_version_flag("--version", version);
}

void CommandLine::pass_on(const std::function<void(const std::vector<std::string>& rest)>& work) {
  parser_->app->prefix_command();
  parser_->app->set_help_flag();
  parser_->app->callback([this, work] { work(parser_->app->remaining()); });
}

std::string CommandLine::help() const { return parser_->app->help(); }

std::optional<int> CommandLine::parse(int count, char** arguments) {
  auto& app = *parser_->app;
  try {
    app.parse(count, arguments);
    return {};
  } catch (const CLI::Success& done) {
    return app.exit(done);  // --help, --version
  } catch (const CLI::ParseError& error) {
    const auto chosen = app.get_subcommands();
    fail("{}; see {} {}--help", error.what(), app.get_name(),
         chosen.empty() ? "" : chosen[0]->get_name() + " ");
  }
}

}  // namespace cajal
