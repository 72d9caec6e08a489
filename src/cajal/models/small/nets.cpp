#include "cajal/models/small/nets.h"

#include <cmath>

#include "cajal/neurons/adaptive.h"

namespace cajal {

using torch::Tensor;

Response make_response(torch::nn::Module& owner, const std::string& name, const std::string& text,
                       int64_t channels, int64_t axis) {
  if (text == "abrelu") {
    const auto module = owner.register_module(name, AbRelu(AbReluOptions{}));
    return [module](const Tensor& x) { return module->forward(x); };
  }
  const auto module =
      owner.register_module(name, Elementwise(parse_elementwise(text, channels, axis)));
  return [module](const Tensor& x) { return module->forward(x); };
}

SmallCnnImpl::SmallCnnImpl(const std::string& activation, int64_t colours, int64_t width,
                           int64_t classes) {
  int64_t in = colours;
  for (int i = 0; i < 3; ++i) {
    const int64_t out = width << i;
    const auto at = std::to_string(i);
    convolutions_.push_back(register_module(
        "conv" + at,
        torch::nn::Conv2d(torch::nn::Conv2dOptions(in, out, 3).padding(1).bias(false))));
    norms_.push_back(register_module("norm" + at, torch::nn::BatchNorm2d(out)));
    responses_.push_back(make_response(*this, "law" + at, activation, out));
    in = out;
  }
  last_ = register_module("last", torch::nn::Linear(in, classes));
}

Tensor SmallCnnImpl::forward(const Tensor& x) {
  auto y = x;
  for (size_t i = 0; i < 3; ++i)
    y = torch::max_pool2d(responses_[i](norms_[i]->forward(convolutions_[i]->forward(y))), 2);
  return last_->forward(y.mean({2, 3}));
}

PlainMlpImpl::PlainMlpImpl(const std::string& activation, int64_t inputs, int64_t width,
                           int64_t depth, int64_t classes, double gain) {
  for (int64_t i = 0; i < depth; ++i) {
    const int64_t in = i == 0 ? inputs : width;
    const auto layer = register_module("full" + std::to_string(i), torch::nn::Linear(in, width));
    const torch::NoGradGuard no_grad;
    layer->weight.normal_(0, gain / std::sqrt(static_cast<double>(in)));
    layer->bias.zero_();
    layers_.push_back(layer);
    responses_.push_back(make_response(*this, "law" + std::to_string(i), activation, width));
  }
  last_ = register_module("last", torch::nn::Linear(width, classes));
}

Tensor PlainMlpImpl::forward(const Tensor& x) {
  auto y = x;
  for (size_t i = 0; i < layers_.size(); ++i) y = responses_[i](layers_[i]->forward(y));
  return last_->forward(y);
}

CharacterModelImpl::CharacterModelImpl(const std::string& activation, int64_t vocabulary,
                                       int64_t embedding, int64_t width) {
  embedding_ = register_module("embedding", torch::nn::Embedding(vocabulary, embedding));
  response_ = make_response(*this, "law", activation, embedding, /*axis=*/-1);
  memory_ = register_module(
      "memory", torch::nn::LSTM(torch::nn::LSTMOptions(embedding, width).batch_first(true)));
  last_ = register_module("last", torch::nn::Linear(width, vocabulary));
}

Tensor CharacterModelImpl::forward(const Tensor& characters) {
  const auto x = response_(embedding_->forward(characters));
  return last_->forward(std::get<0>(memory_->forward(x)));
}

}  // namespace cajal
