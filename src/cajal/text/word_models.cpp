// The models that look up whole words or the longest parts of words.
#include "cajal/core/error.h"
#include "cajal/text/model.h"
#include "cajal/text/trie.h"
#include "cajal/text/unicode.h"

namespace cajal::text {
namespace {

class WordPiece final : public Model {
 public:
  WordPiece(const Vocabulary& vocabulary, WordPieceOptions options) : options_(std::move(options)) {
    unk_ = vocabulary.find(options_.unk_token);
    require(unk_ >= 0, "{}: model.unk_token '{}' is not in the vocabulary", options_.where,
            options_.unk_token);
    vocabulary.for_each([&](std::string_view token, int32_t id) { tokens_.add(token, id); });
    inside_ = tokens_.walk(options_.continuing_subword_prefix);
  }

  void encode(std::string_view piece, Scratch&, Tokens& out) const override {
    const size_t start = out.ids.size();
    if (piece.size() > options_.max_input_chars_per_word &&
        count_code_points(piece) > options_.max_input_chars_per_word) {
      out.add(unk_);
      return;
    }
    for (size_t at = 0; at < piece.size();) {
      int32_t node = at == 0 ? Trie::kRoot : inside_;
      int32_t longest = Trie::kNone;
      size_t end = at;
      for (size_t i = at; i < piece.size() && node != Trie::kNone; ++i) {
        node = tokens_.step(node, static_cast<uint8_t>(piece[i]));
        if (node == Trie::kNone || tokens_.value(node) == Trie::kNone) continue;
        longest = tokens_.value(node);
        end = i + 1;
      }
      if (longest == Trie::kNone) {
        out.ids.resize(start);
        out.add(unk_);
        return;
      }
      out.add(longest);
      at = end;
    }
  }

 private:
  WordPieceOptions options_;
  Trie tokens_;
  int32_t inside_ = Trie::kNone;  // where the walk of a part inside a word starts
  int32_t unk_ = -1;
};

class WordLevel final : public Model {
 public:
  WordLevel(std::shared_ptr<const Vocabulary> vocabulary, std::string where, std::string unk_token)
      : vocabulary_(std::move(vocabulary)),
        where_(std::move(where)),
        unk_token_(std::move(unk_token)),
        unk_(vocabulary_->find(unk_token_)) {}

  void encode(std::string_view piece, Scratch&, Tokens& out) const override {
    int32_t id = vocabulary_->find(piece);
    if (id < 0) id = unk_;
    require(id >= 0, "{}: '{}' is no token, nor is model.unk_token '{}'", where_,
            piece.substr(0, 40), unk_token_);
    out.add(id);
  }

 private:
  std::shared_ptr<const Vocabulary> vocabulary_;
  std::string where_, unk_token_;
  int32_t unk_;
};

}  // namespace

std::unique_ptr<Model> make_word_piece(std::shared_ptr<const Vocabulary> vocabulary,
                                       WordPieceOptions options) {
  return std::make_unique<WordPiece>(*vocabulary, std::move(options));
}

std::unique_ptr<Model> make_word_level(std::shared_ptr<const Vocabulary> vocabulary,
                                       std::string where, std::string unk_token) {
  return std::make_unique<WordLevel>(std::move(vocabulary), std::move(where), std::move(unk_token));
}

}  // namespace cajal::text
