#include "cajal/atlas/describer_trials.h"

#include "cajal/atlas/dissection.h"

namespace cajal::atlas {

std::string reranked(double lambda) { return fmt::format("MILAN, lambda {:.1f}", lambda); }

std::vector<DescriberTrial> try_describers(UnitCaptioner& captioner, const DescribedUnits& known,
                                           const DescribedUnits& unknown,
                                           const torch::Tensor& everywhere, const TrialOptions& o) {
  std::vector<DescriberTrial> out;
  const auto add = [&](const std::string& method, const std::vector<std::string>& said) {
    out.push_back({method, agreement(said, unknown)});
  };
  const auto say = [&](caption::Strategy how, double lambda) {
    return captioner.describe(
        unknown.features, {.strategy = how, .lambda = lambda, .beam = o.beam, .length = o.length});
  };
  for (const double lambda : o.lambdas)
    add(reranked(lambda), say(caption::Strategy::rerank, lambda));
  for (const auto how : o.strategies) add("lambda 0.2, " + to_name(how), say(how, 0.2));
  add("NetDissect", phrases_of(dissect(unknown.inside, everywhere)));
  add("compositional explanations", phrases_of(explain_by_formulas(unknown.inside, everywhere)));
  add("nearest annotated unit", nearest_phrases(known, unknown.features));
  add("most frequent phrase", most_frequent_phrase(known, unknown.size()));
  out.push_back({"annotators", annotator_agreement(unknown)});
  return out;
}

}  // namespace cajal::atlas
