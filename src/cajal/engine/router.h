#pragma once
#include "cajal/core/options.h"

namespace cajal {

/// How the experts of a token are chosen from what its feed-forward network reads, x [width].
enum class RouterKind {
  oracle,      // those that do most: Σ of positive activations, of |activation| where gated; reads
               // every key
  similarity,  // largest first x, `first` a row [width] an expert
  mlp,         // largest second tanh(first x / ||x||)
};

}  // namespace cajal

CAJAL_ENUM(cajal::RouterKind, {cajal::RouterKind::oracle, "oracle"},
           {cajal::RouterKind::similarity, "similarity"}, {cajal::RouterKind::mlp, "mlp"})
