// Tokenizing English prose: bytes a second on one thread, and a vocabulary's start and training.
// $CAJAL_DATA/classics gives the text; without it a made-up one stands in.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <filesystem>

#include "cajal/core/gzip.h"
#include "cajal/core/random.h"
#include "cajal/text/bpe_trainer.h"
#include "cajal/text/tokenizer.h"

namespace {

using namespace cajal;

constexpr size_t kTextBytes = size_t{8} << 20;

const std::string& prose() {
  static const std::string text = [] {
    const char* data = std::getenv("CAJAL_DATA");
    const auto path = std::filesystem::path(data ? data : "") / "classics/train.txt.xz";
    if (data && std::filesystem::exists(path))
      return read_compressed(path, size_t{1} << 30).substr(0, kTextBytes);
    std::string made;
    for (Random random(1); made.size() < kTextBytes; made += ' ')
      for (uint64_t n = 1 + random.below(9), word = random.below(3000); n > 0; --n, word /= 3)
        made += static_cast<char>('a' + (word + n) % 26);
    return made;
  }();
  return text;
}

const std::string& tokenizer_json() {
  static const std::string json = [] {
    text::BpeTrainer trainer({});
    trainer.add(prose());
    return text::to_tokenizer_json(trainer.train(), trainer.options());
  }();
  return json;
}

void encode(benchmark::State& state) {
  const auto tokenizer = text::Tokenizer::parse(tokenizer_json(), "bench");
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.encode(prose()));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(prose().size()));
}
BENCHMARK(encode)->Unit(benchmark::kMillisecond);

void decode(benchmark::State& state) {
  const auto tokenizer = text::Tokenizer::parse(tokenizer_json(), "bench");
  const auto ids = tokenizer.encode(prose());
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.decode(ids));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(prose().size()));
}
BENCHMARK(decode)->Unit(benchmark::kMillisecond);

void load(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(text::Tokenizer::parse(tokenizer_json(), "bench"));
}
BENCHMARK(load)->Unit(benchmark::kMillisecond);

void train(benchmark::State& state) {
  for (auto _ : state) {
    text::BpeTrainer trainer({});
    trainer.add(prose());
    benchmark::DoNotOptimize(trainer.train());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(prose().size()));
}
BENCHMARK(train)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
