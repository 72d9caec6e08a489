#pragma once
#include <variant>

#include "cajal/core/options.h"
#include "cajal/layers/graph/sparse.h"
#include "cajal/neurons/activation.h"

namespace cajal {

struct GcnOptions {
  int64_t inputs = 0, outputs = 0;
  bool bias = true;
  Activation law = Activation::identity;
};
CAJAL_OPTIONS(GcnOptions, inputs, outputs, bias, law)

/// Graph convolution, y = law(D^-1/2 (A + I) D^-1/2 x Wᵀ + b); D counts the messages that reach a
/// node, its own included. Shapes: x [nodes, inputs], edges i64 [2, edges] (row 0 from, row 1 to)
/// -> y [nodes, outputs]; weight [outputs, inputs], bias [outputs]. An undirected edge is given
/// both ways; loops given are not doubled. Throws Error when the last axis of x is not `inputs`.
/// Source: Kipf, Welling 2017, arXiv 1609.02907; dossier forward-gnn.
class GcnImpl : public torch::nn::Module {
 public:
  explicit GcnImpl(const GcnOptions& options);
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& edges) const;
  torch::Tensor on(const graph::Features& x, const graph::Pattern& pattern,
                   const torch::Tensor& value) const;

  const GcnOptions options;
  torch::Tensor weight, bias;
};
TORCH_MODULE(Gcn);

struct GraphSageOptions {
  int64_t inputs = 0, outputs = 0;
  bool bias = true;
  Activation law = Activation::identity;
};
CAJAL_OPTIONS(GraphSageOptions, inputs, outputs, bias, law)

/// GraphSAGE with the mean: y = law(W_l · mean of the neighbours' x + W_r x + b); the mean of no
/// neighbour is 0. Shapes: x [nodes, inputs], edges i64 [2, edges] -> y [nodes, outputs]; weight_l
/// and weight_r [outputs, inputs], bias [outputs].
/// Source: Hamilton, Ying, Leskovec 2017, arXiv 1706.02216; dossier forward-gnn.
class GraphSageImpl : public torch::nn::Module {
 public:
  explicit GraphSageImpl(const GraphSageOptions& options);
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& edges) const;
  torch::Tensor on(const graph::Features& x, const graph::Pattern& pattern,
                   const torch::Tensor& value) const;

  const GraphSageOptions options;
  torch::Tensor weight_l, weight_r, bias;
};
TORCH_MODULE(GraphSage);

struct GatOptions {
  int64_t inputs = 0, outputs = 0;  // outputs of all heads together
  int64_t heads = 4;
  double negative_slope = 0.2;
  bool bias = true;
  Activation law = Activation::identity;
};
CAJAL_OPTIONS(GatOptions, inputs, outputs, heads, negative_slope, bias, law)

/// Graph attention: with h = x Wᵀ cut into heads, node i weighs the message of j by the softmax
/// over j of leaky_relu(source · h_j + target · h_i), its own message included; heads are
/// concatenated. Shapes: x [nodes, inputs], edges i64 [2, edges] -> y [nodes, outputs]; weight
/// [outputs, inputs], source and target [heads, outputs / heads], bias [outputs]. Throws Error when
/// `heads` does not divide `outputs`. Source: Velickovic et al. 2018, arXiv 1710.10903; dossier
/// forward-gnn.
class GatImpl : public torch::nn::Module {
 public:
  explicit GatImpl(const GatOptions& options);
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& edges) const;
  torch::Tensor on(const graph::Features& x, const graph::Pattern& pattern,
                   const torch::Tensor& value = {}) const;

  const GatOptions options;
  torch::Tensor weight, source, target, bias;
};
TORCH_MODULE(Gat);

namespace graph {

enum class Convolution { gcn, sage, gat };

/// The messages of a graph as a kind of convolution wants them, with their fixed weights.
struct Wiring {
  Pattern pattern;
  torch::Tensor value;  // [entries] or undefined
};
Wiring wire(Convolution kind, const torch::Tensor& edges, int64_t nodes);

/// Weights D^-1/2 A D^-1/2 of a pattern with loops.
torch::Tensor symmetric_weights(const Pattern& pattern);
/// 1 over the number of messages of the row.
torch::Tensor mean_weights(const Pattern& pattern);

/// Any of the three, with ReLU after it unless `law` says otherwise.
class AnyConvolution {
 public:
  AnyConvolution(Convolution kind, int64_t inputs, int64_t outputs,
                 Activation law = Activation::relu);
  torch::Tensor operator()(const Features& x, const Wiring& wiring) const;
  std::vector<torch::Tensor> parameters() const;

 private:
  std::variant<Gcn, GraphSage, Gat> layer_;
};

}  // namespace graph
}  // namespace cajal

CAJAL_ENUM(cajal::graph::Convolution, {cajal::graph::Convolution::gcn, "gcn"},
           {cajal::graph::Convolution::sage, "sage"}, {cajal::graph::Convolution::gat, "gat"})
