#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cajal/atlas/census.h"
#include "cajal/models/lm/transformer.h"
#include "cajal/study/study.h"

namespace cajal::study {

/// A language model with text of its kind and what its neurons did on it, as studies of trained
/// networks need them. Calibration text comes from the train split; `valid` judges.
struct Subject {
  std::string name;
  lm::Transformer model{nullptr};
  std::vector<int32_t> calibration, valid;
  int64_t valid_bytes = 0;
  atlas::Census census;  // on the calibration text

  const lm::Config& config() const { return model->config; }
  /// Of `form`, a version of the model, on the valid text.
  double bits_per_byte(lm::Transformer& form, lm::Hooks* hooks = nullptr) const;
  /// The same on the first `tokens` of another corpus; of a random model, on the valid text.
  double bits_per_byte_on(const std::string& corpus, int64_t tokens, lm::Transformer& form) const;
  /// The same weights under another model, whose FFNs may be replaced.
  lm::Transformer copy() const;
};

/// The embedded model of that name on the classics; in a smoke run a tiny random one of the same
/// kind, on random text. Nothing, and a line under "not shown", where model or text is absent.
std::optional<Subject> find_subject(Lab& lab, const std::string& name);

/// The folder of the embedded model of that name. Nothing, and a line under "not shown", where it
/// or the classics are absent.
std::optional<std::filesystem::path> find_trained(Lab& lab, const std::string& name);

}  // namespace cajal::study
