#include "cajal/models/judges/simulated.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "cajal/core/error.h"
#include "cajal/core/random.h"

namespace cajal::judges {

const std::array<const char*, kPerspectives> kPerspectiveNames = {
    "Accuracy",  "Relevance",   "Completeness", "Clarity",
    "Coherence", "Conciseness", "Usefulness",   "Harmlessness"};

namespace {

constexpr double kMiddle = 5.5;  // of the scale from 1 to 10

// FNV-1a: the same on every machine.
uint64_t hash_text(std::string_view text, uint64_t hash = 0xcbf29ce484222325) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

std::string query_of(int64_t item) {
  return fmt::format("Which answer to item {} is better?", item);
}
std::string answer_of(int64_t item, char which) {
  return fmt::format("This is answer {} to item {}.", which, item);
}

int64_t item_in(std::string_view text) {
  constexpr std::string_view mark = "Which answer to item ";
  const auto at = text.find(mark);
  int64_t item = -1;
  if (at != text.npos)
    std::from_chars(text.data() + at + mark.size(), text.data() + text.size(), item);
  return item;
}

// The text between `begin` and the next end of reviews.
std::string_view section(std::string_view text, std::string_view begin) {
  const auto at = text.find(begin);
  if (at == text.npos) return {};
  const auto rest = text.substr(at + begin.size());
  return rest.substr(0, rest.find(kReviewsEnd));
}

// Scores of all reviews in a section. Names may have been exchanged since they were written, so
// that either assistant's line comes first.
std::vector<Scores> quoted_scores(std::string_view text) {
  constexpr std::string_view mark = "Review:";
  std::vector<Scores> out;
  for (size_t at = text.find(mark); at != text.npos;) {
    const auto next = text.find(mark, at + mark.size());
    if (const auto scores = parse_scores(text.substr(at, next - at))) out.push_back(*scores);
    at = next;
  }
  return out;
}

int perspective_in(std::string_view text) {
  constexpr std::string_view mark = "Look at it from this angle: ";
  const auto at = text.find(mark);
  if (at == text.npos) return -1;
  const auto rest = text.substr(at + mark.size());
  for (int k = 0; k < kPerspectives; ++k)
    if (rest.starts_with(kPerspectiveNames[static_cast<size_t>(k)])) return k;
  return -1;
}

// The view of the majority among reviews, or nothing where there is none.
std::optional<Scores> majority_view(const std::vector<Scores>& reviews) {
  int64_t votes = 0;
  for (const auto& r : reviews) votes += (r.first > r.second) - (r.first < r.second);
  Scores sum;
  double count = 0;
  for (const auto& r : reviews)
    if ((votes > 0 && r.first > r.second) || (votes < 0 && r.first < r.second))
      sum.first += r.first, sum.second += r.second, ++count;
  if (count == 0) return {};
  return Scores{sum.first / count, sum.second / count};
}

int score(double belief) {
  return static_cast<int>(std::clamp(std::lround(kMiddle + belief), 1L, 10L));
}

}  // namespace

SimulatedWorld::SimulatedWorld(int64_t pairs, uint64_t seed, const SimulatedOptions& options)
    : options_(options), seed_(seed) {
  require(pairs > 0, "a simulated world of {} pairs", pairs);
  // Exactly the paper's balance, in an order of its own.
  std::vector<Verdict> wanted;
  const auto part = [&](int64_t of) { return (pairs * of + 2553 / 2) / 2553; };
  const int64_t first = part(1050), second = std::min(pairs - first, part(1021));
  wanted.insert(wanted.end(), static_cast<size_t>(first), Verdict::first);
  wanted.insert(wanted.end(), static_cast<size_t>(second), Verdict::second);
  wanted.resize(static_cast<size_t>(pairs), Verdict::tie);
  Random random(seed, 1);
  shuffle(wanted, random);
  for (int64_t i = 0; i < pairs; ++i) {
    items_.push_back(draw(static_cast<uint64_t>(i), wanted[static_cast<size_t>(i)]));
    pairs_.push_back({query_of(i), answer_of(i, 'A'), answer_of(i, 'B'),
                      wanted[static_cast<size_t>(i)], "simulated"});
  }
}

SimulatedWorld::Item SimulatedWorld::draw(uint64_t item, Verdict wanted) const {
  Random random(seed_, 1000 + item);
  for (int attempt = 0; attempt < 100000; ++attempt) {
    Item out;
    std::array<double, 2> mean{};
    for (size_t x = 0; x < 2; ++x) {
      const double common = options_.common * random.normal();
      for (auto& q : out.quality[x]) {
        q = common + options_.own * random.normal();
        mean[x] += q / kPerspectives;
      }
      out.shared[x] = options_.shared * random.normal();
      out.length[x] = random.normal();
    }
    const double felt = mean[0] - mean[1] + options_.human_noise * random.normal();
    const auto label = std::fabs(felt) < options_.tie_band ? Verdict::tie
                       : felt > 0                          ? Verdict::first
                                                           : Verdict::second;
    if (label == wanted) return out;
  }
  fail("a simulated world: its people never say '{}'", to_name(wanted));
}

data::ChatReply SimulatedWorld::answer(const data::ChatRequest& request) const {
  require(!request.messages.empty(), "a simulated judge was sent no message");
  const auto& text = request.messages.back().content;
  const auto item = item_in(text);
  require(item >= 0 && item < std::ssize(items_), "a simulated judge knows no item {}", item);
  // Only reviewers are told who they are.
  return {request.messages.size() > 1 ? review(request, item) : angles(request, item)};
}

std::string SimulatedWorld::angles(const data::ChatRequest& request, int64_t item) const {
  const auto& text = request.messages.back().content;
  constexpr std::string_view mark = "Name the ";
  int count = kPerspectives;
  if (const auto at = text.find(mark); at != text.npos)
    std::from_chars(text.data() + at + mark.size(), text.data() + text.size(), count);
  std::array<size_t, kPerspectives> order{};
  for (size_t k = 0; k < order.size(); ++k) order[k] = k;
  Random random(seed_ ^ 0x616e676c, static_cast<uint64_t>(item));
  shuffle(order, random);
  std::string out;
  for (int k = 0; k < std::min(count, kPerspectives); ++k)
    out += fmt::format("${}& which of the two does better here.\n",
                       kPerspectiveNames[order[static_cast<size_t>(k)]]);
  return out;
}

std::string SimulatedWorld::review(const data::ChatRequest& request, int64_t item) const {
  const auto& o = options_;
  const auto& text = request.messages.back().content;
  const auto& known = items_[static_cast<size_t>(item)];
  const bool forward = text.find(answer_of(item, 'A')) < text.find(answer_of(item, 'B'));
  int perspective = perspective_in(text);
  if (perspective < 0)  // asked for an overall view: whatever strikes one at this item
    perspective = static_cast<int>(
        Random(seed_ ^ 0x737472, static_cast<uint64_t>(item)).below(kPerspectives));
  const bool fresh = request.temperature > 0;
  const auto call =
      fresh ? hash_text(text, hash_text(fmt::format("{} {}", request.model, request.sample))) : 0;

  std::array<double, 2> belief{};  // of the answers A and B
  for (size_t x = 0; x < 2; ++x) {
    const auto own =
        static_cast<uint64_t>((item * 2 + static_cast<int64_t>(x)) * kPerspectives + perspective);
    Random random(seed_ ^ 0x6a75 ^ call, own);
    const bool shown_first = forward == (x == 0);
    belief[x] = known.quality[x][static_cast<size_t>(perspective)] + o.noise * random.normal() +
                known.shared[x] + o.verbosity * known.length[x] + (shown_first ? o.position : 0);
  }
  Random random(seed_ ^ 0x6d6f ^ call, static_cast<uint64_t>(item * kPerspectives + perspective));
  if (auto colleagues = quoted_scores(section(text, kColleagues)); !colleagues.empty()) {
    if (!forward)
      for (auto& c : colleagues) std::swap(c.first, c.second);
    Scores mean;
    for (const auto& c : colleagues) mean.first += c.first, mean.second += c.second;
    const auto n = static_cast<double>(colleagues.size());
    const double noise[] = {random.normal(), random.normal()};
    const double heard[] = {mean.first / n - kMiddle, mean.second / n - kMiddle};
    const auto herd = random.uniform() < o.herding ? majority_view(colleagues) : std::nullopt;
    for (size_t x = 0; x < 2; ++x)
      belief[x] = herd ? (x == 0 ? herd->first : herd->second) - kMiddle
                       : (1 - o.trust) * belief[x] + o.trust * heard[x] + o.discussion * noise[x];
  }
  if (fresh && random.uniform() < o.malformed) return "Review: I would rather not say.\n";
  const int first = score(belief[forward ? 0 : 1]), second = score(belief[forward ? 1 : 0]);
  return fmt::format(
      "Review: {}, Assistant {} convinces more.\nScore of Assistant 1: {}\nScore of Assistant 2: "
      "{}\n",
      kPerspectiveNames[static_cast<size_t>(perspective)], first >= second ? 1 : 2, first, second);
}

}  // namespace cajal::judges
