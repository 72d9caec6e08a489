#pragma once
#include <cstdint>
#include <vector>

#include "cajal/layers/graph/convolution.h"
#include "cajal/train/local.h"

/// Graph networks that learn layer by layer, no gradient crossing a layer's border, beside the same
/// networks by backpropagation. Source: Park et al. 2024, arXiv 2403.11004; dossier forward-gnn.
namespace cajal::train {

/// Nodes to classify: `edges` i64 [2, edges] holds every link both ways; label -1: none.
struct GraphTask {
  graph::Features features;
  torch::Tensor edges, labels;
  int64_t classes = 0;

  int64_t nodes() const { return labels.numel(); }
};

/// Node ids, i64.
struct NodeSplit {
  torch::Tensor train, valid, test;
};

/// Fold `fold` of `folds` is for testing, a fifth of the rest for validation: 64/16/20 with five.
/// Nodes without a label are in none.
NodeSplit split_nodes(const torch::Tensor& labels, int64_t folds, int64_t fold, uint64_t seed);

enum class VirtualEdges {
  both,      // between a training node and the node of its class, both ways
  to_class,  // to the node of the class alone
};

struct GraphLearning {
  graph::Convolution convolution = graph::Convolution::gcn;
  int64_t layers = 4, hidden = 128;
  LocalOptions optimizer = {};
  int64_t max_epochs = 1000, validate_every = 2, patience = 100;  // epochs, of each layer
  double temperature = 1;                                         // of class logits
  double threshold = 2;                                           // θ of forward-forward goodness
  int64_t negatives = 0;  // wrong labels of forward-forward, at most classes - 1; 0 = all of them
  VirtualEdges virtual_edges = VirtualEdges::both;
  int64_t time_steps = 10,
          first_vote = 1;                // of top-down input at prediction; the first that counts
  bool alternate = false;                // top-down input: even layers first, then the odd ones
  bool validation_labels_known = false;  // the leak of the official label appending, for comparison
};
CAJAL_OPTIONS(GraphLearning, convolution, layers, hidden, optimizer, max_epochs, validate_every,
              patience, temperature, threshold, negatives, virtual_edges, time_steps, first_vote,
              alternate, validation_labels_known)

enum class GraphRule {
  backprop,         // the whole network
  single_forward,   // class nodes, one pass, layer by layer
  top_to_loss,      // the same; the layers above enter a layer's loss
  top_to_input,     // the same; a layer also reads the layer above
  label_appending,  // forward-forward with the label among the features
  virtual_nodes,    // forward-forward with class nodes
  perceptron,       // backpropagation, no graph
};

struct GraphOutcome {
  torch::Tensor predicted;              // i64 [nodes]
  std::vector<torch::Tensor> by_layer;  // predictions of each layer alone, where there are such
  std::vector<torch::Tensor> parameters;
  double train_seconds = 0, predict_seconds = 0;
  int64_t saved_bytes = 0;  // the most that autograd held in a training step, weights left out
  int64_t passes = 0;       // forward passes of one epoch of one layer
  int64_t epochs = 0;       // of all layers
  int64_t crossings = 0;  // parameters of other layers in the graphs of the layers' losses, summed
                          // over all steps; not counted for backpropagation
};

/// Learns by `rule`; labels of nodes that are not in split.train never enter training, those of
/// split.valid only stop it. Throws Error for options without sense.
GraphOutcome learn_nodes(const GraphTask& task, const NodeSplit& split, GraphRule rule,
                         const GraphLearning& options);

/// How far the goodness of forward-forward lies over θ, [nodes] of h [nodes, width]. As published
/// it is a sum of squares in training and their mean in prediction.
torch::Tensor training_surplus(const torch::Tensor& h, double threshold);
torch::Tensor prediction_surplus(const torch::Tensor& h, double threshold);

/// The floor: labels that spread along the edges, those of training nodes fixed.
torch::Tensor label_propagation(const GraphTask& task, const torch::Tensor& known,
                                int64_t rounds = 50);

/// A graph with a node for every class behind its own: features N(0, 1), drawn once.
struct ClassNodes {
  graph::Features features;
  torch::Tensor edges;
  torch::Tensor ids;  // i64 [classes]
};
/// `linked` nodes get edges to the class nodes of `labels` [linked].
ClassNodes with_class_nodes(const GraphTask& task, const torch::Tensor& linked,
                            const torch::Tensor& labels, VirtualEdges kind,
                            const torch::Tensor& class_features);

/// Loss of one single-forward layer, whose graph ends at that layer's weights: cross entropy of
/// h[train] h[class nodes]ᵀ / temperature. `input` may carry a graph; it is cut here.
torch::Tensor class_node_loss(const graph::AnyConvolution& layer, const graph::Features& input,
                              const graph::Wiring& wiring, const torch::Tensor& train,
                              const torch::Tensor& labels, const torch::Tensor& class_ids,
                              double temperature);

/// Links to predict, each pair i64 [2, links].
struct LinkSplit {
  torch::Tensor train, valid, test;         // each link once
  torch::Tensor valid_absent, test_absent;  // as many pairs that are no links
};
/// 64/16/20 of the links of `edges` (each both ways).
LinkSplit split_links(const torch::Tensor& edges, int64_t nodes, uint64_t seed);

enum class LinkLoss {
  cross_entropy,  // logit Σ z_u z_v
  goodness,       // logit Σ (z_u z_v)² - θ
};
struct LinkOutcome {
  double auc = 0;                // of the summed logits, on test links
  std::vector<double> by_layer;  // of each layer alone
};
/// Layer by layer link prediction, one non-link sampled for each link an epoch; messages pass along
/// training links only.
LinkOutcome learn_links(const GraphTask& task, const LinkSplit& split, LinkLoss loss,
                        const GraphLearning& options);

/// Chance that a positive outranks a negative, ties half.
double area_under_curve(const torch::Tensor& positive, const torch::Tensor& negative);

}  // namespace cajal::train

CAJAL_ENUM(cajal::train::VirtualEdges, {cajal::train::VirtualEdges::both, "both"},
           {cajal::train::VirtualEdges::to_class, "to_class"})
CAJAL_ENUM(cajal::train::GraphRule, {cajal::train::GraphRule::backprop, "bp"},
           {cajal::train::GraphRule::single_forward, "sf"},
           {cajal::train::GraphRule::top_to_loss, "sf-top2loss"},
           {cajal::train::GraphRule::top_to_input, "sf-top2input"},
           {cajal::train::GraphRule::label_appending, "ff-la"},
           {cajal::train::GraphRule::virtual_nodes, "ff-vn"},
           {cajal::train::GraphRule::perceptron, "mlp"})
CAJAL_ENUM(cajal::train::LinkLoss, {cajal::train::LinkLoss::cross_entropy, "cross_entropy"},
           {cajal::train::LinkLoss::goodness, "goodness"})
