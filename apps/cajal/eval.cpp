#include "../verb.h"
#include "cajal/core/timing.h"
#include "cajal/data/text.h"
#include "cajal/models/lm/adapted.h"
#include "cajal/models/lm/generate.h"
#include "cajal/models/lm/summary.h"
#include "language_model.h"

namespace cajal {
namespace {

// Longer windows only where they are asked for: attention takes their square.
constexpr int64_t kUsualContext = 1024;

struct EvalArguments {
  std::string model, text;
  int64_t context = 0, batch = 8;
  int threads = 0;
  bool json = false;
};

void run_adapted(const EvalArguments& arguments) {
  set_torch_threads(arguments.threads);
  auto model = lm::load_adapted(arguments.model);
  const auto text = data::read_text(arguments.text);
  const auto tokenizer = text::Tokenizer::open(arguments.model);
  const auto ids = tokenizer.encode(text);
  require(ids.size() >= 2, "{}: {} tokens, expected at least 2", arguments.text, ids.size());
  const int64_t context =
      arguments.context > 0 ? arguments.context : std::min(kUsualContext, model->context());
  const auto first = tokenizer.decode(std::span(ids).first(1), text::Specials::without).size();
  const auto bytes = static_cast<int64_t>(text.size() - std::min(text.size() - 1, first));
  const auto result = lm::evaluate(model, ids, bytes, context, arguments.batch);
  const Json json = {{"loss", result.loss()},
                     {"perplexity", result.perplexity()},
                     {"bits_per_byte", result.bits_per_byte()},
                     {"tokens", result.tokens},
                     {"bytes", result.bytes},
                     {"context", context},
                     {"adapters", options::write(model->options)},
                     {"seconds", result.seconds},
                     {"tokens_per_second", static_cast<double>(result.tokens) / result.seconds},
                     {"peak_memory_bytes", peak_memory_bytes()}};
  if (arguments.json) return fmt::print("{}\n", json.dump());
  fmt::print("loss             {:.4f} nats a token\n", result.loss());
  fmt::print("perplexity       {:.3f}\n", result.perplexity());
  fmt::print("bits per byte    {:.4f}\n", result.bits_per_byte());
  fmt::print("speed            {:.0f} tokens/s, with adapters\n",
             static_cast<double>(result.tokens) / result.seconds);
}

void run(const EvalArguments& arguments) {
  if (lm::has_adapters(arguments.model)) return run_adapted(arguments);
  auto opened = open_language_model(arguments.model, arguments.threads);
  const auto text = data::read_text(arguments.text);
  const auto ids = opened.need_tokenizer().encode(text);
  require(ids.size() >= 2, "{}: {} tokens, expected at least 2", arguments.text, ids.size());
  const int64_t context = arguments.context > 0
                              ? arguments.context
                              : std::min(kUsualContext, opened.model->config.context);
  // The first token is only read; the bytes it stands for are not predicted.
  const auto unpredicted = opened.text_of(std::span(ids).first(1)).size();
  const auto bytes = static_cast<int64_t>(text.size() - std::min(text.size() - 1, unpredicted));
  const auto result = lm::evaluate(opened.model, ids, bytes, context, arguments.batch);
  const auto summary = lm::summarise(opened.model);
  const Json json = {{"loss", result.loss()},
                     {"perplexity", result.perplexity()},
                     {"bits_per_byte", result.bits_per_byte()},
                     {"tokens", result.tokens},
                     {"bytes", result.bytes},
                     {"context", context},
                     {"seconds", result.seconds},
                     {"tokens_per_second", static_cast<double>(result.tokens) / result.seconds},
                     {"bytes_per_token", summary.bytes_per_token},
                     {"peak_memory_bytes", peak_memory_bytes()}};
  if (arguments.json) return fmt::print("{}\n", json.dump());
  fmt::print("loss             {:.4f} nats a token\n", result.loss());
  fmt::print("perplexity       {:.3f}\n", result.perplexity());
  fmt::print("bits per byte    {:.4f}\n", result.bits_per_byte());
  fmt::print("tokens           {} in windows of {} ({} bytes)\n", result.tokens, context,
             result.bytes);
  fmt::print("speed            {:.0f} tokens/s\n",
             static_cast<double>(result.tokens) / result.seconds);
  fmt::print("read per token   {}\n", readable_bytes(summary.bytes_per_token));
  fmt::print("peak memory      {}\n", readable_bytes(peak_memory_bytes()));
}

void setup(CommandLine& app, int&) {
  const auto arguments = std::make_shared<EvalArguments>();
  app.add_option("MODEL", arguments->model,
                 "checkpoint folder, GGUF file, or an embedded model's name")
      ->required();
  app.add_option("--text", arguments->text, "text to predict: a file (.gz, .xz) or a corpus")
      ->required();
  app.add_option("--context", arguments->context,
                 "tokens of a window; 0: the model's context, at most 1024")
      ->not_negative();
  app.add_option("--batch", arguments->batch, "windows at a time")->capture_default_str();
  app.add_option("--threads", arguments->threads, "0: all that this process may use")
      ->capture_default_str();
  app.add_flag("--json", arguments->json, "print one JSON object");
  app.callback([=] { run(*arguments); });
}

const auto registered =
    verbs().add("eval", {"loss, perplexity and bits per byte of a text", setup});

}  // namespace
}  // namespace cajal
