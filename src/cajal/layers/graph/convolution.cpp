#include "cajal/layers/graph/convolution.h"

#include <cmath>
#include <utility>

#include "cajal/layers/init.h"
#include "cajal/layers/layer.h"

namespace cajal {
namespace {

void require_sizes(const char* name, int64_t inputs, int64_t outputs) {
  require(inputs > 0 && outputs > 0, "{}: inputs and outputs must be positive, got {} and {}", name,
          inputs, outputs);
}

void require_width(const char* name, const torch::Tensor& x, int64_t inputs) {
  require(x.dim() == 2 && x.size(1) == inputs,
          "{}: x is {}, expected [nodes, inputs] with inputs = {}", name, shape_text(x.sizes()),
          inputs);
}

torch::Tensor with_bias(const torch::Tensor& y, const torch::Tensor& bias, Activation law) {
  return activate(law, bias.defined() ? y + bias : y);
}

/// Glorot's uniform start, as graph convolutions are published with.
torch::Tensor glorot(int64_t rows, int64_t columns) {
  const double bound = std::sqrt(6.0 / static_cast<double>(rows + columns));
  return torch::empty({rows, columns}).uniform_(-bound, bound);
}

}  // namespace

GcnImpl::GcnImpl(const GcnOptions& o) : options(o) {
  require_sizes("gcn", o.inputs, o.outputs);
  weight = register_parameter("weight", glorot(o.outputs, o.inputs));
  if (o.bias) bias = register_parameter("bias", torch::zeros({o.outputs}));
}

torch::Tensor GcnImpl::forward(const torch::Tensor& x, const torch::Tensor& edges) const {
  require_width("gcn", x, options.inputs);
  const auto pattern = graph::messages_with_loops(edges, x.size(0));
  return on(x, pattern, graph::symmetric_weights(pattern).to(x.scalar_type()));
}

torch::Tensor GcnImpl::on(const graph::Features& x, const graph::Pattern& pattern,
                          const torch::Tensor& value) const {
  return with_bias(graph::multiply(pattern, value, x.times(weight)), bias, options.law);
}

GraphSageImpl::GraphSageImpl(const GraphSageOptions& o) : options(o) {
  require_sizes("graph_sage", o.inputs, o.outputs);
  weight_l = register_parameter("weight_l", init::fan_in_uniform({o.outputs, o.inputs}));
  weight_r = register_parameter("weight_r", init::fan_in_uniform({o.outputs, o.inputs}));
  if (o.bias) bias = register_parameter("bias", init::fan_in_uniform({o.outputs}, o.inputs));
}

torch::Tensor GraphSageImpl::forward(const torch::Tensor& x, const torch::Tensor& edges) const {
  require_width("graph_sage", x, options.inputs);
  const auto pattern = graph::messages(edges, x.size(0));
  return on(x, pattern, graph::mean_weights(pattern).to(x.scalar_type()));
}

torch::Tensor GraphSageImpl::on(const graph::Features& x, const graph::Pattern& pattern,
                                const torch::Tensor& value) const {
  // The mean of projections is the projection of the mean, and they are fewer.
  const auto neighbours = graph::multiply(pattern, value, x.times(weight_l));
  return with_bias(neighbours + x.times(weight_r), bias, options.law);
}

GatImpl::GatImpl(const GatOptions& o) : options(o) {
  require_sizes("gat", o.inputs, o.outputs);
  require(o.heads > 0 && o.outputs % o.heads == 0, "gat: {} heads do not divide {} outputs",
          o.heads, o.outputs);
  require(o.negative_slope >= 0, "gat: negative_slope: expected 0 or more, got {}",
          o.negative_slope);
  const auto width = o.outputs / o.heads;
  weight = register_parameter("weight", glorot(o.outputs, o.inputs));
  source = register_parameter("source", glorot(o.heads, width));
  target = register_parameter("target", glorot(o.heads, width));
  if (o.bias) bias = register_parameter("bias", torch::zeros({o.outputs}));
}

torch::Tensor GatImpl::forward(const torch::Tensor& x, const torch::Tensor& edges) const {
  require_width("gat", x, options.inputs);
  return on(x, graph::messages_with_loops(edges, x.size(0)));
}

torch::Tensor GatImpl::on(const graph::Features& x, const graph::Pattern& pattern,
                          const torch::Tensor&) const {
  const auto h = x.times(weight).view({-1, options.heads, options.outputs / options.heads});
  const auto from = (h * source).sum(-1).index_select(0, pattern.column);
  const auto to = (h * target).sum(-1).index_select(0, pattern.row);
  const auto share =
      graph::row_softmax(pattern, torch::leaky_relu(from + to, options.negative_slope));
  return with_bias(graph::multiply(pattern, share, h).flatten(1), bias, options.law);
}

namespace graph {
namespace {

torch::Tensor messages_of_rows(const Pattern& p) {
  return (p.begin.narrow(0, 1, p.rows) - p.begin.narrow(0, 0, p.rows)).to(torch::kDouble);
}

}  // namespace

torch::Tensor symmetric_weights(const Pattern& p) {
  const auto scale = messages_of_rows(p).rsqrt();
  return scale.index_select(0, p.row) * scale.index_select(0, p.column);
}

torch::Tensor mean_weights(const Pattern& p) {
  return messages_of_rows(p).reciprocal().index_select(0, p.row);
}

Wiring wire(Convolution kind, const torch::Tensor& edges, int64_t nodes) {
  if (kind == Convolution::sage) {
    auto pattern = messages(edges, nodes);
    const auto value = mean_weights(pattern).to(torch::kFloat);
    return {std::move(pattern), value};
  }
  auto pattern = messages_with_loops(edges, nodes);
  if (kind == Convolution::gat) return {std::move(pattern), {}};
  const auto value = symmetric_weights(pattern).to(torch::kFloat);
  return {std::move(pattern), value};
}

AnyConvolution::AnyConvolution(Convolution kind, int64_t inputs, int64_t outputs, Activation law)
    : layer_(kind == Convolution::gcn
                 ? decltype(layer_)(Gcn(GcnOptions{inputs, outputs, true, law}))
             : kind == Convolution::sage
                 ? decltype(layer_)(GraphSage(GraphSageOptions{inputs, outputs, true, law}))
                 : decltype(layer_)(Gat(
                       GatOptions{inputs, outputs, outputs % 4 == 0 ? 4 : 1, 0.2, true, law}))) {}

torch::Tensor AnyConvolution::operator()(const Features& x, const Wiring& wiring) const {
  return std::visit([&](const auto& l) { return l->on(x, wiring.pattern, wiring.value); }, layer_);
}

std::vector<torch::Tensor> AnyConvolution::parameters() const {
  return std::visit([](const auto& l) { return l->parameters(); }, layer_);
}

}  // namespace graph

namespace {
const std::vector<layers::Port> kInputs{{"x", "[nodes, inputs]"}, {"edges", "[2, edges]", "nodes"}};
const std::vector<layers::Port> kOutputs{{"y", "[nodes, outputs]"}};
const layers::Axes kAxes{{{"nodes", 24}, {"edges", 64}}, {}};

const auto gcn = layers::add<Gcn>("gcn", "graph convolution with symmetric normalisation",
                                  {.example = {.inputs = 16, .outputs = 8},
                                   .inputs = kInputs,
                                   .outputs = kOutputs,
                                   .axes = kAxes});
const auto sage =
    layers::add<GraphSage>("graph_sage", "graph convolution over the mean of the neighbours",
                           {.example = {.inputs = 16, .outputs = 8},
                            .inputs = kInputs,
                            .outputs = kOutputs,
                            .axes = kAxes});
const auto gat = layers::add<Gat>("gat", "graph attention",
                                  {.example = {.inputs = 16, .outputs = 8},
                                   .inputs = kInputs,
                                   .outputs = kOutputs,
                                   .axes = kAxes});
}  // namespace
}  // namespace cajal
