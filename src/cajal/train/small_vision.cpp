#include "cajal/train/small_vision.h"

#include <torch/nn/functional/loss.h>

#include <algorithm>
#include <memory>

#include "cajal/layers/ffn/fast_feed_forward.h"
#include "cajal/models/lm/checkpoint.h"

namespace cajal::train {
namespace {

lm::Config config_of(const SmallVisionOptions& o) {
  const Json json = {{"model_type", "vit"},
                     {"architectures", {"ViTForImageClassification"}},
                     {"hidden_size", o.width},
                     {"intermediate_size", o.neurons},
                     {"num_hidden_layers", o.layers},
                     {"num_attention_heads", o.heads},
                     {"image_size", o.image},
                     {"patch_size", o.patch},
                     {"num_channels", 1},
                     {"num_labels", o.classes}};
  return lm::config_from_json(json, "small vision model");
}

/// What the trees of one pass share.
struct Pass {
  torch::Tensor entropy;  // [] mean over layers
  bool hard = false;
};

}  // namespace

double fit_small_vision(const SmallVisionOptions& o, const ClassifierData& data,
                        std::optional<TreesOf> trees) {
  constexpr double kDeviation = 0.05;  // of the weights at the start
  const auto seed = torch::randint(1 << 30, {1}).item<int64_t>();
  auto model = lm::initialise(config_of(o), static_cast<uint64_t>(seed), kDeviation);
  auto parameters = model->parameters();
  const auto pass = std::make_shared<Pass>();
  for (auto& block : model->blocks) {
    if (!trees) break;
    FastFeedForward layer(FastFeedForwardOptions{
        .width = o.width, .leaf_width = trees->leaf_width, .depth = trees->depth});
    for (const auto& p : layer->parameters()) parameters.push_back(p);
    block.ffn.instead =
        [layer, pass, share = 1.0 / static_cast<double>(o.layers)](const torch::Tensor& x) mutable {
          if (pass->hard) return layer->infer(x);
          const auto traced = layer->trace(x, TreeForm::straight);
          pass->entropy = pass->entropy + share * traced.entropy();
          return traced.y;
        };
  }
  const auto pixels = [&o](const torch::Tensor& x) { return x.view({-1, 1, o.image, o.image}); };
  Classifier classifier{parameters, {}, {}};
  classifier.loss = [&](const torch::Tensor& x, const torch::Tensor& y, int64_t epoch) {
    pass->entropy = torch::zeros({});
    const auto loss = torch::nn::functional::cross_entropy(model->forward(pixels(x)), y);
    const double done = 2.0 * static_cast<double>(epoch) / static_cast<double>(o.epochs);
    return loss + o.hardness * std::min(1.0, done) * pass->entropy;
  };
  classifier.logits = [&](const torch::Tensor& x) {
    pass->hard = true;
    auto y = model->forward(pixels(x));
    pass->hard = false;
    return y;
  };
  fit(classifier, data,
      {.epochs = o.epochs,
       .batch = o.batch,
       .learning_rate = o.learning_rate,
       .keep_from = trees ? 0.5 : 0});
  return accuracy(classifier.logits, data.test);
}

}  // namespace cajal::train
