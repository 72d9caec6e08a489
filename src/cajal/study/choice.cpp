#include "cajal/study/choice.h"

#include <cmath>
#include <optional>

#include "cajal/core/error.h"
#include "cajal/core/torch.h"

namespace cajal::study {

Choices::Choices(Lab& lab)
    : lab_(&lab),
      table_(lab.table("chosen on validation data", {"what", "tried: quality", "chosen"})) {}

double Choices::best(const std::string& what, const std::vector<double>& candidates,
                     const std::function<double(double)>& quality) {
  require(!candidates.empty(), "{}: nothing to choose from", what);
  std::optional<double> chosen;
  std::optional<Error> failure;
  double most = 0;
  std::string tried;
  for (const double candidate : candidates) {
    seed_everything(lab_->seeds()[0]);
    try {
      const double reached = quality(candidate);
      tried += fmt::format("{}{}: {:.4g}", tried.empty() ? "" : ", ", candidate, reached);
      if (std::isfinite(reached) && (!chosen || reached > most)) chosen = candidate, most = reached;
    } catch (const Error& diverged) {
      tried += fmt::format("{}{}: diverged", tried.empty() ? "" : ", ", candidate);
      failure = diverged;
    }
    if (lab_->smoke()) break;
  }
  if (!chosen && failure) throw *failure;
  require(chosen.has_value(), "{}: no candidate has a finite quality: {}", what, tried);
  table_.row(what, tried, *chosen);
  return *chosen;
}

}  // namespace cajal::study
