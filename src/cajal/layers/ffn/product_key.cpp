#include "cajal/layers/ffn/product_key.h"

#include <algorithm>
#include <cmath>

#include "cajal/layers/init.h"
#include "cajal/layers/layer.h"

namespace cajal {
namespace {

ProductKeyMemoryOptions checked(ProductKeyMemoryOptions o) {
  if (o.outputs == 0) o.outputs = o.width;
  if (o.key_width == 0) o.key_width = o.width;
  require(o.width > 0 && o.outputs > 0 && o.heads > 0,
          "product_key_memory: width, outputs and heads must be positive, got {}, {} and {}",
          o.width, o.outputs, o.heads);
  require(o.sub_keys > 0 && o.sub_keys <= 65536,
          "product_key_memory: sub_keys is {}, expected 1 to 65536", o.sub_keys);
  require(o.key_width > 0 && o.key_width % 2 == 0,
          "product_key_memory: key_width is {}, expected an even number", o.key_width);
  require(o.top > 0 && o.top <= o.sub_keys * o.sub_keys,
          "product_key_memory: top is {}, expected 1 to {} (values)", o.top,
          o.sub_keys * o.sub_keys);
  return o;
}

}  // namespace

std::pair<torch::Tensor, torch::Tensor> top_pairs(const torch::Tensor& first,
                                                  const torch::Tensor& second, int64_t top) {
  const int64_t n = first.size(1), kept = std::min(top, n);
  const auto [a, i] = first.topk(kept, 1);
  const auto [b, j] = second.topk(kept, 1);
  const auto sums = (a.unsqueeze(2) + b.unsqueeze(1)).flatten(1);
  const auto pairs = (i.unsqueeze(2) * n + j.unsqueeze(1)).flatten(1);
  const auto [best, place] = sums.topk(top, 1);
  return {best, pairs.gather(1, place)};
}

ProductKeyMemoryImpl::ProductKeyMemoryImpl(const ProductKeyMemoryOptions& o) : options(checked(o)) {
  const auto& p = options;
  query_w = register_parameter("query_w", init::fan_in_uniform({p.heads * p.key_width, p.width}));
  query_b = register_parameter("query_b", init::fan_in_uniform({p.heads * p.key_width}, p.width));
  keys =
      register_parameter("keys", init::fan_in_uniform({p.heads, 2, p.sub_keys, p.key_width / 2}));
  values = register_parameter("values", torch::randn({p.sub_keys * p.sub_keys, p.outputs}) /
                                            std::sqrt(static_cast<double>(p.outputs)));
}

torch::Tensor ProductKeyMemoryImpl::forward(const torch::Tensor& x) const {
  const auto& p = options;
  require(x.dim() > 0 && x.size(-1) == p.width,
          "product_key_memory: x is {}, expected [..., width] with width = {}",
          shape_text(x.sizes()), p.width);
  const auto rows = x.reshape({-1, p.width});
  const auto queries =
      torch::linear(rows, query_w, query_b).view({rows.size(0), p.heads, 2, p.key_width / 2});
  torch::Tensor y;
  for (int64_t head = 0; head < p.heads; ++head) {
    const auto half = [&](int64_t h) {
      return torch::linear(queries.select(1, head).select(1, h), keys[head][h]);
    };
    const auto [scores, at] = top_pairs(half(0), half(1), p.top);
    const auto picked = values.index_select(0, at.flatten()).view({rows.size(0), p.top, -1});
    const auto part = torch::softmax(scores, -1).unsqueeze(1).matmul(picked).squeeze(1);
    y = y.defined() ? y + part : part;
  }
  auto sizes = x.sizes().vec();
  sizes.back() = p.outputs;
  return y.reshape(sizes);
}

namespace {
const auto registered = layers::add<ProductKeyMemory>(
    "product_key_memory", "memory of sub_keys² values found through pairs of sub-keys",
    {.example = {.width = 16, .outputs = 8, .sub_keys = 5, .heads = 2, .top = 4},
     .outputs = {{"y", "[..., outputs]"}}});
}  // namespace
}  // namespace cajal
