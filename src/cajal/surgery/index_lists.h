#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/torch.h"

/// A subset of the entries of some matrices as sorted lists of integers: how a subject is stored.
/// Source: dossier concept-neurons, Build 4.
namespace cajal::surgery {

struct IndexLists {
  std::vector<int64_t> sizes;                 // entries of each matrix
  std::vector<std::vector<int64_t>> indices;  // of each: flat, ascending, different

  int64_t count() const;    // entries chosen
  int64_t entries() const;  // of all matrices
  bool operator==(const IndexLists&) const = default;
};

CAJAL_OPTIONS(IndexLists, sizes, indices)

/// Throws Error unless the lists are ascending and within their sizes.
void check(const IndexLists& lists);

/// As bytes: the number of matrices, then for each its size, the length of its list and the gaps
/// between its indices, all as LEB128 varints.
std::string encode(const IndexLists& lists);
/// Throws Error that begins with `where` for bytes that are cut off, too long or hold lists that
/// are not sound.
IndexLists decode(std::string_view bytes, std::string_view where);

/// Sets the entries of fp32 CPU matrices to zero in place and returns what they were, O(entries
/// chosen); `restore` puts them back bit by bit. Throws Error when sizes do not fit.
std::vector<std::vector<float>> shut(const std::vector<torch::Tensor>& matrices,
                                     const IndexLists& lists);
void restore(const std::vector<torch::Tensor>& matrices, const IndexLists& lists,
             const std::vector<std::vector<float>>& values);

IndexLists unite(const IndexLists& a, const IndexLists& b);
/// As many entries of each matrix, chosen at random. Draws from libtorch's generator.
IndexLists random_like(const IndexLists& lists);
/// Share of the union that both hold; 1 for two empty ones.
double jaccard(const IndexLists& a, const IndexLists& b);

}  // namespace cajal::surgery
