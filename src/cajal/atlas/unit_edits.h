#pragma once
#include <functional>
#include <string>
#include <vector>

#include "cajal/atlas/unit_descriptions.h"

/// What descriptions of units are for: to see which kinds of units matter, to find units that look
/// at something, and to delete those that look at what they should not.
/// Source: dossier milan, Build 7 and 8.
namespace cajal::atlas {

/// Whether a phrase has one of the words or their plurals.
bool mentions(const std::string& phrase, const std::vector<std::string>& words);

/// Units (rows of `phrases`) whose phrase has a property: names a shape, colour, texture,
/// background, edges, letters; no, one, two or more adjectives; a preposition; four words or more;
/// two words that lie three or more apart in meaning order.
struct PhraseGroup {
  std::string name;
  std::vector<int64_t> rows;
};
std::vector<PhraseGroup> phrase_groups(const std::vector<std::string>& phrases);

/// Different units of the network, drawn at random.
std::vector<int64_t> random_units(const WorldNet& net, int64_t count, Random& random);

/// Mean activation of every unit over pictures and positions, f32 [units]: for DeletionRule::mean.
torch::Tensor unit_means(const WorldNet& net, const WorldTensors& data);

/// Accuracy with each of the units deleted alone.
std::vector<double> accuracy_without_each(const WorldNet& net, WorldTask task,
                                          const std::vector<int64_t>& units,
                                          const WorldTensors& data);

/// What a network loses without the units of a group.
struct GroupEffect {
  std::string name;
  int64_t units = 0;
  double accuracy = 0, without = 0;
  std::vector<double> without_random;  // without as many random units, a trial each
};
CAJAL_OPTIONS(GroupEffect, name, units, accuracy, without, without_random)
/// Of every phrase group of at least four units; phrases are those of `units`.
std::vector<GroupEffect> delete_groups(const WorldNet& net, WorldTask task,
                                       const DescribedUnits& units,
                                       const std::vector<std::string>& phrases,
                                       const WorldTensors& data, Random& random, int trials = 3);

struct EditOptions {
  int64_t most = 50;         // deletions
  double clean_loss = 0.01;  // accuracy on clean pictures that the deletions may cost
  int trials = 5;            // of random deletions
  DeletionRule rule = DeletionRule::zero;
};

/// A network before and after units were deleted in an order.
struct EditCurve {
  std::string order;                // "guided", "sort all", "random"
  std::vector<double> adversarial;  // accuracy after 0, 1, ... deletions (random: mean)
  std::vector<double> clean;        // the same without initials, of "guided" alone
  std::vector<double> spread;       // of adversarial over the trials
};
CAJAL_OPTIONS(EditCurve, order, adversarial, clean, spread)
struct Edit {
  std::vector<EditCurve> curves;
  int64_t candidates = 0;  // units that the phrases named
  int64_t chosen = 0;      // deletions: the most that cost clean validation pictures no more than
                           // `clean_loss`
};

CAJAL_OPTIONS(Edit, curves, candidates, chosen)

/// Deletes the units whose phrase mentions one of `words`, those first without which accuracy on
/// `valid` is highest; beside it the same order over all units, and random ones. The number to
/// delete is chosen on `valid_clean`; accuracies are of `adversarial` and `clean`.
Edit edit_by_phrases(const WorldNet& net, WorldTask task, const DescribedUnits& units,
                     const std::vector<std::string>& phrases, const std::vector<std::string>& words,
                     const WorldTensors& valid, const WorldTensors& valid_clean,
                     const WorldTensors& adversarial, const WorldTensors& clean,
                     const EditOptions& options, Random& random);

}  // namespace cajal::atlas
