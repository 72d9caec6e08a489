#pragma once
#include <vector>

#include "cajal/surgery/concept_neurons.h"

namespace cajal::surgery {

/// What may change when a subject is taught by gradient steps: the rivals of concept neurons.
enum class TunedPart {
  everything,   // DreamBooth: the whole model
  keys_values,  // Custom Diffusion: key and value weights of cross-attention
  token,        // Textual Inversion: the embedding of the subject's word
  low_rank,     // LoRA: low-rank changes of key and value weights
  masked        // only the entries that a mask names, which start at zero
};

struct TuneOptions {
  TunedPart part = TunedPart::keys_values;
  int64_t steps = 100;
  int64_t batch = 16;               // pictures of each subject and its prior
  double rate = 1e-3;               // of Adam
  double lambda = 1;                // weight of the prior
  int64_t rank = 4;                 // low_rank
  std::vector<int64_t> words = {};  // token: the subjects' words
  IndexLists mask = {};             // masked
};

/// Teaches the subjects with their summed concept loss and leaves the model changed; returns the
/// bytes of what must be stored (fp32, and the mask's code). Throws Error when the mask does not
/// fit or a word is not in the vocabulary.
int64_t tune(diffusion::TextToImage& model, const diffusion::Schedule& schedule,
             const std::vector<Subject>& subjects, const TuneOptions& options);

/// All parameters of the model as they are now, and back, bit by bit.
std::vector<torch::Tensor> snapshot(const torch::nn::Module& model);
void restore(torch::nn::Module& model, const std::vector<torch::Tensor>& snapshot);

}  // namespace cajal::surgery

CAJAL_ENUM(cajal::surgery::TunedPart, {cajal::surgery::TunedPart::everything, "everything"},
           {cajal::surgery::TunedPart::keys_values, "keys_values"},
           {cajal::surgery::TunedPart::token, "token"},
           {cajal::surgery::TunedPart::low_rank, "low_rank"},
           {cajal::surgery::TunedPart::masked, "masked"})
