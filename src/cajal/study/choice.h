#pragma once
#include <functional>
#include <string>
#include <vector>

#include "cajal/study/study.h"

namespace cajal::study {

/// Hyper-parameters chosen on validation data; every choice is a row of one table of the result.
class Choices {
 public:
  explicit Choices(Lab& lab);

  /// The candidate with the largest quality, the first of equals; each is tried once from the first
  /// seed, as a part of the study: `quality` must leave nothing behind but what it returns. One
  /// whose training throws loses. A smoke run tries the first alone. Throws Error when there is no
  /// candidate, and what the last one threw when all do.
  double best(const std::string& what, const std::vector<double>& candidates,
              const std::function<double(double candidate)>& quality);

 private:
  Lab* lab_;
  TableWriter table_;
};

}  // namespace cajal::study
