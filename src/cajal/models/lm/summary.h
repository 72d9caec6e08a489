#pragma once
#include <string>
#include <vector>

#include "cajal/core/json.h"
#include "cajal/models/lm/transformer.h"

namespace cajal::lm {

/// Sizes of a model as it is stored.
struct Summary {
  int64_t parameters = 0;      // tied matrices once
  int64_t ffn_parameters = 0;  // keys, gates, values and their biases
  int64_t stored_bytes = 0;
  int64_t bytes_per_token = 0;  // weights read to decode one token: all but unread embedding rows
  std::vector<std::string> formats;  // that matrices are stored in

  double ffn_share() const {
    return static_cast<double>(ffn_parameters) / static_cast<double>(parameters);
  }
};

Summary summarise(Transformer& model);

/// What `cajal model info` prints: family, sizes, laws, and the summary.
Json describe(Transformer& model);

/// Names of tensors of the model's file that hold a NaN or an infinity. Reads every byte once, on
/// all threads.
std::vector<std::string> not_finite(Transformer& model);

}  // namespace cajal::lm
