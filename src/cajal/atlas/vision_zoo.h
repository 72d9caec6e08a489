#pragma once
#include <functional>
#include <string>
#include <vector>

#include "cajal/atlas/inversion.h"
#include "cajal/core/options.h"

/// A small zoo of vision models of one size (1 x 28 x 28) with other architectures and training
/// signals, whose units studies compare. Pictures are [images, 1, 28, 28] in [0, 1].
namespace cajal::atlas {

/// A trained model as studies look at it.
struct ZooModel {
  std::string name;
  std::function<UnitMaps(const torch::Tensor& pictures)> maps;
  std::function<torch::Tensor(const torch::Tensor& pictures)> logits;  // of classifiers, else empty
};

enum class ZooKind {
  cnn,       // three convolutions, trained on classes
  rotation,  // residual network, trained to tell four rotations apart: no labels
  vit,       // vision transformer, patch 4, width 64, 4 layers, trained on classes
  masked     // the same, trained to fill in masked patches: no labels
};

struct ZooOptions {
  int64_t steps = 400;  // of training; 0: the random weights of the start
  int64_t batch = 64;
  double learning_rate = 2e-3;
};
CAJAL_OPTIONS(ZooOptions, steps, batch, learning_rate)

/// Trains a model of that kind; labels i64 [images] in [0, 10).
ZooModel train_zoo_model(ZooKind kind, const torch::Tensor& pictures, const torch::Tensor& labels,
                         const ZooOptions& options, uint64_t seed);

/// A convolutional variational autoencoder (latent 32, maps 7 -> 14 -> 28, channels 64-32-16) whose
/// decoder is the generator. `shift`: training pictures are moved by up to so many pixels, so that
/// the generator can draw them anywhere.
Generator train_generator(const torch::Tensor& pictures, const ZooOptions& options, uint64_t seed,
                          int64_t shift = 0);

}  // namespace cajal::atlas

CAJAL_ENUM(cajal::atlas::ZooKind, {cajal::atlas::ZooKind::cnn, "cnn"},
           {cajal::atlas::ZooKind::rotation, "rotation"}, {cajal::atlas::ZooKind::vit, "vit"},
           {cajal::atlas::ZooKind::masked, "masked"})
