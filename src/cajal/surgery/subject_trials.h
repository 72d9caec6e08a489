#pragma once
#include <string>
#include <vector>

#include "cajal/surgery/subject_bench.h"

/// Ways to teach a text-to-image model a subject, each tried on the same bench.
/// Source: dossier concept-neurons, "Compare against" and "Reproduce".
namespace cajal::surgery {

struct SubjectTrialOptions {
  int64_t draws = 600, sweep_draws = 300;  // of noise, for scores
  int64_t tune_steps = 400;
  int64_t union_steps = 100;
  int64_t kept = 0;  // drawn pictures of each method that are kept
};
CAJAL_OPTIONS(SubjectTrialOptions, draws, sweep_draws, tune_steps, union_steps, kept)

/// One way, and what came of it.
struct Taught {
  std::string method;
  SubjectScores scores = {};
  double bytes = 0, seconds = 0;                  // to store it; to find it
  std::vector<std::vector<double>> picture = {};  // those kept, side by side
};
CAJAL_OPTIONS(Taught, method, scores, bytes, seconds, picture)

struct MaskedSubject {
  IndexLists mask;  // of the gates
  std::vector<Taught> methods;
};
CAJAL_OPTIONS(MaskedSubject, mask, methods)

inline constexpr const char *kBaseModel = "base model", *kGateMask = "concept neurons: gates",
                            *kSoftGates = "soft gates of all weights",
                            *kRandomMask = "random, as many of each matrix",
                            *kKeyValueTuning = "key and value fine-tuning",
                            *kFullTuning = "full fine-tuning";

/// The base model, masks by every score, and the gates as the search left them.
MaskedSubject try_masks(SubjectBench& bench, int which, uint64_t seed,
                        const SubjectTrialOptions& options);
/// Full and key-value fine-tuning, the token's embedding, LoRA of rank 4.
std::vector<Taught> try_tuning(SubjectBench& bench, int which, uint64_t seed,
                               const SubjectTrialOptions& options);

/// The gates of a mask of a subject moved from 1 to 0 and beyond.
struct GateDose {
  double gate = 0, loss = 0, seen = 0;
};
CAJAL_OPTIONS(GateDose, gate, loss, seen)
std::vector<GateDose> try_doses(SubjectBench& bench, const IndexLists& mask, int which,
                                uint64_t seed);

/// Masks of other sizes.
struct MaskSize {
  double share = 0, keys = 0;  // of the weights; of the mask that lies in key weights
  SubjectScores scores = {};
};
CAJAL_OPTIONS(MaskSize, share, keys, scores)
std::vector<MaskSize> try_sizes(SubjectBench& bench, int which, uint64_t seed,
                                const SubjectTrialOptions& options);

/// Share of pictures of two subjects that show both.
struct BothSeen {
  double base = 0;
  double united = 0;  // with the union of their masks shut
  double tuned = 0;   // and its entries tuned
  double summed = 0;  // with both changes of key-value fine-tuning
};
CAJAL_OPTIONS(BothSeen, base, united, tuned, summed)
BothSeen try_both(SubjectBench& bench, int a, int b, const std::vector<IndexLists>& masks,
                  uint64_t seed, const SubjectTrialOptions& options);

/// How well gate gradients and masks do what they say, on the bench's model in fp64.
struct GateChecks {
  double leaf = 0;         // largest |dL/dk - that of a gate that is a leaf of the graph|
  double differences = 0;  // relative, along a direction, against central differences
  bool undone = false;     // shut and restored, encoded and decoded: bit by bit
};
CAJAL_OPTIONS(GateChecks, leaf, differences, undone)
GateChecks check_gates(SubjectBench& bench);

}  // namespace cajal::surgery
