#pragma once
#include <vector>

#include "cajal/models/caption/captioner.h"

namespace cajal::train {

/// Regions with some phrases each, as annotators gave them.
struct Annotated {
  torch::Tensor features;                            // [units, regions, features]
  std::vector<std::vector<caption::Words>> phrases;  // of each unit
};

struct CaptionerOptions {
  int64_t epochs = 100, patience = 4;
  int64_t batch = 64;          // (unit, phrase) samples; the language model takes 128
  double rate = 1e-3;          // of AdamW
  double hold_out = 0.1;       // share of the units that decides when to stop
  double attention = 1;        // weight of mean over regions of (1 - Σ_t attention)²
  int64_t evaluate_every = 1;  // epochs between two looks at the units held out
};
CAJAL_OPTIONS(CaptionerOptions, epochs, patience, batch, rate, hold_out, attention, evaluate_every)

struct CaptionerRun {
  int64_t epochs = 0;
  double best = 0;  // BLEU of greedy phrases, or the loss a word
};

/// Trains p(phrase | regions) by the likelihood of the given words; stops when BLEU-4 of greedy
/// phrases for the units held out has not risen `patience` times and keeps the best weights. Draws
/// from libtorch's generator. Throws Error when sizes do not fit or the loss is no number.
/// Source: dossier milan, Build 4.
CaptionerRun fit_describer(ShowAttendTell& describer, const Annotated& data,
                           const CaptionerOptions& options);

/// Trains p(phrase) on all phrases; stops by the loss of phrases held out.
CaptionerRun fit_language(LstmLanguageModel& language, const std::vector<caption::Words>& phrases,
                          const CaptionerOptions& options);

}  // namespace cajal::train
