#pragma once
#include "cajal/core/options.h"
#include "cajal/core/torch.h"

namespace cajal {

struct ProductQuantizerOptions {
  int64_t width = 0;           // features of a vector
  int64_t codewords = 16;      // of each sub-space, at most 256
  int64_t code_width = 8;      // features of a sub-space; divides width
  bool stop_gradient = false;  // the loss moves the codebooks alone, not z
};
CAJAL_OPTIONS(ProductQuantizerOptions, width, codewords, code_width, stop_gradient)

/// Product quantiser: z is cut into width / code_width sub-vectors, each replaced by the codeword
/// nearest by L1. Loss: mean (z_w - z_q)² + mean (z - z_q)², z_q the codeword and
/// z_w = Σ_j softmax_j(-ln max(|z - C_j|₁, 1e-5)) C_j; its gradients go to codebooks and z.
/// Shapes: z [..., width] -> y [..., width] (z_q; no gradient to z), loss [], codes i64 [...,
/// spaces]; codebooks [spaces, codewords, code_width] ~ N(0, 1). On the CPU, fp32 or double.
/// Throws Error for options that do not fit together and for a wrong last axis of z.
/// Source: Gui et al. 2023, arXiv 2312.10365; dossier spt (Build 1).
class ProductQuantizerImpl : public torch::nn::Module {
 public:
  explicit ProductQuantizerImpl(const ProductQuantizerOptions& options);
  std::tuple<torch::Tensor, torch::Tensor, torch::Tensor> forward(const torch::Tensor& z) const;

  torch::Tensor codes(const torch::Tensor& z) const;  // u8 [..., spaces]
  torch::Tensor loss(const torch::Tensor& z) const;   // []
  /// Codebooks from the vectors themselves by `rounds` of Lloyd's iterations.
  void fit(const torch::Tensor& z, int64_t rounds, uint64_t seed);

  int64_t spaces() const { return options.width / options.code_width; }

  const ProductQuantizerOptions options;
  torch::Tensor codebooks;

 private:
  torch::Tensor rows_of(const torch::Tensor& z) const;
};
TORCH_MODULE(ProductQuantizer);

}  // namespace cajal
