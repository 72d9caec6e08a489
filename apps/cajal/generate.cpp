#include "cajal/models/lm/generate.h"

#include "cajal/core/timing.h"
#include "language_model.h"
#include "verb.h"

namespace cajal {
namespace {

struct GenerateArguments {
  std::string model, prompt, tokens;
  bool has_prompt = false, json = false;
  int64_t max_tokens = 128;
  int threads = 0;
  text::SamplingOptions sampling;
};

// Prints text as it becomes certain; ids where there is no tokenizer.
class Printer {
 public:
  Printer(const LanguageModel& opened, bool quiet) : quiet_(quiet) {
    if (opened.tokenizer) decoder_.emplace(*opened.tokenizer);
  }

  void push(int32_t id) {
    if (quiet_) return;
    fmt::print("{}", decoder_ ? decoder_->push(id) : fmt::format("{}{}", first_ ? "" : ",", id));
    first_ = false;
    std::fflush(stdout);
  }
  void finish() {
    if (!quiet_) fmt::print("{}\n", decoder_ ? decoder_->finish() : "");
  }

 private:
  bool quiet_, first_ = true;
  std::optional<text::StreamDecoder> decoder_;
};

std::vector<int32_t> prompt_ids(const GenerateArguments& arguments, const LanguageModel& opened) {
  if (!arguments.has_prompt) return parse_ids(arguments.tokens, "--tokens");
  auto ids = opened.need_tokenizer().encode(arguments.prompt);
  require(!ids.empty(), "--prompt: no token in it; this model needs at least one to begin with");
  return ids;
}

void run(const GenerateArguments& arguments) {
  require(arguments.has_prompt || !arguments.tokens.empty(),
          "generate: give --prompt TEXT or --tokens 1,2,3");
  require(arguments.max_tokens >= 0, "--max-tokens is {}, expected 0 or more",
          arguments.max_tokens);
  auto opened = open_language_model(arguments.model, arguments.threads);
  const auto prompt = prompt_ids(arguments, opened);
  Printer printer(opened, arguments.json);
  for (const int32_t id : prompt) printer.push(id);
  const Stopwatch watch;
  double first = 0;  // seconds until the prompt was read and its first continuation drawn
  const auto ids =
      lm::generate(opened.model, prompt, arguments.max_tokens, arguments.sampling, [&](int32_t id) {
        if (first == 0) first = watch.seconds();
        printer.push(id);
        return true;
      });
  printer.finish();
  const double seconds = watch.seconds();
  const auto made = static_cast<double>(ids.size() - prompt.size());
  const double rate = made > 1 ? (made - 1) / (seconds - first) : made / seconds;
  if (arguments.json) {
    fmt::print("{}\n", Json{{"ids", ids},
                            {"text", opened.text_of(ids)},
                            {"prompt_tokens", prompt.size()},
                            {"first_token_seconds", first},
                            {"tokens_per_second", rate}}
                           .dump(-1, ' ', false, Json::error_handler_t::replace));
  } else {
    fmt::print(stderr, "{} tokens, {:.1f} tokens/s; first after {:.3f} s\n", made, rate, first);
  }
}

void setup(CLI::App& app, int&) {
  const auto arguments = std::make_shared<GenerateArguments>();
  auto& sampling = arguments->sampling;
  app.add_option("MODEL", arguments->model, "checkpoint folder, or an embedded model's name")
      ->required();
  auto* prompt = app.add_option("--prompt", arguments->prompt, "text to continue");
  app.add_option("--tokens", arguments->tokens, "token ids to continue, as 1,2,3")
      ->excludes(prompt);
  app.add_option("--max-tokens", arguments->max_tokens, "new tokens at most")
      ->capture_default_str();
  app.add_option("--temperature", sampling.temperature, "0: always the likeliest token")
      ->capture_default_str();
  app.add_option("--top-k", sampling.top_k, "draw from the k likeliest tokens; 0: all")
      ->capture_default_str();
  app.add_option("--top-p", sampling.top_p, "draw from the likeliest tokens of this probability")
      ->capture_default_str();
  app.add_option("--seed", sampling.seed, "of the draws")->capture_default_str();
  app.add_option("--threads", arguments->threads, "0: all that this process may use")
      ->capture_default_str();
  app.add_flag("--json", arguments->json, "print one JSON object");
  app.callback([=] {
    arguments->has_prompt = prompt->count() > 0;
    run(*arguments);
  });
}

const auto registered = verbs().add("generate", {"continues a text", setup});

}  // namespace
}  // namespace cajal
