#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "cajal/models/judges/network.h"

/// Judges without a model: what they see, doubt and copy follows known rules, so that one can tell
/// when width and depth help. They read and write the same texts as real ones.
namespace cajal::judges {

constexpr int kPerspectives = 8;
extern const std::array<const char*, kPerspectives> kPerspectiveNames;

struct SimulatedOptions {
  // The world: quality of an answer on perspective k is common + own_k, both normal.
  double common = 1.15, own = 0.7;
  double human_noise = 0.5;  // of the people's label, whose weights on the perspectives are equal
  double tie_band = 0.5;     // |what people feel| below it is a tie
  // A judge sees its perspective with this noise, ...
  double noise = 2;        // s, of every call
  double shared = 1;       // s_c, of an answer, the same for all judges
  double position = 0.8;   // beta, for the answer shown first
  double verbosity = 0.3;  // times the length of the answer, a normal number
  // ... and is moved by what it reads.
  double trust = 0.3;       // g, in the mean of its colleagues
  double herding = 0.2;     // h, probability of copying the majority's view
  double discussion = 0.5;  // s_d, noise of being moved
  double malformed = 0.02;  // p_bad, of a reply without scores
};
CAJAL_OPTIONS(SimulatedOptions, common, own, human_noise, tie_band, noise, shared, position,
              verbosity, trust, herding, discussion, malformed)

/// Pairs with known qualities, in the class balance of LLMEval2 (1050 : 1021 : 482), and a judge of
/// them. At temperature 0 a judge's noise depends on answer and perspective alone; above it every
/// call draws anew from its words and its sample number.
class SimulatedWorld {
 public:
  SimulatedWorld(int64_t pairs, uint64_t seed, const SimulatedOptions& options = {});

  const std::vector<Pair>& pairs() const { return pairs_; }

  /// Answers as a judge would, reading nothing but the request. Throws Error when it does not show
  /// one of these pairs. May be used by many threads.
  data::ChatReply answer(const data::ChatRequest& request) const;
  Ask ask() const {
    return [this](const data::ChatRequest& request) { return answer(request); };
  }

 private:
  struct Item {
    std::array<std::array<double, kPerspectives>, 2> quality;
    std::array<double, 2> shared, length;
  };
  Item draw(uint64_t item, Verdict wanted) const;
  std::string angles(const data::ChatRequest& request, int64_t item) const;
  std::string review(const data::ChatRequest& request, int64_t item) const;

  SimulatedOptions options_;
  uint64_t seed_;
  std::vector<Item> items_;
  std::vector<Pair> pairs_;
};

}  // namespace cajal::judges
