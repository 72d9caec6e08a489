#include "cajal/study/choice.h"

#include <cmath>
#include <optional>

#include "cajal/core/error.h"

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
    try {
      // A part each; a Figure, because a quality may be infinite or none.
      const auto name = fmt::format("{} at {}", what, candidate);
      const double reached = lab_->part(name, [&] { return Figure(quality(candidate)); }).mean();
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
