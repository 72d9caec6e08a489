#pragma once
#include <map>
#include <string>
#include <vector>

#include "cajal/study/study.h"
#include "cajal/train/tree_classifier.h"

namespace cajal::study {

/// Accuracies and use of leaves (or experts) of one row, a value a seed.
struct TreeFigures {
  Figure train, test, soft, entropy, used, use_entropy, blend;

  /// Points between the soft and the hard form's test accuracy, seed by seed.
  Figure gap() const;
};

/// A table of trees, dense networks and experts that learn the same classes. A row is a part a
/// seed; a network that stands in several rows is trained once.
class TreeTable {
 public:
  TreeTable(Lab& lab, train::ClassifierData data);

  /// Width and outputs are the data's, whatever the options say.
  TreeFigures tree(const std::string& variant, FastFeedForwardOptions options,
                   const std::vector<train::TreePhase>& phases);
  TreeFigures dense(const std::string& variant, int64_t neurons, int64_t epochs);
  TreeFigures experts(const std::string& variant, SparseMemoryOptions options, int64_t epochs);

  train::ClassifierOptions steps;  // of all rows that follow, but for the epochs

 private:
  TreeFigures row(const std::string& layer, const std::string& variant, int64_t stored,
                  int64_t read, const std::string& part,
                  const std::function<train::TreeScore()>& run);

  Lab& lab_;
  train::ClassifierData data_;
  int64_t features_, classes_;
  TableWriter table_;
  std::map<std::string, TreeFigures> known_;  // by part
};

}  // namespace cajal::study
