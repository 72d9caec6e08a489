// Continues a prompt with any checkpoint folder or GGUF file, printing as it goes, without
// libtorch: generate MODEL "It was"
#include <cajal/core/error.h>
#include <cajal/engine/generate.h>
#include <cajal/text/tokenizer.h>

#include <cstdio>

int main(int argc, char** argv) try {
  cajal::require(argc == 3, "usage: generate MODEL PROMPT");
  const auto path = cajal::lm::find_model(argv[1]);
  const auto network = cajal::engine::Network::open(path);
  const auto tokenizer = cajal::text::Tokenizer::open(path);
  cajal::text::StreamDecoder text(tokenizer);
  cajal::ThreadPool threads;
  const auto print = [&](int32_t id) {
    std::fputs(text.push(id).c_str(), stdout);
    std::fflush(stdout);
    return true;  // false would stop
  };
  cajal::engine::generate(network, tokenizer.encode(argv[2]),
                          {.max_tokens = 40, .sampling = {.temperature = 0.8}}, threads, print);
  std::puts(text.finish().c_str());
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}
