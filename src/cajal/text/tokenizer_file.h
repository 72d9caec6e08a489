#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cajal/core/json.h"
#include "cajal/text/model.h"

namespace cajal::text {

/// Ids that a model's files give to its special tokens; -1 where they give none.
struct SpecialIds {
  int32_t bos = -1, eos = -1, pad = -1, unk = -1;
  std::vector<int32_t>
      stops;  // every id that ends a text: eos and what generation_config.json adds
};

/// The content of a tokenizer.json, or of older files brought into its form. The vocabulary and the
/// merges, hundreds of thousands of entries, are kept apart from the rest.
struct TokenizerFile {
  std::string where;  // names the file in errors
  Json json;          // all but model.vocab and model.merges
  std::shared_ptr<Vocabulary> vocabulary = std::make_shared<Vocabulary>();
  std::vector<double> scores;  // [id], of a Unigram or SentencePiece model
  std::vector<Merge> merges;
  std::optional<SpecialIds> specials;  // where the file says them itself
};

/// Parses the text of a tokenizer.json; throws Error naming the place of what is wrong.
TokenizerFile parse_tokenizer_json(std::string_view text, const std::string& where);

/// Reads the tokenizer of a folder, or a file of one: tokenizer.json, else tokenizer.gguf (any GGUF
/// file when it is named), else vocab.json with merges.txt (byte-level BPE by GPT-2's rules), else
/// vocab.txt (WordPiece), the older two with what tokenizer_config.json, special_tokens_map.json,
/// added_tokens.json and config.json say. Throws Error when none of them is there.
TokenizerFile read_tokenizer(const std::filesystem::path& path);

/// Reads them from the JSON files beside the tokenizer in `folder`; `find` gives a token's id or
/// -1.
SpecialIds read_special_ids(const std::filesystem::path& folder,
                            const std::function<int32_t(std::string_view)>& find);

}  // namespace cajal::text
