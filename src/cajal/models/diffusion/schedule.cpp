#include "cajal/models/diffusion/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "cajal/core/error.h"

namespace cajal::diffusion {

using torch::Tensor;

Schedule::Schedule(const ScheduleOptions& o) : options(o) {
  require(o.steps > 0 && o.offset >= 0 && o.largest_beta > 0 && o.largest_beta < 1,
          "schedule: {} steps, offset {}, largest beta {}", o.steps, o.offset, o.largest_beta);
  const auto curve = [&](int64_t t) {
    const double place = static_cast<double>(t) / static_cast<double>(o.steps);
    return std::pow(std::cos((place + o.offset) / (1 + o.offset) * std::numbers::pi / 2), 2);
  };
  std::vector<float> values;
  double product = 1;
  for (int64_t t = 0; t < o.steps; ++t) {
    product *= 1 - std::min(1 - curve(t + 1) / curve(t), o.largest_beta);
    values.push_back(static_cast<float>(product));
  }
  kept = torch::tensor(values);
}

Tensor Schedule::noised(const Tensor& x, const Tensor& t, const Tensor& noise) const {
  const auto a = kept.to(x.device()).index_select(0, t).view({-1, 1, 1, 1});
  return a.sqrt() * x + (1 - a).sqrt() * noise;
}

Tensor sample(TextToImage& model, const Schedule& schedule, const Tensor& words,
              const Tensor& noise, const SampleOptions& o) {
  const int64_t all = schedule.options.steps;
  const int64_t steps = o.sampler == Sampler::ddpm ? all : o.steps;
  require(steps > 0 && steps <= all, "sample: {} steps of {}", steps, all);
  require(words.dim() == 2 && noise.dim() == 4 && words.size(0) == noise.size(0),
          "sample: captions {} and noise {}", shape_text(words.sizes()), shape_text(noise.sizes()));
  const torch::NoGradGuard no_grad;
  const auto context = model->encode(words);
  const auto nothing = o.guidance == 1 ? Tensor() : model->encode(torch::zeros_like(words));
  const auto at = [&](int64_t i) { return i < 0 ? -1 : (i + 1) * all / steps - 1; };
  const auto kept = [&](int64_t t) { return t < 0 ? 1.0 : schedule.kept[t].item<double>(); };
  auto x = noise;
  for (int64_t i = steps - 1; i >= 0; --i) {
    const int64_t t = at(i);
    const double a = kept(t), before = kept(at(i - 1));
    const auto time = torch::full({x.size(0)}, static_cast<double>(t), x.options());
    auto e = model->denoise(x, time, context);
    if (nothing.defined()) {
      const auto plain = model->denoise(x, time, nothing);
      e = plain + o.guidance * (e - plain);
    }
    const auto clean = (schedule.options.predicts == Prediction::picture
                            ? e
                            : (x - std::sqrt(1 - a) * e) / std::sqrt(a))
                           .clamp(-1, 1);
    e = (x - std::sqrt(a) * clean) / std::sqrt(1 - a);
    if (o.sampler == Sampler::ddim) {
      x = std::sqrt(before) * clean + std::sqrt(1 - before) * e;
    } else {
      const double step = a / before, variance = (1 - before) / (1 - a) * (1 - step);
      x = std::sqrt(before) * (1 - step) / (1 - a) * clean +
          std::sqrt(step) * (1 - before) / (1 - a) * x;
      if (i > 0) x = x + std::sqrt(variance) * torch::randn_like(x);
    }
  }
  return x;
}

}  // namespace cajal::diffusion
