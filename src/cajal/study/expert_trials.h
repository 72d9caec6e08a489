#pragma once
#include "cajal/data/polarity.h"
#include "cajal/study/decoding.h"
#include "cajal/study/subject.h"
#include "cajal/surgery/moefy.h"
#include "cajal/train/sentences.h"

/// Trained networks cut into experts and measured, as the study of MoEfication needs them.
namespace cajal::study {

/// Ways to choose experts that are tried on sentences; those that are not of kmeans at a ratio of
/// 0.25 alone.
struct Trial {
  surgery::ExpertSplit split;
  const char* router;  // a RouterKind or "random"
};
inline constexpr double kTrialRatios[] = {0.1, 0.2, 0.25, 0.5};
inline constexpr Trial kTrials[] = {
    {surgery::ExpertSplit::kmeans, "oracle"},       {surgery::ExpertSplit::kmeans, "mlp"},
    {surgery::ExpertSplit::kmeans, "similarity"},   {surgery::ExpertSplit::kmeans, "random"},
    {surgery::ExpertSplit::coactivation, "oracle"}, {surgery::ExpertSplit::coactivation, "mlp"},
    {surgery::ExpertSplit::random, "oracle"},       {surgery::ExpertSplit::random, "mlp"}};

/// A classifier of sentences, one of a quarter of its neurons, and the first cut into experts.
struct SentenceTrial {
  double dense = 0, narrow = 0;           // accuracies; narrow: of the active width, from scratch
  std::vector<std::vector<double>> kept;  // [trial][ratio] accuracy over dense, 0 = not asked for
  std::vector<double> fired;              // of each layer
  bool ordered = true;                    // oracle >= mlp >= similarity > random in every layer
};
CAJAL_OPTIONS(SentenceTrial, dense, narrow, kept, fired, ordered)

/// Trains both with the seed of `cut` and cuts the first as `cut` says, but for its split, router
/// and ratio.
SentenceTrial try_sentences(const data::SentencePolarity& texts,
                            const train::SentenceOptions& preset, const surgery::MoefyOptions& cut);

/// One way to choose experts and the bits a byte that it needs.
struct Kept {
  RouterKind router;
  double ratio = 0, bits = 0;
};
CAJAL_OPTIONS(Kept, router, ratio, bits)

/// One split of a trained model behind its routers, without training after the cut.
struct SplitTrial {
  double captured = 0, mass = 0;  // by the router at the ratio of the cut, mean of the layers
  double random = 0;              // bits with random experts at 0.25; 0: not asked for
  std::vector<Kept> kept;
};
CAJAL_OPTIONS(SplitTrial, captured, mass, random, kept)

/// At 0.25 by oracle and mlp; kmeans by all routers and at other ratios too.
SplitTrial try_split(Subject& subject, const surgery::MoefyOptions& cut);

/// The model with only the `ratio` of the neurons of each layer that write most energy; what the
/// others write on average stays.
lm::Transformer pruned(const Subject& subject, double ratio);

/// Decoding of the model cut so, times that of the model as it is.
Decoding decode_cut(Subject& subject, surgery::MoefyOptions cut);

}  // namespace cajal::study
