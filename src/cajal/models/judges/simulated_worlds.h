#pragma once
#include <memory>
#include <string>
#include <vector>

#include "cajal/models/judges/evaluate.h"
#include "cajal/models/judges/simulated.h"

namespace cajal::judges {

/// What a network did in several worlds, one value a world.
struct WorldScores {
  std::vector<double> calls, accuracy, macro_f1, kappa;
  std::vector<double> flips;  // verdicts that are another when the answers are exchanged

  math::Interval interval() const { return math::mean_interval(kappa); }  // of kappa, 95 %
  std::string interval_text() const;                                      // "0.312 to 0.324"
};
CAJAL_OPTIONS(WorldScores, calls, accuracy, macro_f1, kappa, flips)

/// Simulated worlds that differ by their seed alone.
class SimulatedWorlds {
 public:
  SimulatedWorlds(int seeds, int64_t pairs, const SimulatedOptions& options = {});

  WorldScores run(const Network& network) const;
  /// With weights of every neuron that another, smaller world has taught, and Readout::learned.
  Network taught(Network network) const;

 private:
  std::vector<std::unique_ptr<SimulatedWorld>> worlds_;
  SimulatedOptions options_;
};

/// The pairs with their answers in the other order.
std::vector<Pair> exchanged(const std::vector<Pair>& pairs);

}  // namespace cajal::judges
