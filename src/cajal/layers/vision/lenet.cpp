#include "cajal/layers/vision/lenet.h"

#include "cajal/layers/layer.h"

namespace cajal {

LeNetImpl::LeNetImpl(const LeNetOptions& o) : options(o) {
  require(o.colours > 0 && o.classes > 0,
          "lenet5: colours and classes must be positive, got {} and {}", o.colours, o.classes);
  require(o.size >= 12, "lenet5: size is {}, expected 12 or more", o.size);
  const int64_t padding = o.size < 32 ? 2 : 0;
  const int64_t pooled = (o.size + 2 * padding - 4) / 2, left = (pooled - 4) / 2;
  first_ = register_module(
      "conv1", torch::nn::Conv2d(torch::nn::Conv2dOptions(o.colours, 6, 5).padding(padding)));
  second_ = register_module("conv2", torch::nn::Conv2d(torch::nn::Conv2dOptions(6, 16, 5)));
  third_ = register_module("full1", torch::nn::Linear(16 * left * left, 120));
  fourth_ = register_module("full2", torch::nn::Linear(120, 84));
  last_ = register_module("full3", torch::nn::Linear(84, o.classes));
  const int64_t channels[] = {6, 16, 120, 84};
  for (int i = 0; i < 4; ++i)
    laws_.push_back(register_module("law" + std::to_string(i + 1),
                                    Elementwise(parse_elementwise(o.law, channels[i]))));
}

torch::Tensor LeNetImpl::pool(const torch::Tensor& x) const {
  return options.pooling == Pooling::average ? torch::avg_pool2d(x, 2) : torch::max_pool2d(x, 2);
}

torch::Tensor LeNetImpl::forward(const torch::Tensor& x) {
  const auto y1 = pool(laws_[0]->forward(first_->forward(x)));
  const auto y2 = pool(laws_[1]->forward(second_->forward(y1))).flatten(1);
  const auto y3 = laws_[2]->forward(third_->forward(y2));
  return last_->forward(laws_[3]->forward(fourth_->forward(y3)));
}

namespace {
bool add() {
  layers::Declaration<LeNetOptions> declared;
  declared.inputs = {{"x", "[batch, colours, size, size]"}};
  declared.outputs = {{"logits", "[batch, classes]"}};
  declared.axes.sizes = {{"batch", 2}};
  return layers::add<LeNet>("lenet5", "LeNet-5: two convolutions, three full layers", declared);
}
const auto registered = add();
}  // namespace
}  // namespace cajal
