#include <algorithm>
#include <limits>

#include "cajal/core/error.h"
#include "cajal/text/byte_fallback.h"
#include "cajal/text/model.h"
#include "cajal/text/trie.h"
#include "cajal/text/unicode.h"

namespace cajal::text {
namespace {

// How much worse than the worst token an unknown character scores.
constexpr double kUnknownPenalty = 10;

class Unigram final : public Model {
 public:
  Unigram(std::shared_ptr<const Vocabulary> vocabulary, std::vector<double> scores,
          UnigramOptions options)
      : vocabulary_(std::move(vocabulary)),
        scores_(std::move(scores)),
        options_(std::move(options)),
        byte_tokens_(byte_token_ids(*vocabulary_)) {
    double worst = std::numeric_limits<double>::infinity();
    for (const double score : scores_) worst = std::min(worst, score);
    unknown_score_ = worst - kUnknownPenalty;
    vocabulary_->for_each([&](std::string_view token, int32_t id) {
      if (!token.empty()) trie_.add(token, id);
    });
  }

  void encode(std::string_view piece, Scratch& scratch, Tokens& out) const override {
    find_best(piece, scratch.best);
    // The path is known from its end; its cuts are collected and read backwards.
    auto& cuts = scratch.ranks;
    cuts.clear();
    for (size_t end = piece.size(); end > 0; end = static_cast<size_t>(scratch.best[end].begin))
      cuts.push_back(static_cast<uint32_t>(end));
    size_t begin = 0, unknown = 0;  // `unknown`: bytes before `begin` that are one unknown run
    for (size_t i = cuts.size(); i-- > 0;) {
      const size_t end = cuts[i];
      const int32_t id = scratch.best[end].id;
      if (id == options_.unk_id && id >= 0) {
        unknown += end - begin;
      } else {
        if (unknown > 0) add_unknown(piece.substr(begin - unknown, unknown), out);
        unknown = 0;
        out.add(id);
      }
      begin = end;
    }
    if (unknown > 0) add_unknown(piece.substr(begin - unknown, unknown), out);
  }

 private:
  void find_best(std::string_view piece, std::vector<Scratch::Best>& best) const {
    require(piece.size() < INT32_MAX, "text: a piece of {} bytes is too long", piece.size());
    best.assign(piece.size() + 1, {0, -1, -1});
    for (size_t at = 0; at < piece.size();) {
      const double here = best[at].score;
      const size_t one = code_point_bytes(static_cast<uint8_t>(piece[at]));
      bool has_single = false;
      const auto offer = [&](size_t end, double score, int32_t id) {
        auto& there = best[end];
        if (there.begin >= 0 && score <= there.score) return;
        there = {score, static_cast<int32_t>(at), id};
      };
      int32_t node = Trie::kRoot;
      for (size_t i = at; i < piece.size(); ++i) {
        node = trie_.step(node, static_cast<uint8_t>(piece[i]));
        if (node == Trie::kNone) break;
        const int32_t id = trie_.value(node);
        if (id == Trie::kNone) continue;
        offer(i + 1, here + scores_[static_cast<size_t>(id)], id);
        has_single = has_single || i + 1 - at == one;
      }
      if (!has_single) {
        require(options_.unk_id >= 0, "{}: '{}' is unknown and model.unk_id is missing",
                options_.where, piece.substr(at, one));
        offer(at + one, here + unknown_score_, options_.unk_id);
      }
      at += one;
    }
  }

  void add_unknown(std::string_view run, Tokens& out) const {
    if (const int32_t id = vocabulary_->find(run); id >= 0) {
      out.add(id);
    } else if (options_.byte_fallback && std::ranges::all_of(run, [&](char c) {
                 return byte_tokens_[static_cast<uint8_t>(c)] >= 0;
               })) {
      for (const char c : run) out.add(byte_tokens_[static_cast<uint8_t>(c)]);
    } else {
      out.add(options_.unk_id, run);
    }
  }

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::vector<double> scores_;
  UnigramOptions options_;
  std::array<int32_t, 256> byte_tokens_;
  Trie trie_;
  double unknown_score_ = 0;
};

}  // namespace

std::unique_ptr<Model> make_unigram(std::shared_ptr<const Vocabulary> vocabulary,
                                    std::vector<double> scores, UnigramOptions options) {
  return std::make_unique<Unigram>(std::move(vocabulary), std::move(scores), std::move(options));
}

}  // namespace cajal::text
