#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cajal/core/random.h"

namespace cajal::data {

/// A change of light: I' = a (I - mean) + mean + b, then the rest in this order. Values of 1, 0, 1,
/// 0, 0 leave a picture as it is.
struct LightChange {
  double contrast = 1;    // a
  double brightness = 0;  // b
  double gamma = 1;       // max(I, 0)^gamma
  double gradient = 0;    // light from 1 - gradient at the left to 1 + gradient at the right
  double noise = 0;       // standard deviation of what the sensor adds
  bool clip = false;      // to [0, 1]: information is lost
};

/// Changes a picture [channels, height, width] with values about [0, 1] in place; the mean is that
/// of the whole picture. Draws only for noise.
void change_light(const LightChange& change, std::span<float> picture, int64_t width,
                  Random& random);

/// A change and how tables name it, "b=-0.4".
struct NamedLightChange {
  std::string name;
  LightChange change;
};

/// The grids of dossier precortical: brightness -0.6 ... 0.6, contrast 0.1 ... 2, gamma 0.3 ... 3,
/// and light gradients 0.2 ... 0.8.
std::vector<NamedLightChange> brightness_grid(bool clip = false);
std::vector<NamedLightChange> contrast_grid(bool clip = false);
std::vector<NamedLightChange> gamma_grid();
std::vector<NamedLightChange> gradient_grid();

}  // namespace cajal::data
