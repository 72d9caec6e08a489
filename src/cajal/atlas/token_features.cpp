#include "cajal/atlas/token_features.h"

#include <algorithm>
#include <functional>
#include <optional>

#include "cajal/atlas/correlate.h"
#include "cajal/core/error.h"

namespace cajal::atlas {
namespace {

bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_letter(char c) { return is_lower(c) || is_upper(c); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string stripped(std::string_view text) {  // lower case, without the space before
  if (text.starts_with(' ')) text.remove_prefix(1);
  std::string out(text);
  for (auto& c : out)
    if (is_upper(c)) c = static_cast<char>(c - 'A' + 'a');
  return out;
}

template <class Of>
bool all(std::string_view text, Of&& of) {
  return !text.empty() && std::all_of(text.begin(), text.end(), of);
}

struct Words {
  const char* name;
  std::vector<std::string_view> words;
};

const std::vector<Words>& word_classes() {
  static const std::vector<Words> classes = {
      {"first person", {"i", "me", "my", "mine", "we", "us", "our", "ours", "myself"}},
      {"second person", {"you", "your", "yours", "thou", "thee", "thy", "ye"}},
      {"third person",
       {"he", "him", "his", "she", "her", "hers", "it", "its", "they", "them", "their"}},
      {"masculine",
       {"he", "him", "his", "himself", "man", "men", "boy", "sir", "mr", "king", "father"}},
      {"feminine",
       {"she", "her", "hers", "herself", "woman", "women", "girl", "lady", "mrs", "miss",
        "mother"}},
      {"article", {"a", "an", "the"}},
      {"preposition",
       {"of", "in", "to", "for", "with", "on", "at", "by", "from", "into", "upon", "over", "under",
        "through"}},
      {"conjunction", {"and", "or", "but", "nor", "yet", "so", "for"}},
      {"form of be", {"be", "am", "is", "are", "was", "were", "been", "being"}},
      {"form of have", {"have", "has", "had", "having", "hath"}},
      {"modal", {"can", "could", "may", "might", "shall", "should", "will", "would", "must"}},
      {"negation", {"not", "no", "never", "none", "nothing", "nor", "neither", "n't"}},
      {"question word", {"who", "what", "when", "where", "why", "how", "which", "whom", "whose"}},
      {"demonstrative", {"this", "that", "these", "those"}},
      {"said", {"said", "asked", "replied", "cried", "answered", "exclaimed"}},
      {"number word",
       {"one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "hundred"}},
  };
  return classes;
}

}  // namespace

std::vector<TokenFeature> token_features(const std::vector<std::string>& texts) {
  std::vector<TokenFeature> out;
  const auto add = [&](std::string family, std::string name,
                       const std::function<bool(std::string_view)>& holds) {
    auto& feature = out.emplace_back(TokenFeature{std::move(family), std::move(name), {}});
    for (const auto& text : texts) feature.holds.push_back(holds(text));
  };
  const auto body = [](std::string_view t) { return t.starts_with(' ') ? t.substr(1) : t; };
  add("shape", "begins with a space", [](std::string_view t) { return t.starts_with(' '); });
  add("shape", "letters without a space before",
      [](std::string_view t) { return all(t, is_letter); });
  add("shape", "all capitals", [&](std::string_view t) { return all(body(t), is_upper); });
  add("shape", "capital first", [&](std::string_view t) {
    return body(t).size() > 1 && is_upper(body(t)[0]) && is_lower(body(t)[1]);
  });
  add("shape", "contains a capital",
      [](std::string_view t) { return std::any_of(t.begin(), t.end(), is_upper); });
  add("shape", "contains a digit",
      [](std::string_view t) { return std::any_of(t.begin(), t.end(), is_digit); });
  add("shape", "all digits", [&](std::string_view t) { return all(body(t), is_digit); });
  add("shape", "year", [&](std::string_view t) {
    return body(t).size() == 4 && all(body(t), is_digit) &&
           (body(t)[0] == '1' || body(t)[0] == '2');
  });
  add("shape", "white space", [](std::string_view t) {
    return all(t, [](char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; });
  });
  add("shape", "contains a line end",
      [](std::string_view t) { return t.find('\n') != std::string_view::npos; });
  add("shape", "punctuation", [&](std::string_view t) {
    return all(body(t), [](char c) { return c > ' ' && c < 127 && !is_letter(c) && !is_digit(c); });
  });
  add("shape", "bytes beyond ASCII", [](std::string_view t) {
    return std::any_of(t.begin(), t.end(),
                       [](char c) { return static_cast<unsigned char>(c) > 127; });
  });
  for (const char* mark : {".", ",", ";", ":", "!", "?", "\"", "'", "-", "(", ")"})
    add("punctuation", fmt::format("contains {}", mark),
        [mark](std::string_view t) { return t.find(mark) != std::string_view::npos; });
  for (size_t n = 1; n <= 8; ++n)
    add("length", fmt::format("{} characters", n),
        [&, n](std::string_view t) { return body(t).size() == n; });
  for (char c = 'a'; c <= 'z'; ++c) {
    add("alphabet", fmt::format("begins with {}", c), [c](std::string_view t) {
      const auto s = stripped(t);
      return !s.empty() && s[0] == c;
    });
    if (std::string_view("aeioudlnrsty").find(c) != std::string_view::npos)
      add("alphabet", fmt::format("ends in {}", c), [c](std::string_view t) {
        const auto s = stripped(t);
        return !s.empty() && s.back() == c;
      });
  }
  for (const char* ending : {"ing", "ed", "ly", "tion", "er", "est", "ness", "ment", "ful", "ous"})
    add("ending", fmt::format("ends in {}", ending),
        [ending](std::string_view t) { return stripped(t).ends_with(ending); });
  for (const auto& [name, words] : word_classes())
    add("syntax", name, [&words](std::string_view t) {
      const auto s = stripped(t);
      return std::find(words.begin(), words.end(), s) != words.end();
    });
  return out;
}

namespace {

// Sums of activations by token id, [vocabulary, neurons], and how often each id came.
struct ByToken {
  torch::Tensor sum, count;
  ByToken(int64_t vocabulary, int64_t neurons)
      : sum(torch::zeros({vocabulary, neurons}, torch::kDouble)),
        count(torch::zeros({vocabulary}, torch::kDouble)) {}
  void add(const torch::Tensor& ids, const torch::Tensor& a) {
    sum.index_add_(0, ids, a.to(torch::kDouble));
    count.index_add_(0, ids, torch::ones({ids.size(0)}, torch::kDouble));
  }
};

// p (1 - p) (mean where it holds - mean elsewhere)^2 / variance for rows of (sum, count).
torch::Tensor reductions(const torch::Tensor& sum, const torch::Tensor& count,
                         const torch::Tensor& whole, double tokens, const torch::Tensor& variance,
                         double least) {
  const auto n = count.unsqueeze(1), rest = tokens - n;
  const auto gap = sum / n.clamp_min(1) - (whole.unsqueeze(0) - sum) / rest.clamp_min(1);
  const auto out = n * rest / (tokens * tokens) * gap.square() / variance.clamp_min(1e-30);
  return torch::where(((n >= least) & (rest >= least) & (variance > 0)).expand_as(out), out,
                      torch::zeros_like(out));
}

}  // namespace

std::vector<Explanation> explain(lm::Transformer& model, std::span<const int32_t> ids,
                                 const std::vector<TokenFeature>& features, int64_t context,
                                 int64_t least) {
  const torch::NoGradGuard no_grad;
  const auto vocabulary = model->config.vocabulary;
  for (const auto& feature : features)
    require(std::ssize(feature.holds) == vocabulary, "feature '{}' knows {} of {} tokens",
            feature.name, feature.holds.size(), vocabulary);
  std::optional<ByToken> here, before;
  torch::Tensor square;
  each_activation(model, ids, context, 8, [&](int64_t first, const torch::Tensor& a) {
    const auto n = a.size(0);
    if (!here) {
      here.emplace(vocabulary, a.size(1)), before.emplace(vocabulary, a.size(1));
      square = torch::zeros({a.size(1)}, torch::kDouble);
    }
    const auto of = torch::from_blob(const_cast<int32_t*>(ids.data() + first), {n}, torch::kInt)
                        .to(torch::kLong);
    here->add(of, a);
    if (n > 1) before->add(of.slice(0, 0, n - 1), a.slice(0, 1));
    square += a.to(torch::kDouble).square().sum(0);
  });
  const auto tokens = here->count.sum().item<double>();
  const auto whole = here->sum.sum(0);
  const auto variance = (square / tokens - (whole / tokens).square()).clamp_min(0);
  auto holds = torch::zeros({std::ssize(features), vocabulary}, torch::kDouble);
  for (size_t f = 0; f < features.size(); ++f)
    for (int64_t v = 0; v < vocabulary; ++v)
      holds.data_ptr<double>()[static_cast<int64_t>(f) * vocabulary + v] = features[f].holds[v];

  std::vector<Explanation> out(static_cast<size_t>(whole.size(0)));
  const auto take = [&](const torch::Tensor& all, auto&& name) {
    const auto [best, which] = all.max(0);
    for (int64_t i = 0; i < best.size(0); ++i)
      if (const auto r = best[i].item<double>(); r > out[i].reduction) {
        auto [family, label] = name(which[i].item<int64_t>());
        out[i] = {std::move(family), std::move(label), r};
      }
  };
  const auto least_count = static_cast<double>(least);
  take(reductions(here->sum, here->count, whole, tokens, variance, least_count),
       [](int64_t v) { return std::pair(std::string("token"), std::to_string(v)); });
  if (features.empty()) return out;
  for (const auto* place : {&*here, &*before}) {
    const std::string prefix = place == &*before ? "previous: " : "";
    const auto total = place->count.sum().item<double>();
    take(reductions(torch::mm(holds, place->sum), torch::mv(holds, place->count), place->sum.sum(0),
                    total, variance, least_count),
         [&](int64_t f) { return std::pair(prefix + features[f].family, features[f].name); });
  }
  return out;
}

}  // namespace cajal::atlas
