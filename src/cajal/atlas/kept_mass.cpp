#include "cajal/atlas/kept_mass.h"

#include "cajal/core/error.h"

namespace cajal::atlas {

std::vector<double> kept_mass(lm::Adapted& model, std::span<const int32_t> ids,
                              std::span<const KeySearch> searches) {
  const auto parameters = model->named_parameters();
  require(parameters.contains("layers_0.codebooks"),
          "softmax mass: the model is adapted without quantisers of queries and keys");
  std::vector<double> mass(searches.size());
  int64_t layers = 0;
  const torch::NoGradGuard no_grad;
  model->watch = [&](int64_t layer, const torch::Tensor& q, const torch::Tensor& k) {
    ++layers;
    const auto& codebooks = parameters[fmt::format("layers_{}.codebooks", layer)];
    for (size_t s = 0; s < searches.size(); ++s) {
      SparseAttention by(SparseAttentionOptions{.head_width = q.size(3),
                                                .search = searches[s],
                                                .codewords = codebooks.size(1),
                                                .code_width = codebooks.size(2)});
      by->quantizer->codebooks = codebooks;
      mass[s] += mixers::listed_mass(q.flatten(0, 1).contiguous(), k.flatten(0, 1).contiguous(),
                                     by->search(q, k), by->scale(), /*causal=*/true);
    }
  };
  model->forward(
      torch::tensor(std::vector<int32_t>(ids.begin(), ids.end())).to(torch::kLong).unsqueeze(0));
  model->watch = {};
  for (auto& m : mass) m /= static_cast<double>(layers);
  return mass;
}

}  // namespace cajal::atlas
