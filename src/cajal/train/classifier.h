#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cajal/core/torch.h"
#include "cajal/data/oblique_tree.h"

namespace cajal::train {

/// Vectors with a class each.
struct Labelled {
  torch::Tensor x;  // f32 [rows, features]
  torch::Tensor y;  // i64 [rows]

  int64_t size() const { return x.size(0); }
  Labelled slice(int64_t begin, int64_t end) const {
    return {x.slice(0, begin, end), y.slice(0, begin, end)};
  }
};

struct ClassifierData {
  std::string name;  // as tables must name it
  Labelled train, valid, test;
};

/// "mnist" or "fashion-mnist" as flat vectors (pixel / 255 - 0.5) / 0.5; the last eighth of its
/// train part validates. Throws Error when it is not here.
ClassifierData image_classes(std::string_view name, uint64_t seed = 0);

/// The generated task: options.count rows train, a quarter of that validates and half tests.
ClassifierData tree_classes(const data::ObliqueTreeOptions& options);

/// What is trained: parameters, a loss for a batch of an epoch, and the answers to judge by.
struct Classifier {
  std::vector<torch::Tensor> parameters;
  std::function<torch::Tensor(const torch::Tensor& x, const torch::Tensor& y, int64_t epoch)> loss;
  std::function<torch::Tensor(const torch::Tensor& x)> logits;
};

struct ClassifierOptions {
  int64_t epochs = 40, batch = 256;
  double learning_rate = 1e-3, weight_decay = 1e-2;  // of AdamW
  double keep_from = 0;  // share of the epochs after which the best state may be kept
  /// Rate to go to, with a fresh optimiser, when `patience` epochs brought no better validation
  /// accuracy and it is below `raise_below`; back after the next best. 0 = never.
  double raised_rate = 0, raise_below = 0.9;
  int64_t patience = 6;
};

struct ClassifierRun {
  double valid = 0;        // accuracy of the state kept
  int64_t kept_epoch = 0;  // after it
};

/// Trains by AdamW over shuffled batches and leaves the parameters as they were after the epoch
/// with the best validation accuracy. Draws from libtorch's generator. Throws Error when the loss
/// is no number.
ClassifierRun fit(const Classifier& classifier, const ClassifierData& data,
                  const ClassifierOptions& options);

/// Share of rows whose largest logit is their class.
double accuracy(const std::function<torch::Tensor(const torch::Tensor&)>& logits,
                const Labelled& data);

}  // namespace cajal::train
