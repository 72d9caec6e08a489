#pragma once
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/torch.h"

namespace cajal {

/// How a Padé neuron divides its polynomials P_M = w0 + Σ a_k x^k and Q_N = 1 + Σ b_k x^k.
enum class PadeForm {
  a,      // Paon-A: P_M / (1 + Σ |b_k x^k|), the absolute value of every power's term
  s,      // Paon-S: (Q_N P_M + Q_{N-1} P_{M-1}) / (Q_N² + Q_{N-1}²)
  plain,  // P_M / Q_N, with Q_N kept 1e-6 away from 0: for analysis, not for training
};

/// The neuron's value from the terms a_k x^k and b_k x^k of its powers 1..M and 1..N, all of one
/// shape, and w0 that broadcasts to it. Either list may be empty, not both. Without a denominator
/// it is P_M; in the smooth form P_0 = w0, Q_0 = 1, and for M = 0 the numerator is Q_N w0. Source:
/// Keleş and Tekalp 2024, arXiv 2403.11791; dossier paon.
torch::Tensor pade(PadeForm form, const std::vector<torch::Tensor>& numerator,
                   const std::vector<torch::Tensor>& denominator, const torch::Tensor& w0);

/// What `pade` divides by: its smallest value tells how near a network is to a pole.
torch::Tensor pade_divisor(PadeForm form, const std::vector<torch::Tensor>& denominator);

/// Where the weights of a denominator start: 0, but 1e-9 for Paon-A. |b x| has no gradient at b =
/// 0, so from the official start of exactly 0 its denominators never learn.
torch::Tensor pade_start(PadeForm form, torch::IntArrayRef sizes);

/// x, x², ... x^degree, by repeated multiplication.
std::vector<torch::Tensor> powers(const torch::Tensor& x, int64_t degree);

struct PadeLinearOptions {
  int64_t inputs = 0, outputs = 0;
  int64_t numerator = 1, denominator = 1;  // degrees M and N
  PadeForm form = PadeForm::s;
};

/// Padé neurons on all inputs: y_o = pade(a x^k, b x^k); no activation follows.
/// Shapes: x [..., inputs] -> y [..., outputs]; a [M, outputs, inputs], b [N, outputs, inputs],
/// w0 [outputs]. Starts as a linear map: a_1 uniform with variance 1 / inputs, all else but w0 is
/// 0. Throws Error for degrees that are negative, above 16 or both 0. Source: Keleş and Tekalp
/// 2024, arXiv 2403.11791; dossier paon.
class PadeLinearImpl : public torch::nn::Module {
 public:
  explicit PadeLinearImpl(const PadeLinearOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;
  torch::Tensor divisor(const torch::Tensor& x) const;

  const PadeLinearOptions options;
  torch::Tensor a, b, w0;  // a or b undefined where its degree is 0
};
TORCH_MODULE(PadeLinear);

struct GenerativeLinearOptions {
  int64_t inputs = 0, outputs = 0;
  int64_t order = 3;
};

/// Generative neurons (Self-ONN), tanh(w0 + Σ a_k x^k) for k = 1..order: the Padé neuron [order/0]
/// and tanh. Shapes as PadeLinear.
/// Source: Kiranyaz et al. 2021, arXiv 2004.11778; dossier paon.
class GenerativeLinearImpl : public torch::nn::Module {
 public:
  explicit GenerativeLinearImpl(const GenerativeLinearOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

  const GenerativeLinearOptions options;
  PadeLinear neuron{nullptr};
};
TORCH_MODULE(GenerativeLinear);

struct QuadraticLinearOptions {
  int64_t inputs = 0, outputs = 0;
};

/// Quadratic neurons, w0 + a_1 x + a_2 x²: the Padé neuron [2/0]. Shapes as PadeLinear.
/// Source: Fan, Xiong, Wang 2020, arXiv 1708.00557 (its elementwise form); dossier paon.
class QuadraticLinearImpl : public torch::nn::Module {
 public:
  explicit QuadraticLinearImpl(const QuadraticLinearOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

  const QuadraticLinearOptions options;
  PadeLinear neuron{nullptr};
};
TORCH_MODULE(QuadraticLinear);

/// Throws Error unless 0 <= M, N <= 16 and one of them is positive.
void require_degrees(const char* who, int64_t numerator, int64_t denominator);

}  // namespace cajal

CAJAL_ENUM(cajal::PadeForm, {cajal::PadeForm::a, "a"}, {cajal::PadeForm::s, "s"},
           {cajal::PadeForm::plain, "plain"})

namespace cajal {
CAJAL_OPTIONS(PadeLinearOptions, inputs, outputs, numerator, denominator, form)
CAJAL_OPTIONS(GenerativeLinearOptions, inputs, outputs, order)
CAJAL_OPTIONS(QuadraticLinearOptions, inputs, outputs)
}  // namespace cajal
