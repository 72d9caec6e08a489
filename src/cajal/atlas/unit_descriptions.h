#pragma once
#include <string>
#include <vector>

#include "cajal/atlas/exemplars.h"
#include "cajal/atlas/world_nets.h"
#include "cajal/atlas/world_phrases.h"
#include "cajal/train/captioner.h"

/// Units of networks in the world of shapes: what drives them, what annotators say of that, and
/// what a captioner that learned from other units says. Source: dossier milan.
namespace cajal::atlas {

/// The live units of a network and everything that is known about them; row i of each is one unit.
struct DescribedUnits {
  std::vector<std::string> net;                   // which network it is of
  std::vector<int64_t> unit;                      // its number there
  torch::Tensor features;                         // f32 [units, top, features]
  torch::Tensor inside;                           // f64 [units, kinds], pixels over all pictures
  std::vector<Truth> truth;                       // from the exemplars' masks
  std::vector<std::vector<std::string>> phrases;  // of each annotator

  int64_t size() const { return static_cast<int64_t>(unit.size()); }
  DescribedUnits of(const std::vector<int64_t>& rows) const;
};
DescribedUnits join(const std::vector<DescribedUnits>& parts);

struct DescribingOptions {
  ExemplarOptions exemplars = {};
  AnnotatorOptions annotators = {};
  int64_t batch = 100;
  int64_t whole = 400;  // pictures whose pixels count for dissection
};

/// Looks at the pictures once for exemplars, and at the first `whole` of them again for the counts
/// by kind; units without a pixel above their level are left out. `encoder` gives the features.
DescribedUnits probe(const WorldNet& net, const WorldNet& encoder, const WorldTensors& data,
                     const DescribingOptions& options, uint64_t seed);

/// A describer and a language model with their vocabulary.
struct UnitCaptioner {
  caption::Vocabulary vocabulary;
  torch::Tensor mean, deviation;  // of the features that it learned from, [features]
  ShowAttendTell describer;
  LstmLanguageModel language;

  std::vector<std::string> describe(const torch::Tensor& features,
                                    const caption::DescribeOptions& options);
};

struct UnitCaptionerOptions {
  int64_t embedding = 128, hidden = 512, layers = 2;
  double dropout = 0.5;
  train::CaptionerOptions training = {};
};

UnitCaptioner train_captioner(const DescribedUnits& units, const UnitCaptionerOptions& options);

/// The phrase of the first annotator of the unit in `known` whose mean features are nearest by
/// cosine: the rival that copies.
std::vector<std::string> nearest_phrases(const DescribedUnits& known,
                                         const torch::Tensor& features);
/// The phrase that was written most often, for each of `count` units.
std::vector<std::string> most_frequent_phrase(const DescribedUnits& known, int64_t count);

/// How well phrases agree with the annotators.
struct Agreement {
  double f1 = 0;          // of attributes, mean over annotators and units
  double bleu = 0;        // BLEU-4 against the annotators' phrases, percent
  double rouge = 0;       // ROUGE-L
  double attributes = 0;  // mean number a phrase
  double exact = 0;       // share whose attributes are those of the ground truth
};
CAJAL_OPTIONS(Agreement, f1, bleu, rouge, attributes, exact)
Agreement agreement(const std::vector<std::string>& said, const DescribedUnits& units);
/// The annotators against each other: each phrase against those of the others.
Agreement annotator_agreement(const DescribedUnits& units);

}  // namespace cajal::atlas
