#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cajal::data {

enum class Split : uint8_t { train, valid, test, unused };

/// A citation graph: papers with a bag of words and a class each, undirected links between them.
struct CitationGraph {
  int64_t nodes = 0, words = 0, classes = 0;
  std::vector<int> labels;                         // [nodes]; -1: none
  std::vector<Split> splits;                       // [nodes]
  std::vector<int64_t> word_begin;                 // [nodes + 1], into word_of
  std::vector<int32_t> word_of;                    // words present, ascending in each node
  std::vector<std::pair<int32_t, int32_t>> edges;  // each once, first < second, ascending
};

/// Cora or CiteSeer ("cora", "citeseer") with the Planetoid split, from whichever form is here: the
/// text tables of $CAJAL_DATA/planetoid or the Python pickles of a download.
/// Throws Error that names the file and line or value that is unsound.
CitationGraph read_citations(std::string_view name);

/// The text form. `nodes`: "# nodes= features= classes= edges=", then a line `id, label, split,
/// word indices` each, parted by tabs; `edges`: `u <tab> v`, u < v.
CitationGraph parse_citations(std::string_view nodes, std::string_view edges,
                              std::string_view where);

}  // namespace cajal::data
