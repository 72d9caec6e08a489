#include "cajal/train/options.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "cajal/core/error.h"

namespace cajal::train {
namespace {

void in_range(const char* name, double value, double least, double below) {
  require(value >= least && value < below, "trainer.{}: {}, expected at least {} and below {}",
          name, value, least, below);
}

}  // namespace

void check(const Options& o) {
  for (const auto& [name, value] : {std::pair{"steps", o.steps}, {"accumulate", o.accumulate}})
    require(value > 0, "trainer.{}: {}, expected at least 1", name, value);
  for (const auto& [name, value] : {std::pair{"warmup_steps", o.warmup_steps},
                                    {"evaluate_every", o.evaluate_every},
                                    {"save_every", o.save_every},
                                    {"log_every", o.log_every}})
    require(value >= 0, "trainer.{}: {}, expected 0 or more", name, value);
  for (const auto& [name, value] : {std::pair{"learning_rate", o.learning_rate},
                                    {"weight_decay", o.weight_decay},
                                    {"clip", o.clip},
                                    {"final_rate", o.final_rate}})
    in_range(name, value, 0, INFINITY);
  for (const auto& [name, value] : {std::pair{"beta1", o.beta1},
                                    {"beta2", o.beta2},
                                    {"momentum", o.momentum},
                                    {"average", o.average}})
    in_range(name, value, 0, 1);
  require(o.epsilon > 0, "trainer.epsilon: {}, expected above 0", o.epsilon);
  require(o.decay_share > 0 && o.decay_share <= 1,
          "trainer.decay_share: {}, expected above 0 and at most 1", o.decay_share);
}

double rate_at(const Options& o, int64_t step) {
  if (step < o.warmup_steps)
    return o.learning_rate * static_cast<double>(step + 1) / static_cast<double>(o.warmup_steps);
  const auto after = static_cast<double>(std::max<int64_t>(1, o.steps - o.warmup_steps));
  const double progress = std::min(1.0, static_cast<double>(step - o.warmup_steps) / after);
  const auto between = [&](double share) {  // share 1 -> full rate, 0 -> final rate
    return o.learning_rate * (o.final_rate + (1 - o.final_rate) * share);
  };
  switch (o.schedule) {
    case Schedule::constant:
      return o.learning_rate;
    case Schedule::linear:
      return between(1 - progress);
    case Schedule::cosine:
      return between(0.5 * (1 + std::cos(std::numbers::pi * progress)));
    case Schedule::wsd:
      return between(std::min(1.0, (1 - progress) / o.decay_share));
  }
  fail("trainer.schedule: unknown");
}

}  // namespace cajal::train
