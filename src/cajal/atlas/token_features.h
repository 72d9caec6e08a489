#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cajal/core/torch.h"
#include "cajal/models/lm/transformer.h"

// What of a token explains how a neuron answers. Source: dossier universal-neurons, Build 5.
namespace cajal::atlas {

/// A yes-or-no property of a token's text.
struct TokenFeature {
  std::string family, name;    // "alphabet", "begins with t"
  std::vector<uint8_t> holds;  // [vocabulary]
};

/// About a hundred: case, digits, spaces, punctuation, length, first and last letters, classes of
/// pronouns and function words, common endings.
std::vector<TokenFeature> token_features(const std::vector<std::string>& texts);

/// The best explanation of one neuron by a feature of this token or the one before, or by this
/// being one certain token.
struct Explanation {
  std::string family = "none", name = "";  // families: those of features, "previous: ...", "token"
  double reduction = 0;  // of variance: (Var - p Var(x|f) - (1-p) Var(x|not f)) / Var
};

/// One for every FFN neuron of the model (layers counted through), from one pass over the text.
/// Features and tokens that hold at fewer than `least` tokens of the text are left out.
std::vector<Explanation> explain(lm::Transformer& model, std::span<const int32_t> ids,
                                 const std::vector<TokenFeature>& features, int64_t context,
                                 int64_t least = 20);

}  // namespace cajal::atlas
