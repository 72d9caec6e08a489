#pragma once
#include <cstdint>
#include <vector>

namespace cajal::data {

struct AssocRecallOptions {
  int64_t pairs = 8;     // of key and value; keys differ within a sequence
  int64_t queries = 4;   // at the end, keys whose values are asked for
  int64_t tokens = 128;  // of a sequence; what pairs and queries leave is distractors between pairs
  int64_t keys = 32, values = 32, distractors = 32;  // ids there are of each kind
};

/// Ids of a sequence and what is to be said after each: -1 but behind a queried key.
struct AssocRecall {
  std::vector<int32_t> ids, answers;
};

/// "assoc-recall": pairs of a key and its value scattered among distractors, then keys each
/// followed by its value, which is the answer. Keys are ids [0, keys), then values, then
/// distractors. Needs a few exact, far-reaching attention weights. Throws Error when the sequence
/// is too short for its parts or has more pairs than keys. Source: dossier spt ("Data").
AssocRecall assoc_recall(const AssocRecallOptions& options, uint64_t seed);

}  // namespace cajal::data
