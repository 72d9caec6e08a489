#pragma once
#include <string>
#include <vector>

#include "cajal/atlas/unit_descriptions.h"

namespace cajal::atlas {

/// A way to describe units and how its phrases agree with the annotators'.
struct DescriberTrial {
  std::string method;
  Agreement agreement;
};
CAJAL_OPTIONS(DescriberTrial, method, agreement)

struct TrialOptions {
  std::vector<double> lambdas = {0, 0.2};          // of reranking
  std::vector<caption::Strategy> strategies = {};  // besides, at lambda 0.2
  int64_t beam = 50, length = 8;
};

/// "MILAN, lambda 0.2"
std::string reranked(double lambda);

/// A captioner that learned from `known`, its rivals (network dissection, compositional
/// explanations, the nearest unit of `known`, its most frequent phrase) and the annotators among
/// themselves, on the units of `unknown`; everywhere f64 [kinds]: pixels by kind of the pictures
/// that dissection counts. Source: dossier milan, "Compare against".
std::vector<DescriberTrial> try_describers(UnitCaptioner& captioner, const DescribedUnits& known,
                                           const DescribedUnits& unknown,
                                           const torch::Tensor& everywhere,
                                           const TrialOptions& options);

}  // namespace cajal::atlas
