#pragma once
#include <filesystem>
#include <optional>
#include <string>

#include "cajal/core/options.h"
#include "cajal/core/torch.h"
#include "cajal/layers/pade/conv.h"

namespace cajal {

enum class FrontEnd {
  learned,   // two depthwise convolutions, a law after each
  zero_sum,  // as learned, each kernel less its mean and no bias: brightness drops out exactly
  fixed,     // difference of Gaussians, then divisive normalisation: contrast drops out too
};
enum class KernelStart { centre_surround, random };

struct PrecorticalOptions {
  int64_t channels = 1;
  FrontEnd front = FrontEnd::learned;
  int64_t kernel = 7;        // of learned and zero_sum
  std::string law = "tanh";  // of learned and zero_sum
  KernelStart start = KernelStart::centre_surround;
  std::optional<Padding> padding_mode = {};     // zeros for learned, else reflect
  double sigma_centre = 1, sigma_surround = 2;  // pixels
  double sigma_pool = 4;                        // of the local energy
  double epsilon = 1e-4;                        // under the root
  bool relative_epsilon = false;                // times the mean energy of each channel and picture
  bool on_off = false;                          // max(y, 0) and max(-y, 0) as channels of their own
};

/// A model of retina and LGN before a vision network.
/// Shapes: x [batch, channels, height, width] -> y alike, or with 2 channels times as many for
/// on_off; weight1, weight2 [channels, kernel, kernel], bias1, bias2 [channels] (learned).
///   learned:  y = law(K2 * law(K1 * x + b1) + b2), one kernel a channel
///   zero_sum: the same with K - mean(K) for K and no biases
///   fixed:    y = r / sqrt(G_pool * r² + epsilon), r = (G_centre - G_surround) * x
/// The layer sizes are our reading of the paper. Throws Error for pictures smaller than a kernel's
/// reach.
/// Source: Fioresi and Petkovic 2022, arXiv 2202.07432; dossier precortical.
class PrecorticalImpl : public torch::nn::Module {
 public:
  explicit PrecorticalImpl(const PrecorticalOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;

  /// The kernel of that stage (1 or 2) as it is applied, [channels, kernel, kernel].
  torch::Tensor applied_kernel(int stage) const;

  const PrecorticalOptions options;
  torch::Tensor weight1, weight2, bias1, bias2;

 private:
  torch::Tensor stage(int which, const torch::Tensor& x) const;
};
TORCH_MODULE(Precortical);

/// x blurred by a Gaussian of that deviation, channel by channel, edges mirrored; cut off at 4
/// deviations. x [batch, channels, height, width]. Throws Error for pictures smaller than that.
torch::Tensor blur(const torch::Tensor& x, double sigma);

/// For each pixel of [height, width] the index k of the angle θ = kπ / angles with the largest
/// |-sin θ ∂x + cos θ ∂y| of the picture blurred by sigma: V1's orientation map; int64.
torch::Tensor orientation_map(const torch::Tensor& picture, int64_t angles = 16,
                              double sigma = 1.5);

/// Sum of each kernel over its sum of sizes: 0 where the surround balances the centre; [channels].
torch::Tensor kernel_balance(const torch::Tensor& kernels);

/// Kernels [channels, height, width] side by side as a grey picture, 0 in the middle of the range.
void write_kernels(const std::filesystem::path& path, const torch::Tensor& kernels);

}  // namespace cajal

CAJAL_ENUM(cajal::FrontEnd, {cajal::FrontEnd::learned, "learned"},
           {cajal::FrontEnd::zero_sum, "zero_sum"}, {cajal::FrontEnd::fixed, "fixed"})
CAJAL_ENUM(cajal::KernelStart, {cajal::KernelStart::centre_surround, "centre_surround"},
           {cajal::KernelStart::random, "random"})

namespace cajal {
CAJAL_OPTIONS(PrecorticalOptions, channels, front, kernel, law, start, padding_mode, sigma_centre,
              sigma_surround, sigma_pool, epsilon, relative_epsilon, on_off)
}  // namespace cajal
