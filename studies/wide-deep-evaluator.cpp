#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "cajal/models/judges/assist.h"
#include "cajal/models/judges/rehearsal.h"
#include "cajal/models/judges/simulated_worlds.h"
#include "cajal/study/study.h"

namespace {
using namespace cajal;
using namespace cajal::judges;
using study::Figure;

constexpr Order kForward = Order::forward, kSwapped = Order::swapped;

/// A judge with a discussion of fixed roles, as ChatEval's.
Network roles() {
  std::vector<Neuron> out;
  for (const auto& [who, angle] :
       {std::pair("You are a member of the public.", "Usefulness"),
        std::pair("You are a critic.", "Accuracy"), std::pair("You are an editor.", "Clarity"),
        std::pair("You are a scientist.", "Completeness")})
    out.push_back({.role = who, .angle = angle});
  return fixed_roles(out, 2);
}

std::vector<Network> networks() {
  std::vector<Network> out = {single_judge({kForward}), single_judge({kForward, kSwapped}),
                              single_judge({kForward, kSwapped}, 3), roles()};
  for (const int64_t width : {1, 2, 4, 8})
    for (const int64_t depth : {1, 2, 3}) out.push_back(wide_deep(width, depth));
  out.push_back(single_judge({kForward, kSwapped}, 16));  // the calls of 8 x 2
  out.push_back(wide_deep(16, 1)), out.push_back(wide_deep(1, 16));
  out.push_back(wide_deep(8, 2, 0)), out.back().name += ", all read all";
  for (const auto readout : {Readout::majority, Readout::last_layer, Readout::learned}) {
    auto& network = out.emplace_back(wide_deep(8, 2));
    network.readout = readout, network.name += ", " + to_name(readout);
  }
  return out;
}

/// Works when 1: width, depth and the baselines in simulated worlds.
void simulated(study::Lab& lab) {
  const int seeds = lab.by_scale(1, 10, 10);
  const int64_t pairs = lab.by_scale(120, 2553, 2553);
  const SimulatedWorlds worlds(seeds, pairs);
  auto table = lab.table("networks of simulated judges",
                         {"network", "calls", "accuracy", "macro F1", "kappa", "95 % interval",
                          "verdicts that flip with the order"});
  std::map<std::string, WorldScores> all;
  for (const auto& network : networks()) {
    const auto row = lab.part(network.name, [&] {
      return worlds.run(network.readout == Readout::learned ? worlds.taught(network) : network);
    });
    table.row(network.name, Figure(row.calls), Figure(row.accuracy), Figure(row.macro_f1),
              Figure(row.kappa), row.interval_text(), Figure(row.flips));
    all[network.name] = row;
  }
  const auto kappa = [&](const std::string& name) { return Figure(all[name].kappa); };
  lab.claim("kappa of 8 x 2 over 1 x 1")
      .paper("0.28 to 0.34")
      .measured(kappa("8 x 2").mean() - kappa("1 x 1").mean())
      .at_least(0.05);
  lab.claim("their intervals do not overlap")
      .holds(!all["8 x 2"].interval().overlaps(all["1 x 1"].interval()));
  lab.claim("what a third layer adds to 8 x 2")
      .paper("nothing")
      .measured(kappa("8 x 3").mean() - kappa("8 x 2").mean())
      .at_most(0.01);
  lab.claim("kappa of one judge, to which the simulation was tuned")
      .paper("0.28")
      .measured(kappa("1 x 1"))
      .between(0.26, 0.30);

  plot::Lines chart{.title = "kappa of networks of simulated judges",
                    .x = {"width", plot::Spacing::logarithmic},
                    .y = {"kappa"}};
  for (const int64_t depth : {1, 2, 3}) {
    plot::Series line{fmt::format("{} layers", depth), {}, {}};
    for (const int64_t width : {1, 2, 4, 8}) {
      line.x.push_back(static_cast<double>(width));
      line.y.push_back(kappa(fmt::format("{} x {}", width, depth)).mean());
    }
    chart.series.push_back(std::move(line));
  }
  lab.plot(std::move(chart));

  // Judges that nothing moves: a second layer is only a second look.
  const SimulatedWorlds deaf(seeds, pairs, {.trust = 0, .herding = 0});
  auto small =
      lab.table("judges that do not listen", {"network", "calls", "kappa", "95 % interval"});
  std::vector<math::Interval> intervals;
  for (const auto& network : {wide_deep(8, 2), wide_deep(16, 1)}) {
    const auto row = lab.part("deaf " + network.name, [&] { return deaf.run(network); });
    small.row(network.name, Figure(row.calls), Figure(row.kappa), row.interval_text());
    intervals.push_back(row.interval());
  }
  lab.claim("without trust 8 x 2 is 16 x 1: their intervals overlap")
      .holds(intervals[0].overlaps(intervals[1]) || lab.smoke());
}

/// Works when 2: {flips of one order, of both orders, texts that two exchanges of names change}.
std::vector<double> orders(const study::Lab& lab) {
  const SimulatedWorld world(lab.by_scale(100, 2553, 2553), 3);
  const Neuron calm{.temperature = 0};
  const auto flips = [&](const Network& network) {
    const EvaluateOptions scores{.keep_texts = false};
    return flip_rate(evaluate(network, world.pairs(), world.ask(), scores),
                     evaluate(network, exchanged(world.pairs()), world.ask(), scores));
  };
  double changed = 0;
  for (const auto& trace :
       evaluate(wide_deep(2, 2), std::span(world.pairs()).first(100), world.ask()))
    for (const auto& review : trace.reviews)
      for (const auto& text : {review.text, review.prompt})
        changed += exchange_names(exchange_names(text)) != text;
  return {
      flips(single_judge({kForward}, 1, calm)),
      std::max(flips(wide_deep(8, 2, 2, calm)), flips(single_judge({kForward, kSwapped}, 1, calm))),
      changed};
}

/// Works when 3 and 5: {scores of 2 x 2 with known replies against those by hand, wiring as it
/// should be, the same for any order of completion, figures of a fixed table}.
std::vector<double> mechanics() {
  const auto known = [](const data::ChatRequest& r) -> data::ChatReply {
    const auto& text = r.messages.back().content;
    if (r.messages.size() == 1) return {"$Truth& a\n$Style& b\n"};
    const bool later = text.find(kOwnReviews) != text.npos,
               style = text.find("angle: Style") != text.npos,
               exchanged = text.find("<B>") < text.find("<A>");
    const int n = 4 * later + 2 * style + exchanged;
    return {fmt::format("Review: r.\nScore of Assistant 1: {}\nScore of Assistant 2: {}\n", n + 1,
                        9 - n)};
  };
  const auto trace =
      forward(wide_deep(2, 2), {.query = "q", .response1 = "<A>", .response2 = "<B>"}, known);
  // First answer: 1, 3, 5, 7 as they are and 8, 6, 4, 2 exchanged; second: 9, 7, 5, 3 and 2, 4,
  // 6, 8.
  const double apart = std::abs(trace.score1 - 36.0 / 8) + std::abs(trace.score2 - 44.0 / 8);
  using Reads = std::vector<std::vector<int64_t>>;
  const bool wired = reads_within(4, 2) == Reads{{1}, {0, 2}, {1, 3}, {2}} &&
                     reads_within(3, 0) == Reads{{1, 2}, {0, 2}, {0, 1}};
  const SimulatedWorld world(40, 4);
  const auto late = [&](const data::ChatRequest& r) {
    const auto size = static_cast<int64_t>(r.messages.back().content.size());
    std::this_thread::sleep_for(std::chrono::microseconds((r.sample * 7919 + size) % 900));
    return world.answer(r);
  };
  const auto a = evaluate(wide_deep(3, 2), world.pairs(), world.ask(), {.workers = 1}),
             b = evaluate(wide_deep(3, 2), world.pairs(), late, {.workers = 16});
  bool same = true;
  for (size_t i = 0; i < a.size(); ++i)
    same &= write_trace(world.pairs()[i], a[i]) == write_trace(world.pairs()[i], b[i]);
  // 20 and 15 on the diagonal, 5 and 10 beside it; and 2 +- t(0.975, 2) / sqrt(3).
  std::vector<int> truth, said;
  for (const auto& [x, y, n] : {std::tuple(0, 0, 20), {0, 1, 5}, {1, 0, 10}, {1, 1, 15}})
    truth.insert(truth.end(), static_cast<size_t>(n), x),
        said.insert(said.end(), static_cast<size_t>(n), y);
  const double t2 = 0.95 * std::sqrt(2 / (1 - 0.95 * 0.95));
  const double figures = std::max(
      {std::abs(math::kappa(truth, said, 2) - 0.4),
       std::abs(math::macro_f1(truth, said, 2) - (40.0 / 55 + 30.0 / 45) / 2),
       std::abs(math::mean_interval(std::vector<double>{1, 2, 3}).high - 2 - t2 / std::sqrt(3.0))});
  return {apart, wired ? 1.0 : 0.0, same ? 1.0 : 0.0, figures};
}

/// Works when 6: what two sessions at a keyboard leave in the log.
Assisted two_sessions(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  const SimulatedWorld world(4, 6);
  const auto traces = evaluate(wide_deep(2, 2), world.pairs(), world.ask());
  {
    std::ofstream file(folder / "trace.jsonl");
    for (size_t i = 0; i < traces.size(); ++i)
      file << write_trace(world.pairs()[i], traces[i]).dump() << "\n";
  }
  std::ostringstream shown;
  std::istringstream first("\n\nq\n"), second("\n\n");
  assist(folder / "trace.jsonl", folder / "log.jsonl", first, shown);
  const auto out = assist(folder / "trace.jsonl", folder / "log.jsonl", second, shown);
  std::filesystem::remove_all(folder);
  return out;
}

void run(study::Lab& lab) {
  simulated(lab);
  const auto o = lab.part("orders", [&] { return orders(lab); });
  auto flips =
      lab.table("verdicts of deterministic judges that flip with the order", {"network", "share"});
  flips.row("single judge, one order", o[0]), flips.row("both orders", o[1]);
  lab.claim("flips of deterministic judges in both orders, bias 0.8").measured(o[1]).at_most(0);
  lab.claim("texts that exchanging the names twice changes").measured(o[2]).at_most(0);
  const auto m = lab.part("mechanics", [] { return mechanics(); });
  lab.claim("2 x 2 with known replies: scores against those by hand").measured(m[0]).at_most(1e-12);
  lab.claim("neurons read whom they should, window 2 and all").holds(m[1] == 1);
  lab.claim("the same traces in any order of completion").holds(m[2] == 1);
  lab.claim("kappa, F1 and interval of fixed tables").measured(m[3]).at_most(1e-12);

  const auto folder =
      std::filesystem::temp_directory_path() / fmt::format("cajal-judges-{}", ::getpid());
  if (!data::ChatServer::available()) {
    lab.not_shown("the client against a faulty server", "this build has no cpp-httplib");
  } else {
    const SimulatedWorld world(lab.by_scale(20, 300, 600), 5);
    const auto r = lab.part("rehearsal", [&] {
      return rehearse(world, wide_deep(2, 2),
                      {.rate_limited = 0.1, .broken = 0.05, .malformed = 0.05},
                      folder.string() + ".cache");
    });
    auto table = lab.table("a run over HTTP with 10 % 429, 5 % 500 and 5 % malformed replies",
                           {"what", "number"});
    table.row("pairs", r.pairs), table.row("replies before it was cut off", r.before);
    table.row("calls of the second run", r.calls), table.row("of them from the cache", r.cached);
    table.row("requests sent, both runs", r.requests);
    lab.claim("pairs scored")
        .measured(static_cast<double>(r.scored) / static_cast<double>(r.pairs))
        .at_least(1);
    lab.claim("calls that the second run repeated")
        .measured(static_cast<double>(r.before - r.cached))
        .at_most(0);
    lab.claim("the key is neither in the cache nor in the traces").holds(r.key_kept);
    const auto rates = lab.part("throughput", [&] {
      return std::vector<double>{pairs_a_second(world, lab.by_scale(4, 15, 15), 1, 0.1),
                                 pairs_a_second(world, lab.by_scale(20, 256, 576), 64, 0.1)};
    });
    lab.claim("64 requests at once over one at a time, 100 ms each")
        .measured(rates[1] / rates[0])
        .at_least(30);
  }
  const auto decided = lab.part("assist", [&] { return two_sessions(folder).pairs; });
  lab.claim("pairs decided with help over two sessions, the second going on after the first")
      .measured(static_cast<double>(decided))
      .between(4, 4);
  lab.not_shown("kappa 0.34 of gpt-3.5 on LLMEval2",
                "the models are retired and the set is not public");
  lab.not_shown("4.6 times as fast, 93 % agreement of people",
                "needs people; cajal judge assist logs it");
}

const auto registered = study::add({.slug = "wide-deep-evaluator"}, run);
}  // namespace
