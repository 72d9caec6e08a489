#pragma once
#include <span>
#include <string>
#include <vector>

#include "cajal/surgery/bricks.h"

// Models put together from bricks: which are active, how much each counts, and how they are found.
namespace cajal::surgery {

struct ActiveBrick {
  std::string id = {};
  double weight = 1;
};
CAJAL_OPTIONS(ActiveBrick, id, weight)

/// A model as bricks on a base, applied in order.
struct Configuration {
  std::string base = {};  // content hash of the model
  std::vector<ActiveBrick> active = {};
  bool rest_removed = false;  // of layers with active neurons or experts, all other neurons go
};
CAJAL_OPTIONS(Configuration, base, active, rest_removed)

/// The runnable model. Low-rank bricks, task vectors, scaled parts, removed and appended neurons
/// are folded into fp32 weights; the base is left alone, so that a brick is taken back by leaving
/// it out. Throws Error for a brick that does not fit and a base that is another model.
lm::Transformer materialise(const lm::Transformer& base, const BrickRegistry& registry,
                            const Configuration& configuration);

/// The same with these bricks alone, each counting once.
lm::Transformer with_bricks(const lm::Transformer& base, const std::vector<Brick>& bricks);

/// How two configurations differ, by brick.
struct ConfigurationDifference {
  std::vector<std::string> only_first = {}, only_second = {}, other_weight = {};
  bool other_order = false;  // of those that both have
};
ConfigurationDifference difference(const Configuration& a, const Configuration& b);

/// What an instruction or a text is about, as bricks are retrieved by it: the mean state behind the
/// last layer, [width]. Reads whole windows, or what there is of one. Throws Error for no ids.
torch::Tensor embed(lm::Transformer& model, std::span<const int32_t> ids);

struct Retrieved {
  std::string id;
  double cosine = 0;
};
/// The bricks whose embedding is likest `query` [width], best first: at most `count`, and no more
/// than fit into `budget` multiply-adds a token (0: any). Throws Error when no brick has one.
std::vector<Retrieved> retrieve(const BrickRegistry& registry, const lm::Transformer& model,
                                const torch::Tensor& query, int64_t count, int64_t budget = 0);

/// A brick of `count` new neurons that write nothing yet, so that the model computes what it did:
/// values 0, keys (and gates) along `inputs` [count, width] where given, else N(0, 0.02).
Brick grown_neurons(const std::string& id, const lm::Transformer& model, int64_t layer,
                    int64_t count, const torch::Tensor& inputs = {});

}  // namespace cajal::surgery
