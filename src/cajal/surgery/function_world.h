#pragma once
#include <span>
#include <vector>

#include "cajal/surgery/functions.h"
#include "cajal/train/small_language.h"

namespace cajal::surgery {

/// A small byte-level model that learnt several functions side by side, so that what its parts are
/// for is known, and its texts. Source: dossier bricks, "Data".
struct FunctionWorld {
  lm::Transformer untrained{nullptr}, model{nullptr};
  std::vector<FunctionText> train, valid, test;  // 80, 10 and at most 10 % of each text

  int64_t context() const { return model->config.context; }
  int64_t neurons() const { return model->config.layers * model->config.neurons; }

  /// Nats a byte.
  double loss(lm::Transformer of, const std::vector<int32_t>& ids) const;
  std::vector<double> test_losses(const lm::Transformer& of) const;
  double mean_test_loss(const lm::Transformer& of) const;
};

/// Trains on the texts (byte ids), all in one; no more than `judged` bytes of each are for tests.
/// Throws Error for a text whose parts are shorter than a window.
FunctionWorld make_function_world(std::span<const FunctionText> texts,
                                  const train::SmallLanguageOptions& options, int64_t judged,
                                  uint64_t seed);

/// A text as ids of a byte-level model.
std::vector<int32_t> byte_ids(std::string_view text);

/// Ids between two shares of a text.
std::vector<int32_t> part(const std::vector<int32_t>& ids, double from, double to);

}  // namespace cajal::surgery
