#pragma once
#include <string>
#include <vector>

#include "cajal/layers/ffn/sparse_memory.h"
#include "cajal/train/small_language.h"

namespace cajal::train {

struct MemoryPlan {
  std::string name;
  SparseMemoryOptions options;
};

/// Every selector of the dossier over a memory of `times` the cells of a dense FFN, of which a
/// token reads as many as that has (`wide` reads all): Avg-K and hashing in each of `blocks`.
/// `layers` is the network's, for its start.
std::vector<MemoryPlan> memory_plans(int64_t width, int64_t dense, int64_t times, int64_t layers,
                                     const std::vector<int64_t>& blocks);

/// What came of a small language model whose every second FFN is a sparse memory.
struct MemoryLanguage {
  double bits_per_byte = 0;
  double use_entropy = 0, dead_blocks = 0;         // of the first memory, on the text that judges
  double bytes_per_second = 0;                     // of judging
  int64_t parameters = 0, base_multiply_adds = 0;  // as SmallLanguageModel counts them
};

/// Trains one on `train` and judges it on `valid`, u8 [size] each. Draws from libtorch's generator.
MemoryLanguage fit_memory_language(const SmallLanguageOptions& preset,
                                   const SparseMemoryOptions& memory, const torch::Tensor& train,
                                   const torch::Tensor& valid, uint64_t seed, torch::Device device);

/// How many of `facts` random pairs, a vector and one of 64 answers, a memory answers rightly after
/// `epochs` of training on them.
double facts_held(const SparseMemoryOptions& memory, int64_t facts, int64_t epochs);

}  // namespace cajal::train
