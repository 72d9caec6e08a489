#pragma once
#include <functional>
#include <string>
#include <vector>

#include "cajal/core/json.h"

namespace cajal::text {

/// Turns tokens back into text: steps, each from a list of strings to a list of strings.
class Decoder {
 public:
  /// Reads the "decoder" of a tokenizer file. Null joins the tokens with spaces.
  static Decoder parse(const Json& json, const std::string& where);

  std::string operator()(std::vector<std::string> tokens) const;

  /// Whether the tokens are byte letters and nothing else is done: their bytes can be joined one by
  /// one as they come.
  bool is_byte_level() const { return byte_level_ && steps_.size() == 1; }

  using Step = std::function<std::vector<std::string>(std::vector<std::string>)>;

 private:
  void add(const Json& json, const std::string& where);

  std::vector<Step> steps_;
  bool byte_level_ = false;
  bool joins_with_spaces_ = false;
};

/// The bytes of a token written in byte letters, or the token itself when it is not.
std::string token_bytes(std::string_view token);

}  // namespace cajal::text
