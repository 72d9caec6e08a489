#include "cajal/surgery/as_memory.h"

#include "cajal/core/error.h"
#include "cajal/surgery/split.h"

namespace cajal::surgery {

void read_in_blocks(lm::Transformer& model, SparseMemoryOptions options) {
  const torch::NoGradGuard no_grad;
  options.width = model->config.width, options.neurons = model->config.neurons;
  options.bias = true, options.ids = 1;
  for (auto& block : model->blocks) {
    const auto rows = neuron_rows(block.ffn);
    require(!rows.gate.defined(), "read in blocks: the FFN is gated, expected one key a neuron");
    SparseMemory memory(options);
    memory->eval();
    memory->key.copy_(rows.key), memory->value.copy_(rows.value);
    memory->bias_key.zero_(), memory->bias_value.zero_();
    if (rows.key_bias.defined()) memory->bias_key.copy_(rows.key_bias);
    block.ffn.instead = [memory, end = block.ffn.value_bias](const torch::Tensor& x) mutable {
      auto sizes = x.sizes().vec();
      sizes.pop_back();
      const auto y = std::get<0>(memory->forward(x, torch::zeros(sizes, torch::kLong)));
      return end.defined() ? y + end : y;
    };
  }
}

}  // namespace cajal::surgery
