#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cajal/data/chat.h"
#include "cajal/models/judges/prompts.h"

/// A feed-forward network whose neurons are calls of a chat model: layer 0 asks for angles, layer 1
/// reviews from one angle a neuron, later layers review again after reading their neighbours.
namespace cajal::judges {

/// Whatever answers a request: a client of an endpoint, or a simulated judge.
using Ask = std::function<data::ChatReply(const data::ChatRequest&)>;

struct Neuron {
  std::string role = "";   // put before the system prompt
  std::string angle = "";  // fixed; empty: the angle of layer 0 at its place
  std::string model = "";
  double temperature = 1;
  int64_t max_tokens = 512;
  int64_t evidences = 1;  // reviews of each order (FairEval asks for three)
};

/// Neurons of one layer; neuron i reads the reviews that the neurons reads[i] of the layer before
/// wrote, besides its own.
struct Layer {
  std::vector<Neuron> neurons = {};
  std::vector<std::vector<int64_t>> reads = {};
};

enum class Readout {
  mean,        // of all scores
  last_layer,  // of the scores of the last layer
  majority,    // of the verdicts of single reviews
  learned      // a weighted sum of score differences, see `fit_weights`
};

enum class Angles {
  none,      // no layer 0
  limited,   // asks for as many as layer 1 has neurons
  unlimited  // takes all that are named, a neuron each; layers hold one neuron to repeat
};

struct Network {
  std::string name = "";
  Angles angles = Angles::limited;
  std::vector<Layer> layers = {};
  std::vector<Order> orders = {Order::forward, Order::swapped};
  int64_t window = 2;          // of unlimited layers; see `reads_within`
  bool whole_history = false;  // later layers read all former layers, not the last alone
  Readout readout = Readout::mean;
  std::vector<double> weights =
      {};                  // of a learned readout: one a neuron of each layer, then a bias
  double tie_band = 0;     // a tie where |score 1 - score 2| is not larger
  int64_t tries = 10;      // of a reply that cannot be read
  std::string model = "";  // of layer 0
};

/// Neighbours |i - j| < window among `neurons`, without i itself; 0 = all.
std::vector<std::vector<int64_t>> reads_within(int64_t neurons, int64_t window);

/// `depth` layers of `width` neurons; width 0: as many as layer 0 names angles.
Network wide_deep(int64_t width, int64_t depth, int64_t window = 2, const Neuron& like = {});

/// One judge without an angle, in one order or both, asked `evidences` times.
Network single_judge(std::vector<Order> orders, int64_t evidences = 1, const Neuron& like = {});

/// Judges with fixed roles that discuss for `rounds` rounds, each reading all others.
Network fixed_roles(const std::vector<Neuron>& roles, int64_t rounds);

/// A reply of one neuron; text and scores name the assistants as in forward order.
struct Review {
  int64_t layer = 1, neuron = 0;
  Order order = Order::forward;
  int64_t evidence = 0, tries = 1;
  std::string angle = {}, prompt = {}, text = {};
  double score1 = 0, score2 = 0;
  bool readable = true;  // else both scores are 0 and do not count
};

/// Everything that happened to one pair.
struct Trace {
  std::string angles_reply;
  std::vector<std::string> angles;
  std::vector<Review> reviews;  // by layer, neuron, order, evidence
  double score1 = 0, score2 = 0;
  Verdict verdict = Verdict::tie;
  int64_t calls = 0, prompt_tokens = 0, completion_tokens = 0;
};

/// Judges one pair. A layer's calls do not see each other, so that the result does not depend on
/// the order in which replies come. Throws what `ask` throws, and Error for a network whose sizes
/// do not fit.
Trace forward(const Network& network, const Pair& pair, const Ask& ask);

/// Scores and verdict that `readout` gives the reviews of a trace.
void read_out(const Network& network, Trace& trace);

/// Mean score difference of each neuron, layer after layer: [layers x neurons].
std::vector<double> differences(const Trace& trace);

/// Logistic regression of "the first is preferred" on `differences` with a ridge, over pairs
/// without a tie; weights and bias for Readout::learned. Throws Error when traces differ in size.
std::vector<double> fit_weights(std::span<const Pair> pairs, std::span<const Trace> traces,
                                double ridge = 1);

/// One JSON object a pair: query, responses, human, angles, reviews with prompts and scores, score,
/// verdict, calls, tokens.
Json write_trace(const Pair& pair, const Trace& trace);

}  // namespace cajal::judges

CAJAL_ENUM(cajal::judges::Readout, {cajal::judges::Readout::mean, "mean"},
           {cajal::judges::Readout::last_layer, "last_layer"},
           {cajal::judges::Readout::majority, "majority"},
           {cajal::judges::Readout::learned, "learned"})
CAJAL_ENUM(cajal::judges::Order, {cajal::judges::Order::forward, "forward"},
           {cajal::judges::Order::swapped, "swapped"})
