#include "cajal/models/caption/captioner.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <sstream>

namespace cajal::caption {
namespace {

using torch::Tensor;
constexpr const char* kSpecial[] = {"<pad>", "<start>", "<stop>", "<unknown>"};

std::vector<std::string> lemmas(const std::string& phrase) {
  std::istringstream stream(phrase);
  std::vector<std::string> out;
  for (std::string word; stream >> word;)
    if (auto plain = lemma(word); !plain.empty()) out.push_back(std::move(plain));
  return out;
}

bool ends(const std::string& word, std::string_view ending) {
  return word.size() > ending.size() + 2 && word.ends_with(ending);
}

Tensor batch_of(const std::vector<Words>& phrases, bool start) {
  size_t longest = 0;
  for (const auto& p : phrases) longest = std::max(longest, p.size());
  const auto width = static_cast<int64_t>(longest) + 1;
  auto out = torch::full({static_cast<int64_t>(phrases.size()), width}, kPad, torch::kLong);
  auto* ids = out.data_ptr<int64_t>();
  for (const auto& p : phrases) {
    std::copy(p.begin(), p.end(), ids + (start ? 1 : 0));
    ids[start ? 0 : p.size()] = start ? kStart : kStop;
    ids += width;
  }
  return out;
}

Tensor sum_of(const Tensor& odds, const std::vector<Words>& phrases, int64_t length) {
  auto wanted = with_stop(phrases);
  for (size_t i = 0; length > 0 && i < phrases.size(); ++i)
    if (std::ssize(phrases[i]) == length) wanted[static_cast<int64_t>(i)][length] = kPad;
  wanted = wanted.to(odds.device());
  const auto each = odds.gather(2, wanted.unsqueeze(-1)).squeeze(-1);
  return each.masked_fill(wanted == kPad, 0).sum(1);
}

void move_to(DescriberState& state, const Tensor& rows, int64_t axis) {
  state.h = state.h.index_select(axis, rows), state.c = state.c.index_select(axis, rows);
}

/// Both models with their states; the score of each next word.
class Walker {
 public:
  Walker(ShowAttendTell& describer, LstmLanguageModel* language, double lambda, Tensor features)
      : describer_(describer),
        language_(language),
        lambda_(lambda),
        features_(std::move(features)) {
    projected_ = describer->project(features_), state_ = describer->start(features_);
    if (language_) words_ = (*language_)->start(features_.size(0));
  }
  Tensor step(const Tensor& word) {
    auto odds = std::get<0>(describer_->step(features_, projected_, word, state_));
    if (language_) odds = odds - lambda_ * (*language_)->step(word, words_);
    return odds;
  }
  /// Goes on from other rows of the batch; those of one item share its features.
  void select(const Tensor& rows, bool features) {
    move_to(state_, rows, 0);
    if (language_) move_to(words_, rows, 1);
    if (!features) return;
    features_ = features_.index_select(0, rows), projected_ = projected_.index_select(0, rows);
  }

 private:
  ShowAttendTell& describer_;
  LstmLanguageModel* language_;
  double lambda_;
  Tensor features_, projected_;
  DescriberState state_, words_;
};

std::vector<Description> walk(Walker walker, int64_t batch, torch::Device device, bool sample,
                              int64_t length) {
  std::vector<Description> out(static_cast<size_t>(batch), Description{{}, 0, false});
  std::vector<bool> done(out.size(), false);
  auto word = torch::full({batch}, kStart, torch::TensorOptions(torch::kLong).device(device));
  for (int64_t t = 0; t < length; ++t) {
    const auto odds = walker.step(word);
    word = sample ? torch::multinomial(torch::softmax(odds, -1), 1).squeeze(1) : odds.argmax(-1);
    const auto said = word.cpu();
    const auto scores = odds.gather(1, word.unsqueeze(1)).squeeze(1).cpu().to(torch::kDouble);
    for (size_t b = 0; b < out.size(); ++b) {
      if (done[b]) continue;
      const auto id = said.data_ptr<int64_t>()[b];
      out[b].score += scores.data_ptr<double>()[b];
      if (id == kStop)
        done[b] = out[b].finished = true;
      else
        out[b].words.push_back(id);
    }
    if (std::find(done.begin(), done.end(), false) == done.end()) break;
  }
  return out;
}

/// Beam search over all items at once; a beam that has stopped stays as it is.
std::vector<std::vector<Description>> beams(Walker walker, int64_t batch, torch::Device device,
                                            int64_t beam, int64_t length) {
  const auto ids = torch::TensorOptions(torch::kLong).device(device);
  auto odds = walker.step(torch::full({batch}, kStart, ids));
  const int64_t vocabulary = odds.size(1), first = std::min(beam, vocabulary);
  auto [scores, words] = odds.topk(first, 1);
  auto phrases = words.unsqueeze(-1);  // [batch, beams, words]
  walker.select(torch::arange(batch, ids).repeat_interleave(first), true);
  int64_t width = first;
  auto stay = torch::full({vocabulary}, -std::numeric_limits<double>::infinity(), odds.options());
  stay[kStop] = 0;
  for (int64_t t = 1; t < length; ++t) {
    const auto last = phrases.select(2, t - 1);
    if ((last == kStop).all().item<bool>()) break;
    odds = walker.step(last.flatten()).view({batch, width, vocabulary});
    odds = torch::where((last == kStop).unsqueeze(-1), stay, odds);
    const auto total = (scores.unsqueeze(-1) + odds).flatten(1);
    const int64_t next = std::min(beam, width * vocabulary);
    Tensor places;
    std::tie(scores, places) = total.topk(next, 1);
    const auto from = torch::div(places, vocabulary, "floor");
    const auto row = from.unsqueeze(-1).expand({-1, -1, t});
    phrases = torch::cat({phrases.gather(1, row), (places % vocabulary).unsqueeze(-1)}, 2);
    walker.select((from + torch::arange(batch, ids).unsqueeze(1) * width).flatten(), next != width);
    width = next;
  }
  phrases = phrases.cpu().contiguous(), scores = scores.cpu().to(torch::kDouble).contiguous();
  std::vector<std::vector<Description>> out(static_cast<size_t>(batch));
  const auto* id = phrases.data_ptr<int64_t>();
  const auto* score = scores.data_ptr<double>();
  for (auto& item : out)
    for (int64_t k = 0; k < width; ++k, ++score, id += phrases.size(2)) {
      if (!std::isfinite(*score)) continue;
      const auto* end = std::find(id, id + phrases.size(2), kStop);
      item.push_back({Words(id, end), *score, end != id + phrases.size(2)});
    }
  return out;
}

constexpr int64_t kItems = 32;  // that beam search takes at once

/// Subtracts lambda log p(d) from the scores of all phrases.
void rerank(std::vector<std::vector<Description>>& found, LstmLanguageModel& language,
            const DescribeOptions& o) {
  std::vector<Words> phrases;
  for (const auto& item : found)
    for (const auto& d : item) phrases.push_back(d.words);
  const auto prior = log_likelihood(language, phrases, o.length).cpu().to(torch::kDouble);
  const auto* log_p = prior.data_ptr<double>();
  for (auto& item : found)
    for (auto& d : item) d.score -= o.lambda * *log_p++;
}

}  // namespace

std::string lemma(const std::string& word) {
  std::string out;
  for (const char c : word)
    if (std::isalnum(static_cast<unsigned char>(c)) || c == '-')
      out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (ends(out, "ies")) return out.substr(0, out.size() - 3) + "y";
  if (out.ends_with("sses") || out.ends_with("xes") || ends(out, "shes") || ends(out, "ches"))
    return out.substr(0, out.size() - 2);
  if (ends(out, "s") && !ends(out, "ss") && !ends(out, "us")) out.pop_back();
  return out;
}

Vocabulary::Vocabulary(const std::vector<std::string>& phrases)
    : words_(std::begin(kSpecial), std::end(kSpecial)) {
  std::set<std::string> all;
  for (const auto& phrase : phrases)
    for (const auto& word : lemmas(phrase)) all.insert(word);
  words_.insert(words_.end(), all.begin(), all.end());
  for (size_t i = 0; i < words_.size(); ++i) ids_[words_[i]] = static_cast<int64_t>(i);
}

Words Vocabulary::encode(const std::string& phrase) const {
  Words out;
  for (const auto& word : lemmas(phrase)) {
    const auto it = ids_.find(word);
    out.push_back(it == ids_.end() ? kUnknown : it->second);
  }
  return out;
}

std::string Vocabulary::decode(const Words& words) const {
  std::string out;
  for (const auto id : words) {
    require(id >= 0 && id < size(), "vocabulary: word {} of {}", id, size());
    if (id == kStop) break;
    out += (out.empty() ? "" : " ") + words_[static_cast<size_t>(id)];
  }
  return out;
}

Tensor with_start(const std::vector<Words>& phrases) { return batch_of(phrases, true); }
Tensor with_stop(const std::vector<Words>& phrases) { return batch_of(phrases, false); }

Tensor log_likelihood(ShowAttendTell& describer, const Tensor& features,
                      const std::vector<Words>& phrases) {
  const auto words = with_start(phrases).to(features.device());
  return sum_of(std::get<0>(describer->forward(features, words)), phrases, 0);
}

Tensor log_likelihood(LstmLanguageModel& language, const std::vector<Words>& phrases,
                      int64_t length) {
  const auto words = with_start(phrases).to(language->parameters().front().device());
  return sum_of(language->forward(words), phrases, length);
}

std::vector<std::vector<Description>> beam_search(ShowAttendTell& describer, const Tensor& features,
                                                  int64_t beam, int64_t length) {
  require(beam > 0 && length > 0, "beam search: {} beams of {} words", beam, length);
  require(features.dim() == 3 && features.size(2) == describer->options.features,
          "beam search: features are {}, expected [batch, regions, {}]",
          shape_text(features.sizes()), describer->options.features);
  const torch::NoGradGuard no_grad;
  describer->eval();
  return beams(Walker(describer, nullptr, 0, features), features.size(0), features.device(), beam,
               length);
}

std::vector<Description> describe(ShowAttendTell& describer, LstmLanguageModel& language,
                                  const Tensor& features, const DescribeOptions& o) {
  require(o.beam > 0 && o.length > 0, "describe: {} beams of {} words", o.beam, o.length);
  require(features.dim() == 3 && features.size(1) > 0 &&
              features.size(2) == describer->options.features,
          "describe: features are {}, expected [batch, regions, {}]", shape_text(features.sizes()),
          describer->options.features);
  require(describer->options.vocabulary == language->options.vocabulary,
          "describe: the describer knows {} words and the language model {}",
          describer->options.vocabulary, language->options.vocabulary);
  const torch::NoGradGuard no_grad;
  describer->eval(), language->eval();
  const auto device = features.device();
  const bool mutual = o.strategy == Strategy::mi_greedy || o.strategy == Strategy::mi_beam;
  const bool one_way = o.strategy == Strategy::greedy || o.strategy == Strategy::sample ||
                       o.strategy == Strategy::mi_greedy;
  std::vector<Description> out;
  for (int64_t begin = 0; begin < features.size(0); begin += kItems) {
    const auto some = features.slice(0, begin, std::min(features.size(0), begin + kItems));
    Walker walker(describer, mutual ? &language : nullptr, o.lambda, some);
    if (one_way) {
      for (auto& d :
           walk(std::move(walker), some.size(0), device, o.strategy == Strategy::sample, o.length))
        out.push_back(std::move(d));
      continue;
    }
    auto found = beams(std::move(walker), some.size(0), device, o.beam, o.length);
    if (o.strategy == Strategy::rerank) rerank(found, language, o);
    for (const auto& item : found)
      out.push_back(*std::max_element(item.begin(), item.end(), [](const auto& a, const auto& b) {
        return a.score < b.score;
      }));
  }
  return out;
}

}  // namespace cajal::caption
