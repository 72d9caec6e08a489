#include "cajal/engine/generate.h"

#include "../verb.h"
#include "cajal/core/timing.h"
#include "cajal/models/lm/generate.h"
#include "language_model.h"

namespace cajal {
namespace {

struct GenerateArguments {
  std::string model, prompt, tokens, cache;
  bool has_prompt = false, json = false, libtorch = false;
  int64_t max_tokens = 128;
  int threads = 0;
  text::SamplingOptions sampling;
};

using Tokenizer = std::optional<text::Tokenizer>;

// Prints text as it becomes certain; ids where there is no tokenizer.
class Printer {
 public:
  Printer(const Tokenizer& tokenizer, bool quiet) : quiet_(quiet) {
    if (tokenizer) decoder_.emplace(*tokenizer);
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

std::vector<int32_t> prompt_ids(const GenerateArguments& arguments, const Tokenizer& tokenizer,
                                const std::string& path) {
  if (!arguments.has_prompt) return parse_ids(arguments.tokens, "--tokens");
  auto ids = need_tokenizer(tokenizer, path).encode(arguments.prompt);
  require(!ids.empty(), "--prompt: no token in it; this model needs at least one to begin with");
  return ids;
}

using Step = std::function<bool(int32_t)>;
using Continue = std::function<std::vector<int32_t>(const std::vector<int32_t>&, const Step&)>;

// The engine where it has every part of the model, else libtorch.
Continue open(const GenerateArguments& arguments, const std::filesystem::path& path) {
  auto checkpoint = lm::open_checkpoint(path);
  if (arguments.libtorch || !engine::can_run(checkpoint)) {
    set_torch_threads(arguments.threads);
    return [&, model = lm::load(path)](const auto& prompt, const Step& step) mutable {
      return lm::generate(model, prompt, arguments.max_tokens, arguments.sampling, step);
    };
  }
  const auto network =
      std::make_shared<const engine::Network>(engine::Network::open(std::move(checkpoint)));
  const auto threads = std::make_shared<ThreadPool>(arguments.threads);
  engine::GenerateOptions options{.max_tokens = arguments.max_tokens,
                                  .sampling = arguments.sampling};
  if (!arguments.cache.empty()) options.cache = from_name<CacheFormat>(arguments.cache, "--cache");
  return [=](const auto& prompt, const Step& step) {
    return engine::generate(*network, prompt, options, *threads, step);
  };
}

void run(const GenerateArguments& arguments) {
  require(arguments.has_prompt || !arguments.tokens.empty(),
          "generate: give --prompt TEXT or --tokens 1,2,3");
  require(arguments.max_tokens >= 0, "--max-tokens is {}, expected 0 or more",
          arguments.max_tokens);
  const auto path = lm::find_model(arguments.model);
  const auto make = open(arguments, path);
  const auto tokenizer = open_tokenizer(path);
  const auto prompt = prompt_ids(arguments, tokenizer, path.string());
  Printer printer(tokenizer, arguments.json);
  for (const int32_t id : prompt) printer.push(id);
  const Stopwatch watch;
  double first = 0;  // seconds until the prompt was read and its first continuation drawn
  const auto ids = make(prompt, [&](int32_t id) {
    if (first == 0) first = watch.seconds();
    printer.push(id);
    return true;
  });
  printer.finish();
  const double seconds = watch.seconds();
  const auto made = static_cast<double>(ids.size() - prompt.size());
  const double rate = made > 1 ? (made - 1) / (seconds - first) : made / seconds;
  if (arguments.json) {
    const auto text = tokenizer ? tokenizer->decode(ids, text::Specials::without) : "";
    fmt::print("{}\n", Json{{"ids", ids},
                            {"text", text},
                            {"prompt_tokens", prompt.size()},
                            {"first_token_seconds", first},
                            {"tokens_per_second", rate}}
                           .dump(-1, ' ', false, Json::error_handler_t::replace));
  } else {
    fmt::print(stderr, "{} tokens, {:.1f} tokens/s; first after {:.3f} s\n", made, rate, first);
  }
}

void setup(CommandLine& app, int&) {
  const auto arguments = std::make_shared<GenerateArguments>();
  auto& sampling = arguments->sampling;
  app.add_option("MODEL", arguments->model,
                 "checkpoint folder, GGUF file, or an embedded model's name")
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
  app.add_option("--cache", arguments->cache,
                 "how keys and values are kept: f32, f16 or q8 (else as the weights are)");
  app.add_flag("--libtorch", arguments->libtorch, "run by libtorch instead of the engine");
  app.add_flag("--json", arguments->json, "print one JSON object");
  app.callback([=] {
    arguments->has_prompt = prompt->count() > 0;
    run(*arguments);
  });
}

const auto registered = verbs().add("generate", {"continues a text", setup});

}  // namespace
}  // namespace cajal
