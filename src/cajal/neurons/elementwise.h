#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/torch.h"
#include "cajal/kernels/laws.h"

namespace cajal {

/// law(x) at every element, in x's shape, type and device. `parameters` is [parameters], one set
/// for all elements, or [parameters, channels], one for each index of `axis`; undefined for a law
/// without any. Keeps only x for backward. fp32 and double on the CPU run in one fused pass; other
/// types and devices as a chain of operations (16-bit ones in fp32).
/// Throws Error when the shape of `parameters` does not fit.
torch::Tensor apply_law(const laws::Law& law, const torch::Tensor& x,
                        const torch::Tensor& parameters = {}, int64_t axis = 1);

/// The same as a chain of libtorch operations with its gradient: what `apply_law` is compared with.
torch::Tensor apply_law_as_chain(const laws::Law& law, const torch::Tensor& x,
                                 const torch::Tensor& parameters = {}, int64_t axis = 1);

enum class Per { layer, channel };

struct ElementwiseOptions {
  std::string law = "relu";
  Per per = Per::layer;            // one set of parameters for the layer, or one a channel
  int64_t channels = 0;            // for Per::channel
  int64_t axis = 1;                // where the channels are; -1 is the last
  bool learn = true;               // false: the law's parameters stay as they are
  std::vector<double> start = {};  // of the law's parameters, in its order; empty: the law's own
};

/// A law as a module; its learned parameters are tensors by their name, [1] or [channels].
/// Shapes: x [...] -> y [...].
/// Throws Error for an unknown law, a wrong number of starts, or channels that do not fit.
/// Source: Dubey, Singh, Chaudhuri 2022, arXiv 2109.14545; dossier activation-survey.
class ElementwiseImpl : public torch::nn::Module {
 public:
  explicit ElementwiseImpl(const ElementwiseOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;

  const ElementwiseOptions options;
  const laws::Law& law;

 private:
  std::vector<torch::Tensor> parameters_;
};
TORCH_MODULE(Elementwise);

/// "mish", "prelu:per_channel,slope=0.1", "swish:fixed,init=0.25": a law, then options; `init`
/// names its first parameter. `channels` is that of the network the law stands in.
/// Throws Error that says which part of the text is wrong.
ElementwiseOptions parse_elementwise(std::string_view text, int64_t channels = 0, int64_t axis = 1);

}  // namespace cajal

CAJAL_ENUM(cajal::Per, {cajal::Per::layer, "layer"}, {cajal::Per::channel, "channel"})

namespace cajal {
CAJAL_OPTIONS(ElementwiseOptions, law, per, channels, axis, learn, start)
}  // namespace cajal
