#include "cajal/models/judges/simulated_worlds.h"

#include "cajal/core/error.h"
#include "cajal/core/threads.h"

namespace cajal::judges {
namespace {

constexpr uint64_t kTeacher = 7777;  // seed of the world that weights are learned in
constexpr int64_t kOther = 1 << 20;  // samples of other answers to the same words

EvaluateOptions scores_only() { return {.workers = available_processors(), .keep_texts = false}; }

}  // namespace

std::string WorldScores::interval_text() const {
  const auto i = interval();
  return fmt::format("{:.3f} to {:.3f}", i.low, i.high);
}

std::vector<Pair> exchanged(const std::vector<Pair>& pairs) {
  std::vector<Pair> out;
  for (const auto& pair : pairs) out.push_back(swapped(pair));
  return out;
}

SimulatedWorlds::SimulatedWorlds(int seeds, int64_t pairs, const SimulatedOptions& options)
    : options_(options) {
  require(seeds > 0, "simulated worlds: {} seeds", seeds);
  for (int seed = 0; seed < seeds; ++seed)
    worlds_.push_back(
        std::make_unique<SimulatedWorld>(pairs, static_cast<uint64_t>(seed), options));
}

WorldScores SimulatedWorlds::run(const Network& network) const {
  WorldScores out;
  for (size_t s = 0; s < worlds_.size(); ++s) {
    const auto& world = *worlds_[s];
    const auto traces = evaluate(network, world.pairs(), world.ask(), scores_only());
    const auto anew = [&](data::ChatRequest request) {
      request.sample += kOther;
      return world.answer(request);
    };
    const auto other = evaluate(network, exchanged(world.pairs()), anew, scores_only());
    const auto q = quality(world.pairs(), traces, 1, s);
    out.calls.push_back(q.calls), out.accuracy.push_back(q.accuracy);
    out.macro_f1.push_back(q.macro_f1), out.kappa.push_back(q.kappa);
    out.flips.push_back(flip_rate(traces, other));
  }
  return out;
}

Network SimulatedWorlds::taught(Network network) const {
  network.readout = Readout::mean;  // while it is being taught
  const SimulatedWorld teacher(std::max<int64_t>(1, std::ssize(worlds_[0]->pairs()) / 4), kTeacher,
                               options_);
  const auto traces = evaluate(network, teacher.pairs(), teacher.ask(), scores_only());
  network.weights = fit_weights(teacher.pairs(), traces);
  network.readout = Readout::learned;
  return network;
}

}  // namespace cajal::judges
