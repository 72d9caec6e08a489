#pragma once
#include <string>
#include <vector>

#include "cajal/models/diffusion/schedule.h"
#include "cajal/surgery/index_lists.h"

/// Concept neurons: the few key and value weights of cross-attention whose shutting makes a
/// text-to-image model draw one subject. Source: Liu et al. 2023, arXiv 2303.05125; dossier
/// concept-neurons.
namespace cajal::surgery {

/// A few pictures of one subject with captions that name it, and pictures of its class that the
/// frozen model drew from captions without the name. Pictures in [-1, 1], [n, colours, size, size];
/// captions i64 [n, words].
struct Subject {
  torch::Tensor pictures, words;
  torch::Tensor prior_pictures, prior_words;
};

/// Pictures, steps and noise of one evaluation of the loss: the first half of the subject, the
/// second of the prior.
struct NoiseDraw {
  torch::Tensor pictures, words, steps, noise;
  int64_t own = 0;  // rows of the subject
};
NoiseDraw draw_noise(const Subject& subject, const diffusion::Schedule& schedule, int64_t batch);

/// L_con = mean squared error of the prediction on the subject + lambda times that on its prior;
/// [].
torch::Tensor concept_loss(diffusion::TextToImage& model, const diffusion::Schedule& schedule,
                           const NoiseDraw& draw, double lambda = 1);
/// Its mean over draws, without gradients.
double concept_loss(diffusion::TextToImage& model, const diffusion::Schedule& schedule,
                    const std::vector<NoiseDraw>& draws, double lambda = 1);

/// The key and value weights of all cross-attentions, in order: key, value, key, value ...
std::vector<torch::Tensor> key_value_weights(diffusion::TextToImage& model);
std::vector<std::string> key_value_names(const diffusion::TextToImage& model);

/// dL/dk at the gates k of weights theta: theta ∘ dL/d(k ∘ theta). The weights are left as they
/// were. gates [of each matrix]; undefined = ones.
std::vector<torch::Tensor> gate_gradients(diffusion::TextToImage& model,
                                          const diffusion::Schedule& schedule,
                                          const NoiseDraw& draw,
                                          const std::vector<torch::Tensor>& gates, double lambda);

enum class NeuronScore {
  gate,       // k <- clip(k - rho dL/dk, 0, 1) over many draws; shut k < tau
  one_shot,   // Σ theta g / √Σ (theta g)²: the largest
  magnitude,  // |theta|: the largest
  gradient,   // mean |dL/dk|, without sign
  random
};

struct ConceptOptions {
  NeuronScore score = NeuronScore::gate;
  double share = 0.02;  // of the weights, at most
  int64_t draws = 200;
  int64_t batch = 16;  // pictures a draw, half of them prior
  double tau = 0.5;
  double pace = 2;    // rho is so many times what would just bring the share to tau
  bool rows = false;  // one gate a row: a whole neuron of the key or value map
  double lambda = 1;
  bool back_off = true;  // halve the share while shutting raises the loss of fresh draws
};

struct ConceptNeurons {
  IndexLists shut;
  std::vector<torch::Tensor> gates;  // as the search left them (`gate`), else ones
  double before = 0, after = 0;      // loss of the draws that decided about backing off
};

/// Finds them; the model is left as it was. Draws from libtorch's generator.
ConceptNeurons find_concept_neurons(diffusion::TextToImage& model,
                                    const diffusion::Schedule& schedule, const Subject& subject,
                                    const ConceptOptions& options);

}  // namespace cajal::surgery

CAJAL_ENUM(cajal::surgery::NeuronScore, {cajal::surgery::NeuronScore::gate, "gate"},
           {cajal::surgery::NeuronScore::one_shot, "one_shot"},
           {cajal::surgery::NeuronScore::magnitude, "magnitude"},
           {cajal::surgery::NeuronScore::gradient, "gradient"},
           {cajal::surgery::NeuronScore::random, "random"})

namespace cajal::surgery {
CAJAL_OPTIONS(ConceptOptions, score, share, draws, batch, tau, pace, rows, lambda, back_off)
}  // namespace cajal::surgery
