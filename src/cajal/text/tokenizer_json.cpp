#include <cmath>
#include <unordered_set>

#include "cajal/core/error.h"
#include "cajal/text/tokenizer_file.h"

namespace cajal::text {
namespace {

// Builds the document but for model.vocab and model.merges, which go straight into their tables:
// as JSON values they would cost ten times the time and memory.
class Reader : public nlohmann::detail::json_sax_dom_parser<Json> {
  using Base = nlohmann::detail::json_sax_dom_parser<Json>;
  enum class Table { none, vocabulary, merges };

 public:
  explicit Reader(TokenizerFile& file) : Base(file.json, false), file_(file) {}

  bool null() { return outside() && Base::null(); }
  bool boolean(bool value) { return outside() && Base::boolean(value); }
  bool number_integer(int64_t value) {
    if (table_ == Table::none) return Base::number_integer(value);
    return number(static_cast<double>(value), false);
  }
  bool number_unsigned(uint64_t value) {
    if (table_ == Table::none) return Base::number_unsigned(value);
    return number(static_cast<double>(value), value <= static_cast<uint64_t>(Vocabulary::kMaxId));
  }
  bool number_float(double value, const std::string& text) {
    return table_ == Table::none ? Base::number_float(value, text) : number(value, false);
  }

  bool string(std::string& value) {
    if (table_ == Table::none) return Base::string(value);
    if (table_ == Table::merges && nesting_ == 1) return merge_line(value);
    if (nesting_ != 2) unexpected();
    parts_.push_back(value);
    return true;
  }

  bool start_object(size_t elements) {
    descend();
    if (table_ == Table::none) {
      keys_.emplace_back();
      return Base::start_object(elements);
    }
    if (table_ != Table::vocabulary || ++nesting_ != 1) unexpected();
    listed_ = false;
    return true;
  }

  bool start_array(size_t elements) {
    descend();
    if (table_ == Table::none) return Base::start_array(elements);
    ++nesting_;
    if (nesting_ > 2 || (nesting_ == 2 && !listed_)) unexpected();
    listed_ = true;
    parts_.clear();
    scores_in_pair_ = 0;
    return true;
  }

  bool end_object() {
    if (table_ != Table::none) return end_of_table_part();
    --depth_;
    keys_.pop_back();
    return Base::end_object();
  }

  bool end_array() {
    if (table_ != Table::none) return end_of_table_part();
    --depth_;
    return Base::end_array();
  }

  bool key(std::string& name) {
    if (table_ != Table::none) {
      token_ = name;
      return true;
    }
    require(keys_.back().insert(name).second, "{}: key '{}' appears twice", file_.where, name);
    if (depth_ == 1) top_ = name;
    const bool in_model = depth_ == 2 && top_ == "model";
    if (in_model && name == "vocab") table_ = Table::vocabulary;
    if (in_model && name == "merges") table_ = Table::merges;
    return Base::key(name);
  }

  template <class Exception>
  bool parse_error(size_t position, const std::string&, const Exception& error) {
    std::string reason = error.what();
    if (const auto at = reason.find("] "); at != std::string::npos) reason = reason.substr(at + 2);
    fail("{}: not valid JSON at byte {}: {}", file_.where, position, reason);
  }

 private:
  static constexpr int kMaxDepth = 64;

  void descend() {
    require(++depth_ <= kMaxDepth, "{}: nested deeper than {} levels", file_.where, kMaxDepth);
  }

  bool outside() const {
    if (table_ != Table::none) unexpected();
    return true;
  }

  [[noreturn]] void unexpected() const {
    const bool vocabulary = table_ == Table::vocabulary;
    fail("{}: model.{} holds something else than {}", file_.where, vocabulary ? "vocab" : "merges",
         vocabulary ? "tokens with their ids or scores" : "pairs of tokens");
  }

  bool end_of_table_part() {
    --depth_;
    if (--nesting_ == 0) {
      table_ = Table::none;
      return Base::null();  // stands for the table in the document
    }
    if (table_ == Table::merges) {
      require(parts_.size() == 2, "{}: model.merges[{}]: expected two tokens, got {}", file_.where,
              file_.merges.size(), parts_.size());
      file_.merges.emplace_back(std::move(parts_[0]), std::move(parts_[1]));
    } else {
      require(parts_.size() == 1 && scores_in_pair_ == 1,
              "{}: model.vocab[{}]: expected [token, score]", file_.where, file_.scores.size());
      file_.scores.push_back(score_);
      add_token(parts_[0], static_cast<int32_t>(file_.scores.size() - 1));
    }
    return true;
  }

  bool number(double value, bool is_id) {
    if (table_ != Table::vocabulary) unexpected();
    if (nesting_ == 2) {
      require(std::isfinite(value) && parts_.size() == 1,
              "{}: model.vocab[{}]: expected [token, score]", file_.where, file_.scores.size());
      score_ = value;
      ++scores_in_pair_;
      return true;
    }
    if (nesting_ != 1 || listed_) unexpected();
    require(is_id, "{}: model.vocab: token '{}' has id {}, expected a whole number from 0 to {}",
            file_.where, token_, value, Vocabulary::kMaxId);
    add_token(token_, static_cast<int32_t>(value));
    return true;
  }

  void add_token(const std::string& token, int32_t id) {
    auto& vocabulary = *file_.vocabulary;
    if (vocabulary.contains(id))
      fail("{}: model.vocab: tokens '{}' and '{}' both have id {}", file_.where,
           vocabulary.text(id), token, id);
    require(vocabulary.add(token, id), "{}: model.vocab: token '{}' appears twice", file_.where,
            token);
  }

  bool merge_line(const std::string& line) {
    const size_t space = line.find(' ');
    require(space != std::string::npos && line.find(' ', space + 1) == std::string::npos,
            "{}: model.merges[{}]: expected two tokens with a space between them, got '{}'",
            file_.where, file_.merges.size(), line);
    file_.merges.emplace_back(line.substr(0, space), line.substr(space + 1));
    return true;
  }

  TokenizerFile& file_;
  std::vector<std::unordered_set<std::string>> keys_;
  std::string top_;  // the key of the document that is being read
  int depth_ = 0;
  Table table_ = Table::none;
  int nesting_ = 0;      // open arrays and objects of the table
  bool listed_ = false;  // the table is an array
  std::string token_;
  std::vector<std::string> parts_;
  double score_ = 0;
  int scores_in_pair_ = 0;
};

}  // namespace

TokenizerFile parse_tokenizer_json(std::string_view text, const std::string& where) {
  TokenizerFile file;
  file.where = where;
  Reader reader(file);
  Json::sax_parse(text.begin(), text.end(), &reader);
  require(file.json.is_object() && file.json.contains("model") && file.json["model"].is_object(),
          "{}: no tokenizer: field 'model' is missing", where);
  return file;
}

}  // namespace cajal::text
