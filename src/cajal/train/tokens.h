#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

#include "cajal/core/files.h"
#include "cajal/core/torch.h"
#include "cajal/text/tokenizer.h"

namespace cajal::train {

/// The token ids of a text in a mapped file: u16 where the vocabulary allows it, else u32, little
/// endian, nothing else.
class TokenFile {
 public:
  /// Maps a .u16 or .u32 file; throws Error when its size is no whole number of ids.
  explicit TokenFile(const std::filesystem::path& path);

  /// The ids of `source`, which is a token file (packed by gzip or xz or not), or a text file or
  /// corpus as data::read_text takes it. What has to be made is kept in the folder `cache` under a
  /// name made of the text's content and the tokenizer's, so that the next run finds it.
  static TokenFile of(const std::string& source, const text::Tokenizer& tokenizer,
                      uint64_t tokenizer_key, const std::filesystem::path& cache);

  int64_t size() const { return size_; }
  int64_t text_bytes() const { return text_bytes_; }  // of the text; 0 where only ids were given
  int32_t operator[](int64_t index) const;
  /// ids [begin, begin + count) as i64.
  void copy(int64_t begin, int64_t count, int64_t* out) const;
  /// The largest id; reads the whole file.
  int32_t largest() const;

 private:
  std::shared_ptr<const MappedFile> file_;
  int64_t size_ = 0, text_bytes_ = 0;
  bool wide_ = false;
};

/// 64-bit FNV-1a of the bytes, to tell contents apart.
uint64_t content_key(std::string_view bytes);

/// Windows of a token file as training data: `context` ids and the ids that follow them.
class Windows {
 public:
  /// On a GPU the whole file is copied there, so that a batch is made without the CPU.
  Windows(TokenFile tokens, int64_t context, torch::Device device);

  /// Where the windows of one part of a step's batch begin: i64 [batch / parts], on the CPU.
  /// Uniform over the file; the same seed and step give the same windows however they are parted.
  torch::Tensor starts(uint64_t seed, int64_t step, int64_t batch, int64_t part,
                       int64_t parts) const;

  /// {ids, targets}, i64 [windows, context], on the device.
  std::pair<torch::Tensor, torch::Tensor> at(const torch::Tensor& starts) const;

 private:
  TokenFile tokens_;
  int64_t context_;
  torch::Tensor resident_, steps_;  // on a GPU: all ids i32, and 0 ... context
};

}  // namespace cajal::train
