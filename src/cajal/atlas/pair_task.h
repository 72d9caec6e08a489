#pragma once
#include <map>
#include <string>
#include <vector>

#include "cajal/atlas/attention_map.h"

// A task whose answer needs two known tokens, so that it is known which entry of a map a
// feed-forward block should amplify. Source: dossier ff-attention-map, Data and "Works when" 4.
namespace cajal::atlas {

struct PairTaskOptions {
  Json model = Json::object();  // of a network with a vocabulary of 2 and a context of `tokens`
  int64_t tokens = 12, steps = 1000, batch = 64;
  int64_t samples = 50;  // texts whose maps are looked at
  double learning_rate = 3e-3;
};

/// What one measure says about the pair (i, i - 2), over all rows of all samples.
struct PairScore {
  double share = 0, rank = 0;  // mean share of the row; mean rank in the row, 1 = the largest
  double agreement = 0;        // Spearman of the last rows with what leaving a token out does
};

struct PairFindings {
  double accuracy = 0;  // of the network, on new texts
  int64_t layer = 0;    // whose FFN makes the answer readable
  double rises = 0;     // share of rows in which the pair's share is larger after that FFN
  std::map<std::string, PairScore> scores;  // by measure
};

/// Trains a network to give the exclusive or of bits i and i - 2 at every i, and asks of the layer
/// that computes it what attention weights, attention rollout, |alpha f(x)|, the map before the
/// FFN, the FFN by Taylor and by integrated gradients and gradient x input (the last row only) say
/// about the pair. All is drawn from `seed`.
PairFindings study_pairs(const PairTaskOptions& options, uint64_t seed);

}  // namespace cajal::atlas
