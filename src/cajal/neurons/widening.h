#pragma once
#include <string>

#include "cajal/core/options.h"
#include "cajal/core/torch.h"

/// Activations that change the number of channels (axis 1): x [batch, channels, ...].
/// Source: the survey of dossier activation-survey and the papers named.
namespace cajal {

struct ConcatenatedReluOptions {};
/// [max(x, 0), max(-x, 0)]: twice the channels. Source: Shang et al. 2016, arXiv 1603.05201.
class ConcatenatedReluImpl : public torch::nn::Module {
 public:
  explicit ConcatenatedReluImpl(const ConcatenatedReluOptions& o) : options(o) {}
  torch::Tensor forward(const torch::Tensor& x) const;
  const ConcatenatedReluOptions options;
};
TORCH_MODULE(ConcatenatedRelu);

struct PairedReluOptions {
  double scale = 0.5, threshold = 0, second_scale = -0.5, second_threshold = 0;  // starts
};
/// [max(s x - t, 0), max(s' x - t', 0)]: twice the channels; s, t, s', t' = scale, threshold,
/// second_scale, second_threshold [1] are learned. Source: Tang et al. 2018.
class PairedReluImpl : public torch::nn::Module {
 public:
  explicit PairedReluImpl(const PairedReluOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;
  const PairedReluOptions options;
  torch::Tensor scale, threshold, second_scale, second_threshold;
};
TORCH_MODULE(PairedRelu);

struct DualReluOptions {};
/// max(a, 0) - max(b, 0), a and b the halves of the channels. Source: Godin et al. 2018.
class DualReluImpl : public torch::nn::Module {
 public:
  explicit DualReluImpl(const DualReluOptions& o) : options(o) {}
  torch::Tensor forward(const torch::Tensor& x) const;
  const DualReluOptions options;
};
TORCH_MODULE(DualRelu);

struct MaxoutOptions {
  int64_t pieces = 2;
};
/// The largest of each `pieces` neighbouring channels. Source: Goodfellow et al. 2013, arXiv
/// 1302.4389.
class MaxoutImpl : public torch::nn::Module {
 public:
  explicit MaxoutImpl(const MaxoutOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;
  const MaxoutOptions options;
};
TORCH_MODULE(Maxout);

struct GatedUnitOptions {
  std::string law = "sigmoid";  // "silu" makes SwiGLU, "gelu" GEGLU, "relu" ReGLU
};
/// a law(b), a and b the halves of the channels. Source: Dauphin et al. 2017, arXiv 1612.08083;
/// Shazeer 2020, arXiv 2002.05202 (not in the survey).
class GatedUnitImpl : public torch::nn::Module {
 public:
  explicit GatedUnitImpl(const GatedUnitOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;
  const GatedUnitOptions options;
};
TORCH_MODULE(GatedUnit);

inline void read_options(const Json& json, const std::string& where, ConcatenatedReluOptions&) {
  options::require_object(json, where);
  options::refuse_unknown_keys(json, where, {});
}
inline Json write_options(const ConcatenatedReluOptions&) { return Json::object(); }
inline void read_options(const Json& json, const std::string& where, DualReluOptions&) {
  options::require_object(json, where);
  options::refuse_unknown_keys(json, where, {});
}
inline Json write_options(const DualReluOptions&) { return Json::object(); }
CAJAL_OPTIONS(PairedReluOptions, scale, threshold, second_scale, second_threshold)
CAJAL_OPTIONS(MaxoutOptions, pieces)
CAJAL_OPTIONS(GatedUnitOptions, law)

}  // namespace cajal
