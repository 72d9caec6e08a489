#include "cajal/train/forward_forward_baseline.h"

#include "cajal/layers/init.h"

namespace cajal::train {

DenseClassifierImpl::DenseClassifierImpl(const ForwardForwardNetOptions& o) {
  const auto width = o.width == 0 ? o.inputs : o.width;
  for (int64_t l = 0; l < o.layers; ++l) {
    ForwardForwardLayerOptions layer;
    layer.inputs = l == 0 ? o.inputs : width, layer.outputs = width, layer.normalize = false;
    layers.push_back(register_module(fmt::format("layer{}", l), ForwardForwardLayer(layer)));
  }
  weight = register_parameter("weight", init::fan_in_uniform({o.classes, width}));
  bias = register_parameter("bias", init::fan_in_uniform({o.classes}, width));
}

std::vector<torch::Tensor> DenseClassifierImpl::hidden(const torch::Tensor& x) const {
  std::vector<torch::Tensor> out;
  for (const auto& layer : layers) out.push_back(layer->forward(out.empty() ? x : out.back()));
  return out;
}

void train_classifier(DenseClassifier& net, const torch::Tensor& x, const torch::Tensor& labels,
                      const ForwardForwardTraining& training, double activation_l1) {
  LocalOptimizer optimizer(net->parameters(), training.optimizer);
  for (int64_t epoch = 0; epoch < training.epochs; ++epoch)
    for (const auto& batch : shuffled_batches(x.size(0), training.batch)) {
      const auto hidden = net->hidden(x.index_select(0, batch));
      auto loss =
          torch::cross_entropy_loss(net->head(hidden.back()), labels.index_select(0, batch));
      if (activation_l1 > 0)
        for (const auto& h : hidden) loss = loss + activation_l1 * h.abs().mean();
      optimizer.step(loss);
    }
}

}  // namespace cajal::train
