#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cajal/core/json.h"

namespace cajal::text {

/// What happens to text before it is cut into pieces: steps, each from valid UTF-8 to valid UTF-8.
class Normalizer {
 public:
  /// Reads the "normalizer" of a tokenizer file (null: none). `where` names it in errors.
  static Normalizer parse(const Json& json, const std::string& where);

  bool empty() const { return steps_.empty(); }
  std::string operator()(std::string_view text) const;

  using Step = std::function<std::string(std::string_view)>;

 private:
  void add(const Json& json, const std::string& where);
  std::vector<Step> steps_;
};

}  // namespace cajal::text
