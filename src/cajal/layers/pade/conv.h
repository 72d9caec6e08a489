#pragma once
#include "cajal/layers/pade/shift.h"
#include "cajal/neurons/pade.h"

namespace cajal {

enum class Padding { zeros, reflect, replicate, circular };

struct PadeConv2dOptions {
  int64_t inputs = 0, outputs = 0;         // channels
  int64_t kernel = 3;                      // height and width
  int64_t numerator = 1, denominator = 1;  // degrees M and N
  PadeForm form = PadeForm::s;
  int64_t stride = 1;
  int64_t padding = -1;  // -1: kernel / 2
  Padding padding_mode = Padding::replicate;
  int64_t groups = 1;
  bool separable = false;    // 1x1 over channels, then one kernel a channel
  bool weight_norm = false;  // kernels as length times direction
  double shift_range = -1;   // below 0: no shift before the powers; 0: predicted; else free
  bool shift_round = false;
  ShiftAverage shift_average = ShiftAverage::image;
};
CAJAL_OPTIONS(PadeConv2dOptions, inputs, outputs, kernel, numerator, denominator, form, stride,
              padding, padding_mode, groups, separable, weight_norm, shift_range, shift_round,
              shift_average)

/// The linear maps of all powers of one polynomial, as one grouped convolution: input the powers
/// [batch, degree inputs, height, width], output the terms [batch, outputs, height, width] each.
/// Parameters weight [degree, outputs, inputs / groups, kernel, kernel]; separable: point [degree,
/// outputs, inputs / groups] and weight [degree, outputs, 1, kernel, kernel]; with weight norm also
/// length [degree, outputs], weight being the direction.
class PowerConv2dImpl : public torch::nn::Module {
 public:
  /// `linear_start`: the first power starts as an ordinary convolution; all else gives 0.
  PowerConv2dImpl(const PadeConv2dOptions& options, int64_t degree, bool linear_start);
  std::vector<torch::Tensor> forward(const torch::Tensor& x) const;

  /// The sum of all terms and `constant` [outputs], in one dense convolution where it can be.
  torch::Tensor sum(const torch::Tensor& x, const torch::Tensor& constant) const;
  /// The terms of two polynomials of one degree, in one convolution; neither separable nor grouped.
  std::pair<std::vector<torch::Tensor>, std::vector<torch::Tensor>> beside(
      const PowerConv2dImpl& other, const torch::Tensor& x) const;

  torch::Tensor weight, point, length;

 private:
  int64_t reach() const { return options_.padding < 0 ? options_.kernel / 2 : options_.padding; }
  torch::Tensor kernels() const;
  torch::Tensor stacked_powers(const torch::Tensor& x) const;
  torch::Tensor convolve(const torch::Tensor& stacked, const torch::Tensor& kernels,
                         const torch::Tensor& bias, int64_t groups) const;
  const PadeConv2dOptions options_;
  const int64_t degree_;
};
TORCH_MODULE(PowerConv2d);

/// Convolution of Padé neurons; no activation follows.
/// Shapes: x [batch, inputs, height, width] -> y [batch, outputs, height_out, width_out];
/// numerator.* and denominator.* as PowerConv2d, w0 [outputs], shift.* as Shift.
/// Starts as an ordinary convolution plus w0 (form a), half of it plus w0 (form s [1/1]).
/// Throws Error for sizes that make no layer.
/// Source: Keleş and Tekalp 2024, arXiv 2403.11791; dossier paon. Where the official code leaves
/// weights stuck, this does not: separable kernels of the higher powers start with only one factor
/// at zero, and weight norm starts zero kernels by their length.
class PadeConv2dImpl : public torch::nn::Module {
 public:
  explicit PadeConv2dImpl(const PadeConv2dOptions& options);
  torch::Tensor forward(const torch::Tensor& x);
  torch::Tensor divisor(const torch::Tensor& x);

  const PadeConv2dOptions options;
  PowerConv2d numerator{nullptr}, denominator{nullptr};
  Shift shift{nullptr};
  torch::Tensor w0;
};
TORCH_MODULE(PadeConv2d);

struct PadeConvTranspose2dOptions {
  int64_t inputs = 0, outputs = 0;
  int64_t kernel = 3;
  int64_t numerator = 1, denominator = 1;
  PadeForm form = PadeForm::s;
  int64_t stride = 1;
  int64_t padding = -1;  // -1: kernel / 2
  int64_t output_padding = 0;
};
CAJAL_OPTIONS(PadeConvTranspose2dOptions, inputs, outputs, kernel, numerator, denominator, form,
              stride, padding, output_padding)

/// Transposed convolution of Padé neurons, zeros around.
/// Shapes: x [batch, inputs, height, width] -> y [batch, outputs, ..]; a [M, inputs, outputs,
/// kernel, kernel], b [N, inputs, outputs, kernel, kernel], w0 [outputs].
class PadeConvTranspose2dImpl : public torch::nn::Module {
 public:
  explicit PadeConvTranspose2dImpl(const PadeConvTranspose2dOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;

  const PadeConvTranspose2dOptions options;
  torch::Tensor a, b, w0;
};
TORCH_MODULE(PadeConvTranspose2d);

struct GenerativeConv2dOptions {
  int64_t inputs = 0, outputs = 0;
  int64_t kernel = 3;
  int64_t order = 3;
  int64_t stride = 1;
  int64_t padding = -1;
  Padding padding_mode = Padding::replicate;
  double shift_range = -1;  // not negative: super neurons
};
CAJAL_OPTIONS(GenerativeConv2dOptions, inputs, outputs, kernel, order, stride, padding,
              padding_mode, shift_range)

/// Generative neurons, tanh(w0 + Σ a_k * x^k): PadeConv2d [order/0] and tanh; with a shift before
/// the powers they are super neurons.
/// Sources: Kiranyaz et al. 2021, arXiv 2004.11778; Kiranyaz et al. 2021, arXiv 2109.01594.
class GenerativeConv2dImpl : public torch::nn::Module {
 public:
  explicit GenerativeConv2dImpl(const GenerativeConv2dOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

  const GenerativeConv2dOptions options;
  PadeConv2d neuron{nullptr};
};
TORCH_MODULE(GenerativeConv2d);

struct SuperConv2dOptions : GenerativeConv2dOptions {
  SuperConv2dOptions() { shift_range = 1; }
};
inline void read_options(const Json& json, const std::string& where, SuperConv2dOptions& out) {
  read_options(json, where, static_cast<GenerativeConv2dOptions&>(out));
}
inline Json write_options(const SuperConv2dOptions& value) {
  return write_options(static_cast<const GenerativeConv2dOptions&>(value));
}
/// Super neurons: generative neurons whose channels are shifted by learned offsets first.
class SuperConv2dImpl : public torch::nn::Module {
 public:
  explicit SuperConv2dImpl(const SuperConv2dOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

  const SuperConv2dOptions options;
  PadeConv2d neuron{nullptr};
};
TORCH_MODULE(SuperConv2d);

struct QuadraticConv2dOptions {
  int64_t inputs = 0, outputs = 0;
  int64_t kernel = 3;
  int64_t stride = 1;
  int64_t padding = -1;
  Padding padding_mode = Padding::replicate;
};
CAJAL_OPTIONS(QuadraticConv2dOptions, inputs, outputs, kernel, stride, padding, padding_mode)

/// Quadratic neurons, w0 + a_1 * x + a_2 * x²: PadeConv2d [2/0].
class QuadraticConv2dImpl : public torch::nn::Module {
 public:
  explicit QuadraticConv2dImpl(const QuadraticConv2dOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

  const QuadraticConv2dOptions options;
  PadeConv2d neuron{nullptr};
};
TORCH_MODULE(QuadraticConv2d);

/// x with `width` pixels added on every side in that mode.
torch::Tensor pad(const torch::Tensor& x, int64_t width, Padding mode);

}  // namespace cajal

CAJAL_ENUM(cajal::Padding, {cajal::Padding::zeros, "zeros"}, {cajal::Padding::reflect, "reflect"},
           {cajal::Padding::replicate, "replicate"}, {cajal::Padding::circular, "circular"})
