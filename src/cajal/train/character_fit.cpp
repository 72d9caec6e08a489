#include "cajal/train/character_fit.h"

#include <cmath>

#include "cajal/core/error.h"
#include "cajal/train/descent.h"

namespace cajal::train {

double fit_characters(CharacterModel& model, const torch::Tensor& text, const torch::Tensor& held,
                      int64_t steps) {
  constexpr int64_t kTokens = 48;
  require(text.numel() > kTokens + 1 && held.numel() > kTokens + 1,
          "characters: texts of {} and {}, expected more than {} each", text.numel(), held.numel(),
          kTokens + 1);
  const auto loss = [&](const torch::Tensor& from, const torch::Tensor& starts) {
    const auto at = starts.unsqueeze(1) + torch::arange(kTokens + 1);
    const auto part = from.index_select(0, at.flatten()).reshape(at.sizes());
    const auto logits = model->forward(part.slice(1, 0, kTokens));
    return torch::cross_entropy_loss(logits.flatten(0, 1), part.slice(1, 1).flatten());
  };
  descend(model->parameters(), text.size(0) - kTokens - 1,
          [&](const torch::Tensor& rows) { return loss(text, rows); },
          {.batch = 16, .steps = steps, .rate = 5e-3, .clip = 1});
  const torch::NoGradGuard no_grad;
  return loss(held, torch::arange(0, held.size(0) - kTokens - 1, kTokens)).item<double>() /
         std::log(2);
}

}  // namespace cajal::train
