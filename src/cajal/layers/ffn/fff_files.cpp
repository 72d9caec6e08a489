#include "cajal/layers/ffn/fff_files.h"

#include <bit>

#include "cajal/core/error.h"
#include "cajal/core/torch_tensors.h"
#include "cajal/layers/ffn/fff_tree.h"

namespace cajal::fff {

FastFeedForward load_reference(const std::filesystem::path& path) {
  const auto tensors = load_tensors(path);
  const auto find = [&](const char* name) {
    const auto it = tensors.find(name);
    require(it != tensors.end(), "{}: tensor '{}' is missing", path.string(), name);
    return it->second;
  };
  const auto first = find("w1s"), second = find("w2s");
  require(first.dim() == 3 && second.dim() == 3 && first.numel() > 0 && second.numel() > 0,
          "{}: w1s is {} and w2s {}, expected [leaves, width, leaf_width] and [leaves, leaf_width, "
          "outputs]",
          path.string(), shape_text(first.sizes()), shape_text(second.sizes()));
  const auto leaves = static_cast<uint64_t>(first.size(0));
  require(std::has_single_bit(leaves), "{}: w1s holds {} leaves, expected a power of two",
          path.string(), leaves);
  FastFeedForwardOptions options{.width = first.size(1),
                                 .outputs = second.size(2),
                                 .leaf_width = first.size(2),
                                 .depth = std::countr_zero(leaves)};
  const bool master = tensors.contains("master_w1");
  if (master) options.master = find("master_w1").size(-1);
  FastFeedForward layer(options);
  const torch::NoGradGuard no_grad;
  const auto fill = [&](torch::Tensor& to, const char* name, bool leading = false) {
    auto from = find(name);
    if (leading && from.dim() == to.dim() + 1 && from.size(0) == 1) from = from.squeeze(0);
    require(from.sizes() == to.sizes(), "{}: tensor '{}' is {}, expected {}", path.string(), name,
            shape_text(from.sizes()), shape_text(to.sizes()));
    to.copy_(from);
  };
  fill(layer->node_w, "node_weights"), fill(layer->node_b, "node_biases");
  fill(layer->w1, "w1s"), fill(layer->b1, "b1s");
  fill(layer->w2, "w2s"), fill(layer->b2, "b2s");
  if (!master) return layer;
  fill(layer->master_w1, "master_w1", true), fill(layer->master_b1, "master_b1", true);
  fill(layer->master_w2, "master_w2", true), fill(layer->master_b2, "master_b2", true);
  fill(layer->k, "k");
  return layer;
}

}  // namespace cajal::fff
