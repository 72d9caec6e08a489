#include <unistd.h>

#include <array>
#include <charconv>
#include <filesystem>
#include <iostream>

#include "../verb.h"
#include "cajal/core/error.h"
#include "cajal/core/gzip.h"
#include "cajal/core/timing.h"
#include "cajal/data/text.h"
#include "cajal/text/bpe_trainer.h"
#include "cajal/text/tokenizer.h"

namespace cajal {
namespace {

constexpr size_t kMaxTextBytes = size_t{4} << 30;

struct TokenizeArguments {
  std::string folder;
  std::string text, file, decode;
  bool has_text = false, has_decode = false;
  bool json = false, no_special = false, special = false, plain = false;
  std::string train, output;
  int64_t vocabulary = 8192;
};

std::string read_standard_input() {
  std::string text;
  std::array<char, 1 << 16> buffer;
  while (const auto got = ::read(STDIN_FILENO, buffer.data(), buffer.size())) {
    require(got > 0, "standard input: cannot be read");
    text.append(buffer.data(), static_cast<size_t>(got));
    require(text.size() <= kMaxTextBytes, "standard input: more than {} bytes", kMaxTextBytes);
  }
  return text;
}

// "1,2,3", each the id of a token.
std::vector<int32_t> parse_ids(const std::string& list, const text::Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  for (size_t at = 0; at <= list.size() && !list.empty();) {
    const size_t end = std::min(list.find(',', at), list.size());
    std::string_view number(list.data() + at, end - at);
    while (number.starts_with(' ')) number.remove_prefix(1);
    while (number.ends_with(' ')) number.remove_suffix(1);
    int64_t id = 0;
    const auto [stop, error] = std::from_chars(number.begin(), number.end(), id);
    require(error == std::errc() && stop == number.end(),
            "--decode: '{}' is not an id; expected whole numbers with commas between them", number);
    require(tokenizer.contains(id), "--decode: no token has id {}; ids are 0 to {}", id,
            tokenizer.size() - 1);
    ids.push_back(static_cast<int32_t>(id));
    at = end + 1;
  }
  return ids;
}

void print_tokens(const std::vector<text::Token>& tokens, bool json) {
  std::vector<int32_t> ids;
  Json texts = Json::array();
  for (const auto& token : tokens) {
    ids.push_back(token.id);
    texts.push_back(token.text);
  }
  if (json) {
    fmt::print("{}\n", Json{{"ids", ids}, {"tokens", texts}}.dump());
    return;
  }
  for (size_t i = 0; i < tokens.size(); ++i) fmt::print("{:>7}  {}\n", ids[i], texts[i].dump());
  fmt::print(stderr, "{} tokens\n", tokens.size());
}

void train(const TokenizeArguments& arguments) {
  require(!arguments.output.empty(), "--train needs --output DIR, a new folder");
  const text::BpeTrainerOptions options{.vocabulary = arguments.vocabulary};
  text::BpeTrainer trainer(options);
  const Stopwatch watch;
  trainer.add(data::read_text(arguments.train));
  const auto trained = trainer.train();
  text::write_tokenizer(arguments.output, trained, options);
  fmt::print(stderr, "{} tokens from {} different words in {:.1f} s\n", trained.tokens.size(),
             trainer.words(), watch.seconds());
  if (arguments.json)
    fmt::print("{}\n", Json{{"vocabulary", trained.tokens.size()},
                            {"merges", trained.merges.size()},
                            {"words", trainer.words()},
                            {"output", arguments.output}}
                           .dump());
}

void tokenize(const TokenizeArguments& arguments) {
  if (!arguments.train.empty()) return train(arguments);
  require(!arguments.folder.empty(), "tokenize: name a folder with a tokenizer, or --train FILE");
  const auto tokenizer = text::Tokenizer::open(arguments.folder);
  if (arguments.has_decode) {
    const auto text =
        tokenizer.decode(parse_ids(arguments.decode, tokenizer),
                         arguments.special ? text::Specials::with : text::Specials::without);
    fmt::print("{}\n", arguments.json ? Json{{"text", text}}.dump() : text);
    return;
  }
  const std::string text = arguments.has_text ? arguments.text
                           : !arguments.file.empty()
                               ? read_compressed(arguments.file, kMaxTextBytes)
                               : read_standard_input();
  const auto specials = arguments.no_special ? text::Specials::without : text::Specials::with;
  const auto written = arguments.plain ? text::Written::text : text::Written::tokens;
  print_tokens(tokenizer.encode_tokens(text, specials, written), arguments.json);
}

void setup(CommandLine& app, int&) {
  auto arguments = std::make_shared<TokenizeArguments>();
  app.add_option("DIR", arguments->folder, "folder of the tokenizer, or its file (GGUF too)");
  auto* text = app.add_option("--text", arguments->text, "text to encode");
  auto* file = app.add_option("--file", arguments->file,
                              "file to encode (.gz and .xz are unpacked); else standard input");
  auto* decode = app.add_option("--decode", arguments->decode, "ids to decode, as 1,2,3");
  text->excludes(file)->excludes(decode);
  file->excludes(decode);
  app.add_flag("--no-special", arguments->no_special, "no special tokens around the text")
      ->excludes(decode);
  app.add_flag("--plain", arguments->plain, "special tokens in the text are text like any other")
      ->excludes(decode);
  app.add_flag("--special", arguments->special, "write special tokens in the decoded text")
      ->needs(decode);
  app.add_flag("--json", arguments->json, "print one JSON object");
  auto* train =
      app.add_option("--train", arguments->train, "learn a vocabulary from this file or corpus");
  app.add_option("--vocabulary", arguments->vocabulary, "tokens to learn")
      ->needs(train)
      ->capture_default_str();
  app.add_option("--output", arguments->output, "new folder for what was learned")->needs(train);
  app.callback([=] {
    arguments->has_text = text->count() > 0;
    arguments->has_decode = decode->count() > 0;
    tokenize(*arguments);
  });
}

const auto registered = verbs().add("tokenize", {"text to token ids and back", setup});

}  // namespace
}  // namespace cajal
