#include <iostream>

#include "../verb.h"
#include "cajal/core/files.h"
#include "cajal/core/progress.h"
#include "cajal/core/timing.h"
#include "cajal/data/chat_server.h"
#include "cajal/models/judges/assist.h"
#include "cajal/models/judges/evaluate.h"
#include "cajal/models/judges/simulated.h"

namespace cajal {
namespace {

using namespace judges;

struct Arguments {
  std::string file, trace, readout = "mean", log;
  int64_t width = 2, depth = 2, window = 2, simulate = 0;
  int workers = 16, port = 0;
  uint64_t seed = 0;
  double temperature = 1, tie_band = 0;
  bool json = false;
  std::string model = "gpt-4o-mini", cache;
  data::ChatOptions chat;
  data::ChatPrice price;
  data::ChatFaults faults;
};

Network network_of(const Arguments& a) {
  auto network =
      wide_deep(a.width, a.depth, a.window, {.model = a.model, .temperature = a.temperature});
  network.readout = from_name<Readout>(a.readout, "--readout");
  require(network.readout != Readout::learned, "--readout learned: weights are fitted in C++");
  network.tie_band = a.tie_band;
  return network;
}

Json summary(const Arguments& a, const std::vector<Pair>& pairs, const std::vector<Trace>& traces,
             const data::ChatUsage& usage, double seconds) {
  const auto q = quality(pairs, traces);
  return {{"network", network_of(a).name},
          {"pairs", pairs.size()},
          {"accuracy", q.accuracy},
          {"macro_f1", q.macro_f1},
          {"kappa", q.kappa},
          {"kappa_interval", {q.kappa_interval.low, q.kappa_interval.high}},
          {"calls_a_pair", q.calls},
          {"unreadable", q.unreadable},
          {"calls", usage.calls},
          {"cached", usage.cached},
          {"requests", usage.requests},
          {"retries", usage.retries},
          {"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"cost", a.price.of(usage)},
          {"seconds", seconds}};
}

void run(Arguments& a) {
  require(a.file.empty() != (a.simulate == 0), "judge run: expected FILE or --simulate N");
  const auto network = network_of(a);
  std::optional<SimulatedWorld> world;
  if (a.simulate > 0) world.emplace(a.simulate, a.seed);
  const auto pairs = world ? world->pairs() : read_pairs(a.file);
  a.chat.cache = a.cache, a.chat.concurrency = a.workers;
  a.chat.notice = [](const std::string& text) { fmt::print(stderr, "{}\n", text); };
  std::optional<data::ChatClient> client;
  if (!world) client.emplace(a.chat);
  const Ask ask =
      world ? world->ask() : Ask([&](const data::ChatRequest& r) { return client->ask(r); });
  Progress progress("judging", std::ssize(pairs), "pairs");
  const Stopwatch watch;
  const auto traces =
      evaluate(network, pairs, ask,
               {.workers = a.workers, .progress = [&](int64_t done) { progress.set(done); }});
  if (!a.trace.empty()) {
    AtomicFile file(a.trace);
    for (size_t i = 0; i < pairs.size(); ++i)
      file.write(
          write_trace(pairs[i], traces[i]).dump(-1, ' ', false, Json::error_handler_t::replace) +
          "\n");
    file.commit();
  }
  const auto json =
      summary(a, pairs, traces, client ? client->usage() : data::ChatUsage{}, watch.seconds());
  if (a.json) return fmt::print("{}\n", json.dump());
  for (const auto& [name, value] : json.items())
    fmt::print("{:<18} {}\n", name, value.is_string() ? value.get<std::string>() : value.dump());
}

void mock(const Arguments& a) {
  const SimulatedWorld world(a.simulate > 0 ? a.simulate : 2553, a.seed);
  data::ChatServer server(
      [&](const data::ChatRequest& request) { return world.answer(request).content; }, a.faults,
      a.port);
  if (!a.file.empty()) {
    AtomicFile file(a.file);
    for (const auto& pair : world.pairs())
      file.write(Json({{"query", pair.query},
                       {"response1", pair.response1},
                       {"response2", pair.response2},
                       {"human", static_cast<int>(pair.human)},
                       {"dataset", pair.dataset}})
                     .dump() +
                 "\n");
    file.commit();
  }
  fmt::print("{}\n", server.base_url());
  std::fflush(stdout);
  server.wait();
}

void setup_run(CommandLine& app) {
  auto a = std::make_shared<Arguments>();
  app.add_option("FILE", a->file,
                 "pairs, a JSON object a line: query, response1, response2, human");
  app.add_option("--simulate", a->simulate, "so many simulated pairs and judges instead");
  app.add_option("--seed", a->seed, "of the simulation")->capture_default_str();
  app.add_option("--endpoint", a->chat.base_url, "base URL of the chat model")
      ->capture_default_str();
  app.add_option("--model", a->model, "its name there")->capture_default_str();
  app.add_option("--key-variable", a->chat.key_variable, "environment variable that holds the key")
      ->capture_default_str();
  app.add_option("--cache", a->cache, "file of replies, from which a killed run goes on");
  app.add_option("--trace", a->trace, "file that everything said is written to");
  app.add_option("--width", a->width, "reviewers; 0 = as many as there are angles")
      ->capture_default_str();
  app.add_option("--depth", a->depth, "layers")->capture_default_str();
  app.add_option("--window", a->window, "reads neighbours nearer than this; 0 = all")
      ->capture_default_str();
  app.add_option("--readout", a->readout, "mean, last_layer or majority")->capture_default_str();
  app.add_option("--tie-band", a->tie_band, "a tie where scores differ by no more")
      ->capture_default_str();
  app.add_option("--temperature", a->temperature)->capture_default_str();
  app.add_option("--workers", a->workers, "pairs, and requests, at once")->capture_default_str();
  app.add_option("--attempts", a->chat.attempts, "of a request")->capture_default_str();
  app.add_option("--timeout", a->chat.timeout, "seconds of an attempt")->capture_default_str();
  app.add_option("--backoff", a->chat.backoff, "seconds before the second attempt")
      ->capture_default_str();
  app.add_option("--prompt-price", a->price.prompt, "of a million tokens");
  app.add_option("--completion-price", a->price.completion, "of a million tokens");
  app.add_flag("--json", a->json, "one JSON object on stdout");
  app.callback([a] { run(*a); });
}

void setup_mock(CommandLine& app) {
  auto a = std::make_shared<Arguments>();
  app.add_option("--pairs", a->simulate, "of the simulated world (2553)");
  app.add_option("--seed", a->seed)->capture_default_str();
  app.add_option("--port", a->port, "0 = any")->capture_default_str();
  app.add_option("--write", a->file, "file for the pairs");
  app.add_option("--delay", a->faults.delay, "seconds before every answer");
  app.add_option("--rate-limited", a->faults.rate_limited, "share of 429");
  app.add_option("--broken", a->faults.broken, "share of 500");
  app.add_option("--malformed", a->faults.malformed, "share of replies that are no JSON");
  app.add_option("--cut-off", a->faults.cut_off, "share of bodies that end early");
  app.add_option("--lying", a->faults.lying, "share of JSON that is no reply");
  app.add_option("--stalled", a->faults.stalled, "share without an answer in time");
  app.callback([a] { mock(*a); });
}

void setup_assist(CommandLine& app) {
  auto a = std::make_shared<Arguments>();
  app.add_option("TRACE", a->file, "from cajal judge run --trace")->required();
  app.add_option("--log", a->log, "file that decisions are appended to")->required();
  app.add_flag("--json", a->json, "the summary as one JSON object on stdout");
  app.callback([a] {
    const auto result = assist(a->file, a->log, std::cin, std::cerr);
    if (a->json) return fmt::print("{}\n", write_assisted(result).dump());
    fmt::print("{}", assisted_text(result));
  });
}

void setup(CommandLine& app, int&) {
  app.require_subcommand(1);
  setup_run(*app.add_subcommand("run", "judge pairs of answers by a network of chat models"));
  setup_mock(*app.add_subcommand("mock", "serve a simulated chat model on the loopback"));
  setup_assist(*app.add_subcommand("assist", "show reviews to a person and log what they decide"));
}

const auto registered =
    verbs().add("judge", {"which of two answers is better, by a network of chat models", setup});

}  // namespace
}  // namespace cajal
