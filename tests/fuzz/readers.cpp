#include "fuzz/readers.h"

#include "cajal/core/error.h"
#include "cajal/core/gguf.h"
#include "cajal/core/gzip.h"
#include "cajal/core/json.h"
#include "cajal/core/pytorch_bin.h"
#include "cajal/core/safetensors.h"
#include "cajal/data/csv.h"
#include "cajal/data/idx.h"
#include "cajal/data/image.h"
#include "cajal/data/npy.h"
#include "cajal/text/gguf_tokenizer.h"

namespace fuzz {
namespace {

using Bytes = std::span<const std::byte>;

std::string_view text(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Reads every byte that a reader hands out, so that the sanitizer sees those that are not there.
void touch(const cajal::StoredTensors& found) {
  unsigned sum = 0;
  for (const auto& [name, tensor] : found.tensors) {
    const size_t expected = cajal::tensor_bytes(tensor.dtype, tensor.shape, name);
    if (expected != tensor.bytes.size()) throw std::logic_error(name + " has not its bytes");
    for (const auto byte : tensor.bytes) sum += static_cast<unsigned>(byte);
  }
  volatile unsigned kept = sum;
  (void)kept;
}

void touch(const cajal::Gguf& gguf) {
  unsigned sum = 0;
  for (const auto& [name, tensor] : gguf.tensors())
    for (const auto byte : tensor.bytes) sum += static_cast<unsigned>(byte);
  volatile unsigned kept = sum;
  (void)kept;
  if (gguf.has("tokenizer.ggml.model")) cajal::text::tokenizer_of(gguf);
}

}  // namespace

const std::vector<Reader>& readers() {
  static const std::vector<Reader> all = {
      {"safetensors", [](Bytes file) { touch(cajal::read_safetensors(file, "input")); }},
      {"pytorch_bin", [](Bytes file) { touch(cajal::read_pytorch_bin(file, "input")); }},
      {"gguf", [](Bytes file) { touch(cajal::Gguf::parse(file, "input")); }},
      {"json", [](Bytes file) { cajal::parse_json(text(file), "input").dump(); }},
      {"gzip", [](Bytes file) { cajal::decompress(file, "input", 1 << 20, [](Bytes) {}); }},
      {"idx", [](Bytes file) { cajal::data::parse_idx(text(file), "input"); }},
      {"npy", [](Bytes file) { cajal::data::parse_npy(text(file), "input"); }},
      {"csv", [](Bytes file) { cajal::data::parse_csv(text(file), "input").numbers(0); }},
      {"pnm", [](Bytes file) { cajal::data::parse_pnm(text(file), "input"); }},
      {"png", [](Bytes file) { cajal::data::parse_png(text(file), "input"); }},
  };
  return all;
}

}  // namespace fuzz
