#include "cajal/train/tokens.h"

#include <algorithm>
#include <cstring>

#include "cajal/core/error.h"
#include "cajal/core/gzip.h"
#include "cajal/core/json.h"
#include "cajal/core/progress.h"
#include "cajal/core/random.h"
#include "cajal/data/text.h"

namespace cajal::train {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLargestFile = size_t{16} << 30;
constexpr size_t kPiece = 4 << 20;  // bytes of text that are encoded at a time

bool is_token_file(const fs::path& path) {
  return path.extension() == ".u16" || path.extension() == ".u32";
}

// The end of the piece that begins at `begin`: behind a line end, where no token reaches across
// often enough to matter, and at worst inside a long line.
size_t piece_end(std::string_view text, size_t begin) {
  if (text.size() - begin <= kPiece) return text.size();
  const size_t line = text.rfind('\n', begin + kPiece);
  return line == std::string_view::npos || line <= begin ? begin + kPiece : line + 1;
}

template <class Id>
void write_ids(AtomicFile& file, const std::vector<int32_t>& ids) {
  std::vector<Id> narrow(ids.begin(), ids.end());
  file.write(std::as_bytes(std::span(narrow)));
}

void encode(std::string_view text, const text::Tokenizer& tokenizer, bool wide,
            const fs::path& path) {
  AtomicFile file(path);
  Progress bar("tokenize", static_cast<int64_t>(text.size()), "bytes");
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = piece_end(text, begin);
    const auto ids = tokenizer.encode(text.substr(begin, end - begin), text::Specials::without);
    wide ? write_ids<uint32_t>(file, ids) : write_ids<uint16_t>(file, ids);
    begin = end;
    bar.set(static_cast<int64_t>(begin));
  }
  file.commit();
}

}  // namespace

uint64_t content_key(std::string_view bytes) {
  uint64_t key = 0xcbf29ce484222325;
  for (const char byte : bytes) key = (key ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  return key;
}

TokenFile::TokenFile(const fs::path& path)
    : file_(std::make_shared<MappedFile>(path)), wide_(path.extension() == ".u32") {
  require(is_token_file(path), "{}: expected a token file, .u16 or .u32", path.string());
  const size_t width = wide_ ? 4 : 2;
  require(file_->bytes().size() % width == 0, "{}: {} bytes are no whole number of {}-byte ids",
          path.string(), file_->bytes().size(), width);
  size_ = static_cast<int64_t>(file_->bytes().size() / width);
}

TokenFile TokenFile::of(const std::string& source, const text::Tokenizer& tokenizer,
                        uint64_t tokenizer_key, const fs::path& cache) {
  const fs::path given = source;
  if (is_token_file(given)) return TokenFile(given);
  if (is_token_file(given.stem())) {  // packed ids
    const fs::path kept = cache / given.stem();
    if (!fs::exists(kept)) {
      fs::create_directories(cache);
      AtomicFile file(kept);
      read_compressed(given, kLargestFile,
                      [&](std::span<const std::byte> bytes) { file.write(bytes); });
      file.commit();
    }
    return TokenFile(kept);
  }
  const auto text = data::read_text(source);
  const bool wide = tokenizer.size() > 65536;
  const uint64_t key = content_key(text) ^ (tokenizer_key * 0x9e3779b97f4a7c15);
  const fs::path kept = cache / fmt::format("{:016x}.{}", key, wide ? "u32" : "u16");
  if (!fs::exists(kept)) {
    fs::create_directories(cache);
    encode(text, tokenizer, wide, kept);
  }
  TokenFile out(kept);
  out.text_bytes_ = static_cast<int64_t>(text.size());
  return out;
}

int32_t TokenFile::operator[](int64_t index) const {
  int64_t id;
  copy(index, 1, &id);
  return static_cast<int32_t>(id);
}

void TokenFile::copy(int64_t begin, int64_t count, int64_t* out) const {
  require(begin >= 0 && count >= 0 && begin + count <= size_, "{}: ids [{}, {}) of {}",
          file_->path().string(), begin, begin + count, size_);
  const std::byte* bytes = file_->bytes().data();
  if (wide_) {
    const auto* ids = reinterpret_cast<const uint32_t*>(bytes) + begin;
    std::copy(ids, ids + count, out);
  } else {
    const auto* ids = reinterpret_cast<const uint16_t*>(bytes) + begin;
    std::copy(ids, ids + count, out);
  }
}

int32_t TokenFile::largest() const {
  int64_t most = 0;
  std::vector<int64_t> piece(1 << 16);
  for (int64_t begin = 0; begin < size_; begin += static_cast<int64_t>(piece.size())) {
    const int64_t count = std::min(static_cast<int64_t>(piece.size()), size_ - begin);
    copy(begin, count, piece.data());
    most = std::max(most, *std::max_element(piece.begin(), piece.begin() + count));
  }
  return static_cast<int32_t>(std::min<int64_t>(most, INT32_MAX));
}

Windows::Windows(TokenFile tokens, int64_t context, torch::Device device)
    : tokens_(std::move(tokens)), context_(context) {
  require(tokens_.size() > context,
          "the training text has {} tokens, expected more than the {} of one window",
          tokens_.size(), context);
  if (!device.is_cuda()) return;
  auto ids = torch::empty({tokens_.size()}, torch::kInt);
  std::vector<int64_t> piece(1 << 20);
  for (int64_t begin = 0; begin < tokens_.size(); begin += static_cast<int64_t>(piece.size())) {
    const int64_t count = std::min(static_cast<int64_t>(piece.size()), tokens_.size() - begin);
    tokens_.copy(begin, count, piece.data());
    std::copy(piece.begin(), piece.begin() + count, ids.data_ptr<int32_t>() + begin);
  }
  resident_ = ids.to(device);
  steps_ = torch::arange(context + 1, torch::kLong).to(device);
}

torch::Tensor Windows::starts(uint64_t seed, int64_t step, int64_t batch, int64_t part,
                              int64_t parts) const {
  require(batch % parts == 0, "a batch of {} windows cannot be cut into {} equal parts", batch,
          parts);
  const int64_t mine = batch / parts;
  Random random(seed, static_cast<uint64_t>(step));
  const auto places = static_cast<uint64_t>(tokens_.size() - context_);
  for (int64_t i = 0; i < part * mine; ++i) random.below(places);
  auto out = torch::empty({mine}, torch::kLong);
  for (int64_t i = 0; i < mine; ++i)
    out.data_ptr<int64_t>()[i] = static_cast<int64_t>(random.below(places));
  return out;
}

std::pair<torch::Tensor, torch::Tensor> Windows::at(const torch::Tensor& starts) const {
  const int64_t count = starts.size(0);
  torch::Tensor windows;
  if (resident_.defined()) {
    const auto index = (starts.unsqueeze(1) + steps_).view({-1});
    windows = resident_.index_select(0, index).view({count, context_ + 1}).to(torch::kLong);
  } else {
    windows = torch::empty({count, context_ + 1}, torch::kLong);
    for (int64_t i = 0; i < count; ++i)
      tokens_.copy(starts.data_ptr<int64_t>()[i], context_ + 1,
                   windows.data_ptr<int64_t>() + i * (context_ + 1));
  }
  return {windows.narrow(1, 0, context_).contiguous(), windows.narrow(1, 1, context_).contiguous()};
}

}  // namespace cajal::train
