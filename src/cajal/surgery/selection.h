#pragma once
#include <memory>
#include <vector>

#include "cajal/models/lm/transformer.h"

namespace cajal::surgery {

/// The experts of a cut model, to be chosen by other routers or in other numbers for a token than
/// the model was cut for, so that these can be compared.
class Selection {
 public:
  /// Keeps the experts of every layer. Throws Error when the model is not cut into experts.
  explicit Selection(const lm::Transformer& model);

  /// From now on a token uses `ratio` of the experts (rounded up), those that `router` says; mlp
  /// needs a model that was cut with one.
  void use(lm::Transformer& model, RouterKind router, double ratio) const;

  /// As many of each layer as the model was cut for, those that `router` says.
  void use(lm::Transformer& model, RouterKind router) const;

  /// Every expert counts in the model; in passes with `hooks` random ones of each token do.
  void use_random(lm::Transformer& model, double ratio, lm::Hooks& hooks) const;

 private:
  void use(lm::Transformer& model, RouterKind router, const std::vector<int64_t>& active) const;
  int64_t active(double ratio) const;

  std::vector<std::shared_ptr<const lm::Experts>> of_layer_;
};

}  // namespace cajal::surgery
