#include <optional>

#include "bench.h"
#include "cajal/core/machine.h"
#include "cajal/core/timing.h"
#include "cajal/engine/network.h"
#include "cajal/engine/random_model.h"
#include "cajal/kernels/limits.h"
#include "cajal/models/lm/checkpoint.h"
#include "language_model.h"

namespace cajal {
namespace {

struct Options {
  std::string model, shape = "1B", format = "q4_0", cache;
  std::vector<int> threads;
  int64_t prompt = 16, tokens = 8;
  int rounds = 5;
  bool json = false, alone = false;
};

// Decoding one token after another, from the same prompt each time.
class Decoding {
 public:
  Decoding(const engine::Network& network, const Options& o, int threads)
      : network_(network),
        threads_(threads),
        prompt_(static_cast<size_t>(o.prompt), 1),
        tokens_(o.tokens),
        cache_(network.config(), o.prompt + o.tokens,
               o.cache.empty() ? network.cache_format()
                               : from_name<CacheFormat>(o.cache, "--cache")) {}

  double prompt_seconds() {
    const Stopwatch watch;
    cache_.clear();
    network_.forward(prompt_, 1, cache_, threads_);
    return watch.seconds();
  }
  double token_seconds() {
    prompt_seconds();
    const Stopwatch watch;
    const int32_t id = 1;
    for (int64_t i = 0; i < tokens_; ++i) network_.forward({&id, 1}, 1, cache_, threads_);
    return watch.seconds() / static_cast<double>(tokens_);
  }
  int64_t cache_bytes() const { return cache_.bytes(); }

 private:
  const engine::Network& network_;
  ThreadPool threads_;
  std::vector<int32_t> prompt_;
  int64_t tokens_;
  engine::Cache cache_;
};

double libtorch_token_seconds(lm::Transformer& model, const Options& o, int threads) {
  const torch::NoGradGuard no_grad;
  set_torch_threads(threads);
  lm::KeyValueCache cache(model->config);
  lm::Pass pass;
  pass.cache = &cache;
  pass.last_token_only = true;
  model->forward(torch::ones({1, o.prompt}, torch::kLong), pass);
  const auto one = torch::ones({1, 1}, torch::kLong);
  const Stopwatch watch;
  for (int64_t i = 0; i < o.tokens; ++i) model->forward(one, pass);
  return watch.seconds() / static_cast<double>(o.tokens);
}

Json measure(const engine::Network& network, lm::Transformer& torch_model, const Options& o,
             int threads) {
  Decoding decoding(network, o, threads);
  std::vector<double> ours, prompts, theirs, limits;
  ThreadPool pool(threads);
  for (int round = -1; round < o.rounds; ++round) {
    const double prompt = decoding.prompt_seconds(), token = decoding.token_seconds();
    const double libtorch = torch_model ? libtorch_token_seconds(torch_model, o, threads) : 0;
    const double limit = measure_read_bandwidth(pool, size_t{1} << 29, 1);
    if (round < 0) continue;  // warms up
    ours.push_back(token), prompts.push_back(prompt), limits.push_back(limit);
    if (torch_model) theirs.push_back(libtorch);
  }
  const auto bytes = static_cast<double>(network.bytes_per_token());
  const double seconds = median(ours);
  const double limit = *std::max_element(limits.begin(), limits.end());
  Json row = {{"threads", threads},
              {"tokens_per_second", 1 / seconds},
              {"prompt_tokens_per_second", static_cast<double>(o.prompt) / median(prompts)},
              {"bytes_per_token", network.bytes_per_token()},
              {"gigabytes_per_second", bytes / seconds / 1e9},
              {"dram_gigabytes_per_second", limit / 1e9},
              {"share_of_dram", bytes / seconds / limit},
              {"ideal_tokens_per_second", limit / bytes},
              {"cache_bytes", decoding.cache_bytes()}};
  if (torch_model) {
    std::vector<double> ratios;
    for (size_t i = 0; i < ours.size(); ++i) ratios.push_back(theirs[i] / ours[i]);
    row["libtorch_tokens_per_second"] = 1 / median(theirs);
    row["over_libtorch"] = median(ratios);
  }
  return row;
}

void run(const Options& o) {
  require(o.prompt >= 1 && o.tokens >= 1 && o.rounds >= 1,
          "bench decode: --prompt, --tokens and --rounds are positive numbers");
  const Stopwatch watch;
  const auto path = o.model.empty() ? std::filesystem::path() : lm::find_model(o.model);
  auto checkpoint = o.model.empty() ? lm::random_model(lm::shape_config(o.shape),
                                                       from_name<Format>(o.format, "--format"), 0)
                                    : lm::open_checkpoint(path);
  const auto network = engine::Network::open(o.alone ? std::move(checkpoint) : checkpoint);
  const double start = watch.seconds();
  // Before anything else takes memory: the libtorch form, the buffers that measure the DRAM.
  Decoding(network, o, o.threads.front()).token_seconds();
  const int64_t peak = peak_memory_bytes();
  lm::Transformer torch_model{nullptr};
  if (!o.alone) torch_model = lm::load(checkpoint);
  Json json = {{"model", o.model.empty() ? o.shape + " " + o.format : o.model},
               {"weight_bytes", network.bytes()},
               {"open_seconds", start},
               {"rows", Json::array()},
               {"machine", provenance()}};
  for (const int threads : o.threads) {
    json["rows"].push_back(measure(network, torch_model, o, threads));
    if (o.json) continue;
    const auto& row = json["rows"].back();
    fmt::print("{} threads: {:.1f} tokens/s, {} a token, {:.1f} of {:.1f} GB/s ({:.0f} %)", threads,
               row["tokens_per_second"].get<double>(),
               readable_bytes(row["bytes_per_token"].get<int64_t>()),
               row["gigabytes_per_second"].get<double>(),
               row["dram_gigabytes_per_second"].get<double>(),
               100 * row["share_of_dram"].get<double>());
    if (torch_model)
      fmt::print("; libtorch form {:.1f} tokens/s ({:.2f}x)",
                 row["libtorch_tokens_per_second"].get<double>(),
                 row["over_libtorch"].get<double>());
    fmt::print("\n");
  }
  json["peak_memory_bytes"] = peak;
  json["peak_over_weights"] = static_cast<double>(peak) / static_cast<double>(network.bytes());
  if (o.json) return fmt::print("{}\n", json.dump());
  fmt::print("weights {}, opened in {:.1f} ms, peak memory {}\n", readable_bytes(network.bytes()),
             1000 * start, readable_bytes(peak));
}

void setup(CommandLine& app) {
  const auto o = std::make_shared<Options>();
  auto* model = app.add_option("--model", o->model, "checkpoint folder or GGUF file");
  app.add_option("--shape", o->shape, "random weights of this shape: 1B, 100M, tiny")
      ->excludes(model)
      ->capture_default_str();
  app.add_option("--format", o->format, "of the random weights")->capture_default_str();
  app.add_option("--cache", o->cache, "keys and values in f32, f16 or q8");
  app.add_option("--threads", o->threads, "thread counts, as 1,2; else 1 and all")->delimiter(',');
  app.add_option("--prompt", o->prompt, "tokens read before")->capture_default_str();
  app.add_option("--tokens", o->tokens, "tokens decoded in a round")->capture_default_str();
  app.add_option("--rounds", o->rounds, "interleaved with the libtorch form")
      ->capture_default_str();
  app.add_flag("--alone", o->alone, "without the libtorch form");
  app.add_flag("--json", o->json, "print one JSON object");
  app.callback([o] {
    if (o->threads.empty()) o->threads = {1, available_processors()};
    run(*o);
  });
}

const auto registered =
    benches().add("decode", {"tokens a second of a whole model, beside libtorch and DRAM", setup});

}  // namespace
}  // namespace cajal
