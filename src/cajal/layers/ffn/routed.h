#pragma once
#include "cajal/core/options.h"
#include "cajal/core/torch.h"
#include "cajal/neurons/activation.h"

namespace cajal {

/// How the same sum over the chosen blocks is computed.
enum class RoutedForm {
  grouped,  // tokens sorted by block, one product a block
  masked    // all blocks for all tokens, those not chosen times 0
};

/// A correction x left rightᵀ of low rank to a matrix [outputs, inputs]: left [inputs, rank], right
/// [outputs, rank]; undefined = none.
struct LowRank {
  torch::Tensor left, right;
  bool defined() const { return left.defined(); }
  torch::Tensor apply(const torch::Tensor& x) const;
};

/// The neurons of a feed-forward network as rows [neurons, width], in blocks of equal size.
struct NeuronRowsView {
  torch::Tensor key, gate, value;                 // gate undefined unless gated
  torch::Tensor bias_key, bias_gate, bias_value;  // or undefined
  LowRank lora_key, lora_gate, lora_value;        // of key, gate [width -> neurons], value back
  double lora_scale = 1;
};

/// y = Σ over chosen blocks g of c W2ᵀ_g h_g + R2 (A2ᵀ_g h_g), once + bias_value, with
/// h_g = law(c (W1_g x + b_g) + R1_g A1ᵀ x), gated: h_g = law(the same of the gate)(the same of the
/// key), for rows x [rows, width]; `chosen` i64 [rows, k] distinct blocks of `blocks`, c [rows, k]
/// or undefined for 1. Without `chosen` all blocks count and c is 1.
torch::Tensor routed_forward(const torch::Tensor& rows, const NeuronRowsView& neurons,
                             int64_t blocks, const torch::Tensor& chosen, const torch::Tensor& c,
                             Activation law, RoutedForm form);

struct RoutedFeedForwardOptions {
  int64_t width = 0;    // features in and out
  int64_t neurons = 0;  // of all blocks
  int64_t blocks = 4;   // of equal size
  int64_t active = 0;   // blocks that a token reads; 0 = half of them, at least 1
  Activation law = Activation::relu;
  bool gated = false;
  bool bias = true;
  int64_t rank = 0;  // of the low-rank corrections; 0 = the plain form, without them and without c
  double alpha = 0;  // corrections count alpha / rank; 0 = 1, as the reference code
  RoutedForm form = RoutedForm::grouped;
  bool losses = false;  // `forward` also gives the balance loss
};
CAJAL_OPTIONS(RoutedFeedForwardOptions, width, neurons, blocks, active, law, gated, bias, rank,
              alpha, form, losses)

/// Feed-forward network of which a token reads the blocks with the highest σ(x router_wᵀ +
/// router_b). The plain form (rank 0) is routed_forward with c = 1, so that no gradient reaches the
/// router; the form for tuning (rank > 0) has c = 2 σ of the block and low-rank corrections.
/// Shapes: x [..., width] -> y [..., width], loss []; router [blocks, width], router_bias [blocks];
/// key, gate, value [neurons, width], bias_key, bias_gate [neurons], bias_value [width];
/// lora_{key,gate}_left [width, rank], _right [neurons, rank], lora_value_left [neurons, rank],
/// _right [width, rank]. Loss: balancing::load_balance of the σ scaled to sum 1.
/// Throws Error for options that do not fit together and for a wrong last axis of x.
/// Source: Gui et al. 2023, arXiv 2312.10365; dossier spt (Build 4 and 5).
class RoutedFeedForwardImpl : public torch::nn::Module {
 public:
  explicit RoutedFeedForwardImpl(const RoutedFeedForwardOptions& options);

  /// y, and with `losses` the balance loss; else that is undefined.
  std::tuple<torch::Tensor, torch::Tensor> forward(const torch::Tensor& x) const;

  const RoutedFeedForwardOptions options;
  torch::Tensor router, router_bias;
  NeuronRowsView neurons;
};
TORCH_MODULE(RoutedFeedForward);

/// What a router says of rows x: the chosen blocks, best first, σ of every block and, times 2, of
/// the chosen ones.
struct BlockChoice {
  torch::Tensor chosen, c, probability;  // i64 [rows, k], [rows, k], [rows, blocks]
};
BlockChoice choose_blocks(const torch::Tensor& rows, const torch::Tensor& router,
                          const torch::Tensor& bias, int64_t active);

/// right = 0 and left ~ N(0, 1) as the reference code has it, or with `kaiming` left uniform in
/// ±1/√inputs.
LowRank make_low_rank(int64_t inputs, int64_t outputs, int64_t rank, bool kaiming);

}  // namespace cajal

CAJAL_ENUM(cajal::RoutedForm, {cajal::RoutedForm::grouped, "grouped"},
           {cajal::RoutedForm::masked, "masked"})
