#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <map>

#include "cajal/core/threads.h"
#include "cajal/core/timing.h"
#include "cajal/data/chat_server.h"
#include "cajal/models/judges/evaluate.h"
#include "cajal/models/judges/simulated.h"
#include "cajal/study/study.h"

namespace {
using namespace cajal;
using namespace cajal::judges;

constexpr Order kForward = Order::forward, kSwapped = Order::swapped;

std::vector<Pair> exchanged(const std::vector<Pair>& pairs) {
  std::vector<Pair> out;
  for (const auto& pair : pairs) out.push_back(swapped(pair));
  return out;
}

/// What one network did in every world, a value a seed.
struct Row {
  study::Figure calls = {}, accuracy = {}, macro_f1 = {}, kappa = {}, flips = {};
  math::Interval interval() const { return math::mean_interval(kappa.values); }
};
CAJAL_OPTIONS(Row, calls, accuracy, macro_f1, kappa, flips)

struct Worlds {
  std::vector<std::unique_ptr<SimulatedWorld>> worlds;
  EvaluateOptions options{.workers = available_processors(), .keep_texts = false};

  Worlds(study::Lab& lab, const SimulatedOptions& how) {
    const int seeds = lab.by_scale(1, 10, 10);
    for (int seed = 0; seed < seeds; ++seed)
      worlds.push_back(std::make_unique<SimulatedWorld>(lab.by_scale(120, 2553, 2553),
                                                        static_cast<uint64_t>(seed), how));
  }

  Row run(const Network& network) const {
    Row row;
    for (size_t s = 0; s < worlds.size(); ++s) {
      const auto& world = *worlds[s];
      const auto traces = evaluate(network, world.pairs(), world.ask(), options);
      const auto anew = [&](data::ChatRequest request) {  // other answers to the same words
        request.sample += 1 << 20;
        return world.answer(request);
      };
      const auto other = evaluate(network, exchanged(world.pairs()), anew, options);
      const auto q = quality(world.pairs(), traces, 1, s);
      row.calls.values.push_back(q.calls), row.accuracy.values.push_back(q.accuracy);
      row.macro_f1.values.push_back(q.macro_f1), row.kappa.values.push_back(q.kappa);
      row.flips.values.push_back(flip_rate(traces, other));
    }
    return row;
  }

  /// With weights of every neuron that a world of its own has taught.
  Network fitted(Network network) const {
    network.readout = Readout::mean;  // while it is being taught
    const SimulatedWorld calibration(std::ssize(worlds[0]->pairs()) / 4, 7777);
    const auto traces = evaluate(network, calibration.pairs(), calibration.ask(), options);
    network.weights = fit_weights(calibration.pairs(), traces);
    network.readout = Readout::learned;
    return network;
  }
};

Network roles() {
  std::vector<Neuron> out;
  for (const auto& [who, angle] :
       {std::pair("You are a member of the public.", "Usefulness"),
        std::pair("You are a critic.", "Accuracy"), std::pair("You are an editor.", "Clarity"),
        std::pair("You are a scientist.", "Completeness")})
    out.push_back({.role = who, .angle = angle});
  return fixed_roles(out, 2);
}

std::string range_text(const math::Interval& i) {
  return fmt::format("{:.3f} to {:.3f}", i.low, i.high);
}

/// Claim 1: width, depth and the baselines in simulated worlds.
void simulated(study::Lab& lab) {
  const Worlds worlds(lab, {});
  std::vector<Network> networks = {single_judge({kForward}), single_judge({kForward, kSwapped}),
                                   single_judge({kForward, kSwapped}, 3), roles()};
  for (const int64_t width : {1, 2, 4, 8})
    for (const int64_t depth : {1, 2, 3}) networks.push_back(wide_deep(width, depth));
  networks.push_back(single_judge({kForward, kSwapped}, 16));  // the calls of 8 x 2
  networks.push_back(wide_deep(16, 1)), networks.push_back(wide_deep(1, 16));
  networks.push_back(wide_deep(8, 2, 0)), networks.back().name += ", all read all";
  for (const auto readout : {Readout::majority, Readout::last_layer}) {
    auto& network = networks.emplace_back(wide_deep(8, 2));
    network.readout = readout, network.name += ", " + to_name(readout);
  }
  networks.push_back(wide_deep(8, 2));
  networks.back().readout = Readout::learned, networks.back().name += ", learned weights";

  auto table = lab.table("networks of simulated judges",
                         {"network", "calls", "accuracy", "macro F1", "kappa", "95 % interval",
                          "verdicts that flip with the order"});
  std::map<std::string, Row> rows;
  for (const auto& network : networks) {
    const auto row = lab.part(network.name, [&] {
      return worlds.run(network.readout == Readout::learned ? worlds.fitted(network) : network);
    });
    table.row(network.name, row.calls, row.accuracy, row.macro_f1, row.kappa,
              range_text(row.interval()), row.flips);
    rows[network.name] = row;
  }
  const auto& narrow = rows["1 x 1"];
  const auto& wide = rows["8 x 2"];
  lab.claim("kappa of 8 x 2 over 1 x 1")
      .paper("0.28 to 0.34")
      .measured(wide.kappa.mean() - narrow.kappa.mean())
      .at_least(0.05);
  lab.claim("their intervals do not overlap")
      .paper("")
      .holds(!wide.interval().overlaps(narrow.interval()));
  lab.claim("what a third layer adds to 8 x 2")
      .paper("nothing")
      .measured(rows["8 x 3"].kappa.mean() - wide.kappa.mean())
      .at_most(0.01);
  lab.claim("kappa of one judge, to which the simulation was tuned")
      .paper("0.28")
      .measured(narrow.kappa)
      .between(0.26, 0.30);

  plot::Lines chart{.title = "kappa of networks of simulated judges",
                    .x = {"width", plot::Spacing::logarithmic},
                    .y = {"kappa"}};
  for (const int64_t depth : {1, 2, 3}) {
    plot::Series line{fmt::format("{} layers", depth), {}, {}};
    for (const int64_t width : {1, 2, 4, 8}) {
      line.x.push_back(static_cast<double>(width));
      line.y.push_back(rows[fmt::format("{} x {}", width, depth)].kappa.mean());
    }
    chart.series.push_back(std::move(line));
  }
  lab.plot(std::move(chart));

  // Judges that nothing moves: a second layer is only a second look.
  const Worlds deaf(lab, {.trust = 0, .herding = 0});
  const auto deep = lab.part("deaf 8 x 2", [&] { return deaf.run(wide_deep(8, 2)); });
  const auto wider = lab.part("deaf 16 x 1", [&] { return deaf.run(wide_deep(16, 1)); });
  auto small =
      lab.table("judges that do not listen", {"network", "calls", "kappa", "95 % interval"});
  small.row("8 x 2", deep.calls, deep.kappa, range_text(deep.interval()));
  small.row("16 x 1", wider.calls, wider.kappa, range_text(wider.interval()));
  lab.claim("without trust 8 x 2 is 16 x 1: their intervals overlap")
      .paper("")
      .holds(deep.interval().overlaps(wider.interval()) || lab.smoke());
}

/// Claim 2: the order of the answers.
void both_orders(study::Lab& lab) {
  const SimulatedWorld world(lab.by_scale(100, 2553, 2553), 3);
  const Neuron calm{.temperature = 0};
  const auto flips = [&](const Network& network) {
    const EvaluateOptions options{.workers = available_processors(), .keep_texts = false};
    return flip_rate(evaluate(network, world.pairs(), world.ask(), options),
                     evaluate(network, exchanged(world.pairs()), world.ask(), options));
  };
  auto table =
      lab.table("verdicts of deterministic judges that flip with the order", {"network", "share"});
  table.row("single judge, one order", flips(single_judge({kForward}, 1, calm)));
  const double both =
      std::max(flips(wide_deep(8, 2, 2, calm)), flips(single_judge({kForward, kSwapped}, 1, calm)));
  table.row("both orders", both);
  lab.claim("flips of deterministic judges in both orders, bias 0.8")
      .paper("")
      .measured(both)
      .at_most(0);
}

/// Claim 4: over HTTP, from a server on a bad day, after a run that died.
void over_http(study::Lab& lab) {
  if (!data::ChatServer::available())
    return lab.not_shown("the client against a faulty server", "this build has no cpp-httplib");
  const SimulatedWorld world(lab.by_scale(20, 300, 600), 5);
  const auto answer = [&](const data::ChatRequest& r) { return world.answer(r).content; };
  data::ChatOptions options;
  options.key_variable = "", options.backoff = 0.002, options.attempts = 30;
  options.cache =
      std::filesystem::temp_directory_path() / fmt::format("cajal-judges-{}", ::getpid());
  const auto network = wide_deep(2, 2);
  {
    data::ChatServer server(answer, {.rate_limited = 0.1, .broken = 0.05, .malformed = 0.05});
    options.base_url = server.base_url();
    int64_t before = 0;
    {
      data::ChatClient client(options);
      std::atomic<int64_t> calls = 0;
      try {
        evaluate(network, world.pairs(), [&](const data::ChatRequest& r) {
          require(++calls < 4 * std::ssize(world.pairs()), "the run is cut off here");
          return client.ask(r);
        });
      } catch (const Error&) {
      }
      before = client.usage().calls;
    }
    data::ChatClient client(options);
    const auto traces =
        evaluate(network, world.pairs(), [&](const data::ChatRequest& r) { return client.ask(r); });
    const auto usage = client.usage();
    const auto scored = std::count_if(traces.begin(), traces.end(),
                                      [](const Trace& t) { return t.score1 > 0 && t.score2 > 0; });
    auto table = lab.table("a run over HTTP with 10 % 429, 5 % 500 and 5 % malformed replies",
                           {"what", "number"});
    table.row("pairs", std::ssize(world.pairs())),
        table.row("replies before it was cut off", before);
    table.row("calls of the second run", usage.calls),
        table.row("of them from the cache", usage.cached);
    table.row("requests sent, both runs", server.requests());
    lab.claim("pairs scored")
        .paper("")
        .measured(static_cast<double>(scored) / static_cast<double>(traces.size()))
        .at_least(1);
    lab.claim("calls that the second run repeated")
        .paper("")
        .measured(static_cast<double>(before - usage.cached))
        .at_most(0);
    std::filesystem::remove(options.cache);
  }
  options.cache.clear();
  data::ChatServer server(answer, {.delay = 0.1});
  options.base_url = server.base_url(), options.concurrency = 64;
  data::ChatClient client(options);
  const auto rate = [&](int workers, int64_t pairs) {
    const Stopwatch watch;
    evaluate(single_judge({kForward}), std::span(world.pairs()).first(static_cast<size_t>(pairs)),
             [&](const data::ChatRequest& r) { return client.ask(r); }, {.workers = workers});
    return static_cast<double>(pairs) / watch.seconds();
  };
  const double one = rate(1, lab.by_scale(4, 15, 15));
  const double many = rate(64, std::ssize(world.pairs()) / 64 * 64 + (lab.smoke() ? 20 : 0));
  lab.claim("64 requests at once over one at a time, 100 ms each")
      .paper("")
      .measured(many / one)
      .at_least(30);
}

void run(study::Lab& lab) {
  simulated(lab);
  both_orders(lab);
  over_http(lab);
  lab.note(
      "2 x 2 by hand, wiring edge by edge, order of completion, kappa to 1e-12 and the key in "
      "no log: tests/models/judges_test.cpp, tests/math/agreement_test.cpp, "
      "tests/data/chat_test.cpp");
  lab.not_shown("kappa 0.34 of gpt-3.5 on LLMEval2",
                "the models are retired and the set is not public");
  lab.not_shown("4.6 times as fast, 93 % agreement of people",
                "needs people; cajal judge assist logs it");
}

const auto registered = study::add({.slug = "wide-deep-evaluator"}, run);
}  // namespace
