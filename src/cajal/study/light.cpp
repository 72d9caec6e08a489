#include "cajal/study/light.h"

namespace cajal::study {

torch::Tensor changed_light(const torch::Tensor& x, const data::LightChange& change,
                            uint64_t seed) {
  auto out = x.contiguous().clone();
  Random random(seed, 5);
  const int64_t size = out[0].numel();
  for (int64_t i = 0; i < out.size(0); ++i)
    data::change_light(change, {out.data_ptr<float>() + i * size, static_cast<size_t>(size)},
                       out.size(-1), random);
  return out;
}

LightGrids light_grids(const torch::Tensor& x) {
  const auto made = [&](const std::vector<data::NamedLightChange>& cells) {
    std::vector<torch::Tensor> out;
    for (const auto& cell : cells) out.push_back(changed_light(x, cell.change, 1));
    return out;
  };
  auto clipped = made(data::brightness_grid(true));
  for (auto& one : made(data::contrast_grid(true))) clipped.push_back(one);
  return {made(data::brightness_grid()),
          made(data::contrast_grid()),
          clipped,
          made(data::gamma_grid()),
          made(data::gradient_grid()),
          changed_light(x, {.contrast = 0.2, .noise = 0.02}, 2)};
}

}  // namespace cajal::study
