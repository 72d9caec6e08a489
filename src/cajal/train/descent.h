#pragma once
#include <functional>
#include <vector>

#include "cajal/core/torch.h"

namespace cajal::train {

struct DescentOptions {
  int64_t epochs = 8;
  int64_t batch = 64;
  int64_t steps = 0;   // not 0: so many batches instead of whole epochs
  double rate = 1e-3;  // of Adam
  double decay = 1;    // the rate is multiplied by this at 80 % of the steps
  double clip = 0;     // largest gradient norm; 0 = any
  double weight = 0;   // L2 penalty of Adam
};

struct Descent {
  double loss = 0;     // of the last batch
  double seconds = 0;  // of a step, mean
  int64_t steps = 0;
};

/// Minimises loss(rows) over shuffled batches of [0, rows) by Adam; `rows` is int64 on the CPU.
/// Draws from libtorch's generator. Throws Error when the loss is no number.
Descent descend(const std::vector<torch::Tensor>& parameters, int64_t rows,
                const std::function<torch::Tensor(const torch::Tensor& rows)>& loss,
                const DescentOptions& options);

/// model(x) for all rows, in batches and without gradients.
torch::Tensor outputs(const std::function<torch::Tensor(const torch::Tensor&)>& model,
                      const torch::Tensor& x, int64_t batch = 256);

/// Share of rows whose largest score is their class.
double share_correct(const torch::Tensor& scores, const torch::Tensor& classes);

}  // namespace cajal::train
