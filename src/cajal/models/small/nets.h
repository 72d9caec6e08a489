#pragma once
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/rnn.h>

#include <functional>
#include <string>
#include <vector>

#include "cajal/core/torch.h"
#include "cajal/neurons/elementwise.h"

/// Small fixed networks that differ only in their activation, for comparisons that a processor can
/// run. `activation` is a law ("mish", "prelu:per_channel"), "abrelu" or "identity".
namespace cajal {

/// An activation between layers: any law, or average-biased ReLU.
using Response = std::function<torch::Tensor(const torch::Tensor&)>;

/// Registers what the text names in `owner` and returns how to call it; channels are on `axis`.
Response make_response(torch::nn::Module& owner, const std::string& name, const std::string& text,
                       int64_t channels, int64_t axis = 1);

/// Three convolutions 3 x 3 with batch norm, to width, 2 width and 4 width channels, each halving
/// the picture; mean over space; one full layer.
/// Shapes: x [batch, colours, height, width] -> logits [batch, classes].
class SmallCnnImpl : public torch::nn::Module {
 public:
  SmallCnnImpl(const std::string& activation, int64_t colours, int64_t width, int64_t classes);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  std::vector<torch::nn::Conv2d> convolutions_;
  std::vector<torch::nn::BatchNorm2d> norms_;
  std::vector<Response> responses_;
  torch::nn::Linear last_{nullptr};
};
TORCH_MODULE(SmallCnn);

/// `depth` full layers of one width without normalisation, weights N(0, gain² / inputs), then one
/// to the classes. Shapes: x [batch, inputs] -> logits [batch, classes].
class PlainMlpImpl : public torch::nn::Module {
 public:
  PlainMlpImpl(const std::string& activation, int64_t inputs, int64_t width, int64_t depth,
               int64_t classes, double gain);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  std::vector<torch::nn::Linear> layers_;
  std::vector<Response> responses_;
  torch::nn::Linear last_{nullptr};
};
TORCH_MODULE(PlainMlp);

/// Characters in, logits of the next out: embedding, the activation, one LSTM, one full layer (the
/// survey's translation network without its second half).
/// Shapes: characters i64 [batch, tokens] -> logits [batch, tokens, vocabulary].
class CharacterModelImpl : public torch::nn::Module {
 public:
  CharacterModelImpl(const std::string& activation, int64_t vocabulary, int64_t embedding,
                     int64_t width);
  torch::Tensor forward(const torch::Tensor& characters);

 private:
  torch::nn::Embedding embedding_{nullptr};
  Response response_;
  torch::nn::LSTM memory_{nullptr};
  torch::nn::Linear last_{nullptr};
};
TORCH_MODULE(CharacterModel);

}  // namespace cajal
