#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/torch_tensors.h"
#include "cajal/models/lm/transformer.h"

/// A language model as a set of functional parts: bricks that are found in it and bricks that are
/// added to it, kept in one registry, and models put together from them.
/// Source: Xiao et al. 2024, arXiv 2409.02877; dossier bricks.
namespace cajal::surgery {

/// What a brick is, and so what its tensors are.
enum class BrickKind {
  neurons,     // of one FFN: index i64 [n]; its weight scales what they write
  expert,      // a cluster of neurons of one FFN: the same
  head,        // of one attention: index i64 [n]; its weight scales what they write
  layer,       // a whole block: its weight scales what attention and FFN write
  low_rank,    // left [inputs, r], right [outputs, r] at a matrix: W + weight right leftᵀ
  adapter,     // down [r, width], up [width, r] beside an FFN: + weight up law(down x)
  key_value,   // neurons that are appended: key, value [n, width], and gate, key_bias [n] as the
               // model has them
  task_vector  // a change of every matrix and vector, by our names: + weight delta
};

/// How much a brick has to do with a function.
struct FunctionTag {
  std::string function = {};
  double score = 0;
};
CAJAL_OPTIONS(FunctionTag, function, score)

/// What a brick says of itself, in the header of a registry's file.
struct BrickCard {
  std::string id = {};
  BrickKind kind = BrickKind::neurons;
  int64_t layer = -1;  // -1: the whole model
  std::string module =
      {};  // of low_rank: "attention.query", "attention.key", "attention.value",
           // "attention.fused", "attention.output", "ffn.key", "ffn.gate", "ffn.value"
  std::vector<FunctionTag> tags = {};
  std::string base = {};  // content hash of the model that it belongs to
};

struct Brick {
  BrickCard card;
  NamedTensors tensors =
      {};  // those of its kind, and "embedding" [width] where it can be retrieved

  bool emergent() const;  // a part of the model itself
};

/// What a brick takes: parameters and bytes (of its tensors, or of what it points at in the model),
/// and multiply-adds a token.
struct BrickCost {
  int64_t parameters = 0, bytes = 0, multiply_adds = 0;
};
BrickCost cost_of(const Brick& brick, const lm::Transformer& model);

/// A hash of everything that a model computes with, 16 hexadecimal digits.
std::string content_hash(const lm::Transformer& model);

/// Throws Error naming brick and tensor unless the brick fits the model, whose hash is `hash`.
void check(const Brick& brick, const lm::Transformer& model, const std::string& hash);

/// Bricks by id, in the order in which they came, with the older versions of those that were
/// replaced.
class BrickRegistry {
 public:
  /// Throws Error for an empty id and one that is taken.
  void add(Brick brick);
  /// Puts a new version in place of the brick of that id and keeps the old one.
  void update(Brick brick);
  /// Brings the version before the last update back, to the bit. Throws Error when there is none.
  void revert(const std::string& id);
  void remove(const std::string& id);

  /// Throws Error naming the nearest id there is.
  const Brick& at(const std::string& id) const;
  bool has(const std::string& id) const;
  int64_t versions(const std::string& id) const;
  const std::vector<Brick>& bricks() const { return bricks_; }

  /// One safetensors file: tensors ID.NAME, and the cards as JSON among its metadata. Versions that
  /// were replaced are kept as ID@N.NAME.
  void save(const std::filesystem::path& path) const;
  /// Throws Error naming file, brick and field for anything that `save` would not have written.
  static BrickRegistry load(const std::filesystem::path& path);

 private:
  size_t place(const std::string& id) const;

  std::vector<Brick> bricks_;
  std::map<std::string, std::vector<Brick>, std::less<>> older_;  // oldest first
};

}  // namespace cajal::surgery

CAJAL_ENUM(cajal::surgery::BrickKind, {cajal::surgery::BrickKind::neurons, "neurons"},
           {cajal::surgery::BrickKind::expert, "expert"}, {cajal::surgery::BrickKind::head, "head"},
           {cajal::surgery::BrickKind::layer, "layer"},
           {cajal::surgery::BrickKind::low_rank, "low_rank"},
           {cajal::surgery::BrickKind::adapter, "adapter"},
           {cajal::surgery::BrickKind::key_value, "key_value"},
           {cajal::surgery::BrickKind::task_vector, "task_vector"})

namespace cajal::surgery {
CAJAL_OPTIONS(BrickCard, id, kind, layer, module, tags, base)
}  // namespace cajal::surgery
