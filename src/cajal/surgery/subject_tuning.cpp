#include "cajal/surgery/subject_tuning.h"

#include <cmath>
#include <functional>

#include "cajal/core/error.h"
#include "cajal/train/descent.h"

namespace cajal::surgery {
namespace {

using torch::Tensor;
using Tensors = std::vector<Tensor>;

/// A leaf that training may change.
Tensor leaf(const Tensor& values) { return values.detach().clone().requires_grad_(true); }

/// What is trained, how the model is made of it before each step, and what is to be stored.
struct Plan {
  Tensors leaves;
  std::function<void()> compose = [] {};
  int64_t bytes = 0;
};

int64_t bytes_of(const Tensors& tensors) {
  int64_t sum = 0;
  for (const auto& t : tensors) sum += 4 * t.numel();
  return sum;
}

std::vector<Tensor*> key_value_slots(diffusion::TextToImage& model) {
  std::vector<Tensor*> out;
  for (auto& attention : model->attentions)
    out.push_back(&attention->key), out.push_back(&attention->value);
  return out;
}

Plan low_rank(const std::vector<Tensor*>& slots, int64_t rank) {
  require(rank > 0, "tune: rank is {}, expected a positive number", rank);
  Plan plan;
  Tensors base;
  for (const auto* slot : slots) {
    base.push_back(slot->detach().clone());
    plan.leaves.push_back(
        leaf(torch::randn({rank, slot->size(1)}) / std::sqrt(static_cast<double>(slot->size(1)))));
    plan.leaves.push_back(leaf(torch::zeros({slot->size(0), rank})));
  }
  plan.bytes = bytes_of(plan.leaves);
  plan.compose = [slots, base, leaves = plan.leaves] {
    for (size_t m = 0; m < slots.size(); ++m)
      *slots[m] = base[m] + torch::matmul(leaves[2 * m + 1], leaves[2 * m]);
  };
  return plan;
}

Plan masked(const std::vector<Tensor*>& slots, const IndexLists& mask) {
  check(mask);
  require(mask.sizes.size() == slots.size(), "tune: a mask of {} matrices, expected {}",
          mask.sizes.size(), slots.size());
  Plan plan;
  Tensors base, places;
  for (size_t m = 0; m < slots.size(); ++m) {
    require(mask.sizes[m] == slots[m]->numel(),
            "tune: the mask of matrix {} has {} entries, not {}", m, mask.sizes[m],
            slots[m]->numel());
    places.push_back(torch::tensor(mask.indices[m], torch::kLong));
    base.push_back(slots[m]->detach().flatten().index_fill(0, places[m], 0));
    plan.leaves.push_back(leaf(torch::zeros({std::ssize(mask.indices[m])})));
  }
  plan.bytes = bytes_of(plan.leaves) + std::ssize(encode(mask));
  plan.compose = [slots, base, places, leaves = plan.leaves] {
    for (size_t m = 0; m < slots.size(); ++m)
      *slots[m] = base[m].index_copy(0, places[m], leaves[m]).view_as(*slots[m]);
  };
  return plan;
}

Plan token(Tensor& embedding, const std::vector<int64_t>& words) {
  require(!words.empty(), "tune: no word is given");
  for (const auto w : words)
    require(w >= 0 && w < embedding.size(0), "tune: word {} of {}", w, embedding.size(0));
  Plan plan;
  const auto rows = torch::tensor(words, torch::kLong);
  const auto base = embedding.detach().clone();
  plan.leaves = {leaf(base.index_select(0, rows))};
  plan.bytes = bytes_of(plan.leaves);
  plan.compose = [&embedding, base, rows, leaves = plan.leaves] {
    embedding = base.index_copy(0, rows, leaves[0]);
  };
  return plan;
}

Plan plan_of(diffusion::TextToImage& model, const TuneOptions& o) {
  switch (o.part) {
    case TunedPart::everything: {
      Plan plan{model->parameters()};
      plan.bytes = bytes_of(plan.leaves);
      return plan;
    }
    case TunedPart::keys_values: {
      Plan plan{key_value_weights(model)};
      plan.bytes = bytes_of(plan.leaves);
      return plan;
    }
    case TunedPart::token:
      return token(model->embedding, o.words);
    case TunedPart::low_rank:
      return low_rank(key_value_slots(model), o.rank);
    case TunedPart::masked:
      return masked(key_value_slots(model), o.mask);
  }
  fail("tune: no part {}", static_cast<int>(o.part));
}

/// Puts what was composed into the parameters themselves and the parameters back into their places.
class Settle {
 public:
  explicit Settle(diffusion::TextToImage& model) : slots_(key_value_slots(model)) {
    slots_.push_back(&model->embedding);
    for (const auto* slot : slots_) parameters_.push_back(*slot);
  }
  ~Settle() {
    torch::NoGradGuard no_grad;
    for (size_t i = 0; i < slots_.size(); ++i) {
      if (!slots_[i]->is_same(parameters_[i])) parameters_[i].detach().copy_(slots_[i]->detach());
      *slots_[i] = parameters_[i];
    }
  }

 private:
  std::vector<Tensor*> slots_;
  Tensors parameters_;
};

}  // namespace

int64_t tune(diffusion::TextToImage& model, const diffusion::Schedule& schedule,
             const std::vector<Subject>& subjects, const TuneOptions& o) {
  require(!subjects.empty() && o.steps > 0, "tune: {} subjects, {} steps", subjects.size(),
          o.steps);
  const Settle settle(model);
  const auto plan = plan_of(model, o);
  train::descend(plan.leaves, o.batch,
                 [&](const Tensor&) {
                   plan.compose();
                   Tensor sum;
                   for (const auto& subject : subjects) {
                     const auto one = concept_loss(
                         model, schedule, draw_noise(subject, schedule, o.batch), o.lambda);
                     sum = sum.defined() ? sum + one : one;
                   }
                   return sum;
                 },
                 {.batch = o.batch, .steps = o.steps, .rate = o.rate, .decay = 0.3, .clip = 1});
  const torch::NoGradGuard no_grad;
  plan.compose();
  return plan.bytes;
}

std::vector<Tensor> snapshot(const torch::nn::Module& model) {
  Tensors out;
  for (const auto& p : model.parameters()) out.push_back(p.detach().clone());
  return out;
}

void restore(torch::nn::Module& model, const std::vector<Tensor>& snapshot) {
  const auto parameters = model.parameters();
  require(parameters.size() == snapshot.size(), "restore: {} tensors for {} parameters",
          snapshot.size(), parameters.size());
  for (size_t i = 0; i < parameters.size(); ++i) parameters[i].detach().copy_(snapshot[i]);
}

}  // namespace cajal::surgery
