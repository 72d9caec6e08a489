#pragma once
#include <memory>

#include "cajal/engine/selector.h"

namespace cajal::engine {

/// What one pass read and did, for a whole batch.
struct PassCount {
  int64_t bytes = 0;    // of weights, the selector's included; what a batch shares counts once
  int64_t neurons = 0;  // whose values were read
  int64_t of = 0;       // neurons there are
};

/// A feed-forward network as a bank of neurons behind a selector:
/// y = Σ over the chosen neurons i of law(gate_i . x)(key_i . x) value_i, without gates
/// law(key_i . x) value_i, plus the output bias. Quantised matrices read vectors rounded to `bits`.
/// The result is that of the whole network with the neurons left out set to zero, and bitwise the
/// same for every number of threads. Copies share the weights; one thread at a time may use each.
class SparseFeedForward {
 public:
  /// Throws Error when the selector needs a form that the bank does not have.
  explicit SparseFeedForward(NeuronBank bank, Selector selector = select_all(), int bits = 8);

  const NeuronBank& bank() const { return bank_; }
  const Selector& selector() const { return selector_; }

  /// y [batch, width] of x [batch, width]. `energy`, when given, adds up what each group did.
  PassCount forward(const float* x, int64_t batch, float* y, ThreadPool& threads,
                    GroupEnergy* energy = nullptr) const;

 private:
  NeuronBank bank_;
  Selector selector_;
  int bits_;
};

}  // namespace cajal::engine
