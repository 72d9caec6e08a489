#pragma once
#include "cajal/core/torch.h"
#include "cajal/engine/router.h"

namespace cajal::surgery {

struct RouterOptions {
  int64_t epochs = 30, batch = 512;
  double learning_rate = 1e-2;  // of Adam
  double held_back = 0.1;       // of the tokens judge
  uint64_t seed = 0;
};

/// A router for the experts of one layer and how it did on the held-back tokens.
struct TrainedRouter {
  RouterKind kind = RouterKind::mlp;
  torch::Tensor first, second;  // [experts, width], [experts, experts] or undefined
  double captured = 0;          // see experts::captured

  /// Scores of the experts for x [tokens, width]; for an oracle, `gains` themselves.
  torch::Tensor scores(const torch::Tensor& x, const torch::Tensor& gains) const;
};

/// The router of `kind` for experts with these centres [experts, width], from what the layer reads,
/// x [tokens, width], and what each expert does there, gains [tokens, experts]. The mlp starts from
/// the centres and the identity, learns gains over the largest of the batch by binary cross entropy
/// on each expert, and keeps the epoch that captures most on the held-back tokens (the last ones).
/// Throws Error for options out of range and fewer than 2 tokens.
/// Source: dossier moefication (Build 2).
TrainedRouter train_router(RouterKind kind, const torch::Tensor& centres, const torch::Tensor& x,
                           const torch::Tensor& gains, int64_t active,
                           const RouterOptions& options = {});

/// Tokens of `all` that learn; the others are held back.
int64_t learning_tokens(int64_t all, const RouterOptions& options);

}  // namespace cajal::surgery
