// Continues a prompt with any checkpoint: generate MODEL "It was"
#include <cajal/core/error.h>
#include <cajal/models/lm/checkpoint.h>
#include <cajal/models/lm/generate.h>
#include <cajal/text/tokenizer.h>

#include <cstdio>

int main(int argc, char** argv) try {
  cajal::require(argc == 3, "usage: generate MODEL PROMPT");
  const auto folder = cajal::lm::find_model(argv[1]);
  auto model = cajal::lm::load(folder);
  const auto tokenizer = cajal::text::Tokenizer::open(folder);
  const auto ids = cajal::lm::generate(model, tokenizer.encode(argv[2]), 40, {.temperature = 0.8});
  std::puts(tokenizer.decode(ids).c_str());
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}
