#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cajal/models/judges/pair.h"

/// What judges are asked and how their words are read.
namespace cajal::judges {

/// In which order the answers are shown: as they are, or the second as Assistant 1's.
enum class Order { forward, swapped };

struct Prompt {
  std::string system, user;
};

/// Asks from which angles the answers should be compared: exactly `count`, or any number at 0.
std::string ask_for_angles(const Pair& pair, int64_t count);

/// Asks for a review from one angle; an empty angle asks for an overall view. `role` is put before
/// the system prompt where it is not empty.
Prompt ask_for_review(const Pair& pair, Order order, const std::string& angle,
                      const std::string& role = "");

/// The same after reading earlier reviews, whose names already fit the order.
Prompt ask_again(const Pair& pair, Order order, const std::string& angle,
                 const std::vector<std::string>& own, const std::vector<std::string>& colleagues,
                 const std::string& role = "");

/// Marks between which earlier reviews stand in a prompt.
constexpr std::string_view kOwnReviews = "[Your earlier reviews]",
                           kColleagues = "[Reviews of your colleagues]",
                           kReviewsEnd = "[End of reviews]";

/// The angles of a reply, each written $angle& ($angle@ for code, whose text may hold &).
std::vector<std::string> parse_angles(std::string_view reply, Task task);

/// Both scores of "Score of [the ]Assistant 1: x" and 2; nothing where one is missing or outside
/// 0 to 10, which no honest judge says.
struct Scores {
  double first = 0, second = 0;
};
std::optional<Scores> parse_scores(std::string_view reply);

/// The text with "Assistant 1" and "Assistant 2" exchanged; twice gives the text back.
std::string exchange_names(std::string text);

}  // namespace cajal::judges
