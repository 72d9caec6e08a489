#include "cajal/models/judges/rehearsal.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "cajal/core/error.h"
#include "cajal/core/files.h"
#include "cajal/core/timing.h"
#include "cajal/models/judges/evaluate.h"

namespace cajal::judges {
namespace {

constexpr const char *kVariable = "CAJAL_REHEARSAL_KEY", *kKey = "rehearsal-key-not-to-be-found";

data::ChatServer::Answer answers(const SimulatedWorld& world) {
  return [&world](const data::ChatRequest& r) { return world.answer(r).content; };
}

}  // namespace

Rehearsal rehearse(const SimulatedWorld& world, const Network& network,
                   const data::ChatFaults& faults, const std::filesystem::path& cache) {
  require(!std::filesystem::exists(cache), "rehearsal: {} is there already", cache.string());
  ::setenv(kVariable, kKey, 1);
  data::ChatServer server(answers(world), faults);
  data::ChatOptions options;
  options.base_url = server.base_url(), options.key_variable = kVariable, options.cache = cache;
  options.backoff = 0.002, options.attempts = 30;
  Rehearsal out;
  out.pairs = std::ssize(world.pairs());
  {
    data::ChatClient client(options);
    std::atomic<int64_t> calls = 0;
    try {
      evaluate(network, world.pairs(), [&](const data::ChatRequest& r) {
        require(++calls < 4 * out.pairs, "the run is cut off here");
        return client.ask(r);
      });
    } catch (const Error&) {
    }
    out.before = client.usage().calls;
  }
  data::ChatClient client(options);
  const auto traces =
      evaluate(network, world.pairs(), [&](const data::ChatRequest& r) { return client.ask(r); });
  out.scored = std::count_if(traces.begin(), traces.end(),
                             [](const Trace& t) { return t.score1 > 0 && t.score2 > 0; });
  out.calls = client.usage().calls, out.cached = client.usage().cached;
  out.requests = server.requests();
  out.key_kept = read_file(cache, size_t{1} << 30).find(kKey) == std::string::npos;
  for (size_t i = 0; i < traces.size(); ++i)
    out.key_kept &= write_trace(world.pairs()[i], traces[i]).dump().find(kKey) == std::string::npos;
  std::filesystem::remove(cache);
  ::unsetenv(kVariable);
  return out;
}

double pairs_a_second(const SimulatedWorld& world, int64_t pairs, int workers, double delay) {
  require(pairs > 0 && pairs <= std::ssize(world.pairs()), "rehearsal: {} of {} pairs", pairs,
          world.pairs().size());
  data::ChatServer server(answers(world), {.delay = delay});
  data::ChatOptions options;
  options.base_url = server.base_url(), options.key_variable = "", options.concurrency = workers;
  data::ChatClient client(options);
  const Stopwatch watch;
  evaluate(single_judge({Order::forward}),
           std::span(world.pairs()).first(static_cast<size_t>(pairs)),
           [&](const data::ChatRequest& r) { return client.ask(r); }, {.workers = workers});
  return static_cast<double>(pairs) / watch.seconds();
}

}  // namespace cajal::judges
