#pragma once
#include <functional>
#include <string>
#include <vector>

#include "cajal/core/json.h"
#include "cajal/core/torch.h"

/// Measures what the survey lists of an activation instead of asserting it.
namespace cajal {

enum class Monotone { increasing, decreasing, no };

/// Where the slope or the curvature jumps.
struct Kink {
  double x = 0, jump = 0;
};

struct Properties {
  double minimum = 0, minimum_at = 0;  // on [-20, 20], refined between grid points
  double maximum = 0, maximum_at = 0;
  bool bounded_below = false, bounded_above = false;  // does not move on between 20 and 2000
  Monotone monotone = Monotone::no;
  int turns = 0;                          // sign changes of the slope
  std::vector<Kink> kinks;                // of the slope, in size more than 1e-3
  std::vector<Kink> bends;                // of the curvature where the slope has no kink
  bool even = false, odd = false;         // f(-x) = f(x), f(-x) = -f(x)
  double mean = 0, variance = 0;          // of f(N(0, 1))
  bool zero_centred = false;              // |mean| <= 0.05
  double saturation = 0;                  // share of [-20, 20] where |slope| < 1e-3
  double lipschitz = 0;                   // the largest |slope| there
  double gain = 0;                        // g: E[f(N(0, 1))²] g² = 1; keeps the second moment
  std::vector<double> variance_by_depth;  // q -> E[f(√q z)²] g², from 0.5, after 1, 2, ... 20 steps
};

/// Probes an elementwise function of doubles; `f` must be differentiable by autograd.
/// Source: Dubey, Singh, Chaudhuri 2022, arXiv 2109.14545; dossier activation-survey.
Properties probe(const std::function<torch::Tensor(const torch::Tensor&)>& f);

Json to_json(const Properties& properties);

/// "class 0", "1", "2+": how often f is continuously differentiable, as far as measured.
std::string smoothness(const Properties& properties);

}  // namespace cajal
