#include "cajal/text/tokenizer.h"

#include <mutex>

#include "cajal/core/error.h"
#include "cajal/text/added_tokens.h"
#include "cajal/text/decoder.h"
#include "cajal/text/fields.h"
#include "cajal/text/normalizer.h"
#include "cajal/text/post_processor.h"
#include "cajal/text/pre_tokenizer.h"
#include "cajal/text/unicode.h"

namespace cajal::text {
namespace {

// Scratch buffers for as many calls as run at once.
constexpr size_t kMaxKeptBytes = size_t{32} << 20;

class ScratchPool {
 public:
  class Lease {
   public:
    explicit Lease(ScratchPool& pool) : pool_(pool) {
      const std::lock_guard lock(pool_.mutex_);
      if (pool_.free_.empty()) {
        scratch_ = std::make_unique<Scratch>();
      } else {
        scratch_ = std::move(pool_.free_.back());
        pool_.free_.pop_back();
      }
    }
    ~Lease() {
      // One very long word must not keep its buffers for good.
      if (scratch_->bytes() > kMaxKeptBytes) scratch_ = std::make_unique<Scratch>();
      const std::lock_guard lock(pool_.mutex_);
      pool_.free_.push_back(std::move(scratch_));
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Scratch& operator*() const { return *scratch_; }

   private:
    ScratchPool& pool_;
    std::unique_ptr<Scratch> scratch_;
  };

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Scratch>> free_;
};

std::unique_ptr<Model> make_model(TokenizerFile& file, bool raw_bytes) {
  const Json& json = file.json["model"];
  const std::string where = file.where + ": model";
  std::string type = field(json, "type", where, std::string());
  // Older files leave the type out; their fields tell it.
  if (type.empty()) {
    type = !file.scores.empty()                        ? "Unigram"
           : json.contains("merges")                   ? "BPE"
           : json.contains("max_input_chars_per_word") ? "WordPiece"
                                                       : "WordLevel";
  }
  require(file.vocabulary->tokens() > 0, "{}.vocab: missing or empty", where);
  require((type == "Unigram" || type == "SentencePiece") == !file.scores.empty(),
          "{}.vocab: not the vocabulary of a {} model", where, type);
  if (type == "BPE") {
    require(field(json, "dropout", where, 0.0) == 0, "{}.dropout: only 0 or null is read", where);
    require(json.contains("merges"), "{}: field 'merges' is missing", where);
    BpeOptions options;
    options.where = file.where;
    options.unk_token = field(json, "unk_token", where, std::string());
    options.continuing_subword_prefix =
        field(json, "continuing_subword_prefix", where, std::string());
    options.end_of_word_suffix = field(json, "end_of_word_suffix", where, std::string());
    options.fuse_unk = field(json, "fuse_unk", where, false);
    options.byte_fallback = field(json, "byte_fallback", where, false);
    options.ignore_merges = field(json, "ignore_merges", where, false);
    options.bytes = raw_bytes;
    return make_bpe(file.vocabulary, file.merges, std::move(options));
  }
  if (type == "WordPiece") {
    WordPieceOptions options;
    options.where = file.where;
    options.unk_token = field(json, "unk_token", where, options.unk_token);
    options.continuing_subword_prefix =
        field(json, "continuing_subword_prefix", where, options.continuing_subword_prefix);
    options.max_input_chars_per_word =
        field(json, "max_input_chars_per_word", where, options.max_input_chars_per_word);
    return make_word_piece(file.vocabulary, std::move(options));
  }
  if (type == "WordLevel")
    return make_word_level(file.vocabulary, file.where,
                           field(json, "unk_token", where, std::string("<unk>")));
  if (type == "Unigram") {
    UnigramOptions options{.where = file.where,
                           .unk_id = field(json, "unk_id", where, int32_t{-1}),
                           .byte_fallback = field(json, "byte_fallback", where, false)};
    require(options.unk_id < file.vocabulary->size(),
            "{}.unk_id: {} is not in the vocabulary of {}", where, options.unk_id,
            file.vocabulary->size());
    return make_unigram(file.vocabulary, std::move(file.scores), std::move(options));
  }
  if (type == "SentencePiece")
    return make_sentence_pieces(
        file.vocabulary, std::move(file.scores),
        {.where = file.where, .unk_id = field(json, "unk_id", where, int32_t{-1})});
  fail("{}.type: model '{}' is not known", where, type);
}

AddedTokens read_added_tokens(const TokenizerFile& file, const Normalizer& normalizer) {
  AddedTokens added;
  const auto list = file.json.find("added_tokens");
  if (list == file.json.end() || list->is_null()) return added;
  require(list->is_array(), "{}: added_tokens: expected an array", file.where);
  for (size_t i = 0; i < list->size(); ++i) {
    const Json& json = (*list)[i];
    const std::string where = fmt::format("{}: added_tokens[{}]", file.where, i);
    require(json.is_object(), "{}: expected an object", where);
    AddedToken token;
    token.content = required_field<std::string>(json, "content", where);
    if (token.content.empty()) continue;
    // What the model calls by a number keeps that number.
    token.id = file.vocabulary->find(token.content);
    if (token.id < 0) token.id = required_field<int32_t>(json, "id", where);
    token.single_word = field(json, "single_word", where, false);
    token.lstrip = field(json, "lstrip", where, false);
    token.rstrip = field(json, "rstrip", where, false);
    token.special = field(json, "special", where, false);
    token.normalized = field(json, "normalized", where, !token.special);
    token.searched = token.normalized ? normalizer(token.content) : token.content;
    added.add(std::move(token), where);
  }
  return added;
}

}  // namespace

struct Tokenizer::State {
  std::shared_ptr<const Vocabulary> vocabulary;  // of the model
  Normalizer normalizer;
  AddedTokens added;
  AddedTokens not_special;  // those of them that are no special tokens
  PreTokenizer pre_tokenizer;
  std::unique_ptr<Model> model;
  Frame frame;
  Decoder decoder;
  SpecialIds specials;
  mutable ScratchPool pool;

  Tokens encode(std::string_view text, Specials with, Written written, bool keep_surfaces) const;
  void encode(std::string_view text, const AddedTokens& known, Tokens& out) const;
  std::string_view decoded_form(int32_t id) const;
};

std::shared_ptr<Tokenizer::State> Tokenizer::build(TokenizerFile file) {
  const auto part = [&](const char* name) {
    const auto found = file.json.find(name);
    return found == file.json.end() ? Json(nullptr) : *found;
  };
  const auto where = [&](const char* name) { return file.where + ": " + name; };
  auto state = std::make_shared<State>();
  state->normalizer = Normalizer::parse(part("normalizer"), where("normalizer"));
  state->pre_tokenizer = PreTokenizer::parse(part("pre_tokenizer"), where("pre_tokenizer"));
  state->frame = parse_post_processor(part("post_processor"), where("post_processor"));
  state->decoder = Decoder::parse(part("decoder"), where("decoder"));
  state->added = read_added_tokens(file, state->normalizer);
  for (const auto& token : state->added.all())
    if (!token.special) state->not_special.add(token, file.where);
  // A BPE model reads bytes as they are; the letters that stand for them are only for people.
  const bool bpe = file.scores.empty() && file.json["model"].contains("merges");
  const bool fallback = field(file.json["model"], "byte_fallback", where("model"), false);
  const bool raw_bytes = bpe && !fallback && state->pre_tokenizer.keep_raw_bytes();
  state->model = make_model(file, raw_bytes);
  state->vocabulary = std::move(file.vocabulary);
  return state;
}

Tokenizer Tokenizer::parse(std::string_view tokenizer_json, const std::string& where) {
  return Tokenizer(build(parse_tokenizer_json(tokenizer_json, where)));
}

Tokenizer Tokenizer::open(const std::filesystem::path& path) {
  auto file = read_tokenizer(path);
  auto specials = file.specials;
  auto state = build(std::move(file));
  const Tokenizer tokenizer(state);
  const auto folder = std::filesystem::is_directory(path) ? path : path.parent_path();
  if (!specials)
    specials =
        read_special_ids(folder, [&](std::string_view token) { return tokenizer.token_id(token); });
  state->specials = *specials;
  return tokenizer;
}

void Tokenizer::State::encode(std::string_view text, const AddedTokens& known, Tokens& out) const {
  std::string repaired;
  text = repair_utf8(text, repaired);
  const ScratchPool::Lease scratch(pool);
  const auto encode_piece = [&](Piece piece) { model->encode(piece.text, *scratch, out); };
  known.split(text, false, [&](std::string_view stretch, const AddedToken* token) {
    if (token) return out.add(token->id, stretch);
    const bool at_start = stretch.data() == text.data();
    std::string normal;
    if (!normalizer.empty()) {
      normal = normalizer(stretch);
      stretch = normal;
    }
    const char* begin = stretch.data();
    known.split(stretch, true, [&](std::string_view part, const AddedToken* normal_token) {
      if (normal_token) return out.add(normal_token->id, part);
      if (!part.empty()) pre_tokenizer({part, at_start && part.data() == begin}, encode_piece);
    });
  });
}

Tokens Tokenizer::State::encode(std::string_view text, Specials with, Written written,
                                bool keep_surfaces) const {
  Tokens tokens;
  tokens.keep_surfaces = keep_surfaces;
  tokens.ids.reserve(text.size() / 4 + frame.size());
  for (const int32_t id : frame) {
    if (id == kText) {
      encode(text, written == Written::tokens ? added : not_special, tokens);
    } else if (with == Specials::with) {
      tokens.add(id);
    }
  }
  return tokens;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, Specials specials,
                                       Written written) const {
  return state_->encode(text, specials, written, false).ids;
}

std::vector<Token> Tokenizer::encode_tokens(std::string_view text, Specials specials,
                                            Written written) const {
  Tokens tokens = state_->encode(text, specials, written, true);
  std::vector<Token> out;
  out.reserve(tokens.ids.size());
  auto surface = tokens.surfaces.begin();
  for (size_t i = 0; i < tokens.ids.size(); ++i) {
    if (surface != tokens.surfaces.end() && surface->first == i) {
      out.push_back({tokens.ids[i], std::move((surface++)->second)});
    } else {
      out.push_back({tokens.ids[i], contains(tokens.ids[i]) ? std::string(token_text(tokens.ids[i]))
                                                            : std::string()});
    }
  }
  return out;
}

std::string_view Tokenizer::State::decoded_form(int32_t id) const {
  if (const AddedToken* token = added.find(id)) return token->searched;
  return vocabulary->contains(id) ? vocabulary->text(id) : std::string_view();
}

std::string Tokenizer::decode(std::span<const int32_t> ids, Specials specials) const {
  const auto skipped = [&](int32_t id) {
    return !contains(id) || (specials == Specials::without && is_special(id));
  };
  if (decodes_bytes()) {
    std::string bytes, buffer;
    for (const int32_t id : ids)
      if (!skipped(id)) bytes += token_bytes(state_->decoded_form(id));
    const auto text = repair_utf8(bytes, buffer);
    return text.data() == bytes.data() ? bytes : std::string(text);
  }
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int32_t id : ids)
    if (!skipped(id)) tokens.emplace_back(state_->decoded_form(id));
  return state_->decoder(std::move(tokens));
}

bool Tokenizer::contains(int64_t id) const {
  return state_->vocabulary->contains(id) ||
         (id >= 0 && id <= Vocabulary::kMaxId && state_->added.find(static_cast<int32_t>(id)));
}

std::string_view Tokenizer::token_text(int32_t id) const {
  if (const AddedToken* token = state_->added.find(id)) return token->content;
  require(state_->vocabulary->contains(id), "tokenizer: no token has id {}, ids are 0 to {}", id,
          size() - 1);
  return state_->vocabulary->text(id);
}

int32_t Tokenizer::token_id(std::string_view token) const {
  if (const AddedToken* found = state_->added.find(token)) return found->id;
  return state_->vocabulary->find(token);
}

bool Tokenizer::is_special(int32_t id) const {
  const AddedToken* token = state_->added.find(id);
  return token && token->special;
}

bool Tokenizer::is_added(int32_t id) const { return state_->added.find(id) != nullptr; }

int32_t Tokenizer::size() const {
  int32_t size = state_->vocabulary->size();
  for (const auto& token : state_->added.all()) size = std::max(size, token.id + 1);
  return size;
}

const SpecialIds& Tokenizer::specials() const { return state_->specials; }
bool Tokenizer::decodes_bytes() const { return state_->decoder.is_byte_level(); }

}  // namespace cajal::text
