#include "cajal/data/citations.h"

#include <algorithm>
#include <charconv>

#include "cajal/core/error.h"
#include "cajal/core/gzip.h"
#include "cajal/data/catalogue.h"
#include "cajal/data/planetoid.h"

namespace cajal::data {
namespace {

constexpr size_t kMaxText = size_t{256} << 20;
constexpr int64_t kMaxNodes = int64_t{1} << 26;

// Walks over the lines of a table whose cells are parted by tabs.
class Lines {
 public:
  Lines(std::string_view text, std::string_view where) : text_(text), where_(where) {}

  bool next() {
    if (text_.empty()) return false;
    const auto end = std::min(text_.find('\n'), text_.size());
    rest_ = text_.substr(0, end);
    text_.remove_prefix(std::min(text_.size(), end + 1));
    ++number_;
    return true;
  }

  std::string_view cell(char separator = '\t') {
    const auto end = std::min(rest_.find(separator), rest_.size());
    const auto out = rest_.substr(0, end);
    rest_.remove_prefix(std::min(rest_.size(), end + 1));
    return out;
  }

  int64_t number(int64_t least, int64_t most, char separator = '\t') {
    const auto text = cell(separator);
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    check(
        error == std::errc() && end == text.data() + text.size() && value >= least && value <= most,
        fmt::format("'{}' where a number from {} to {} is expected", text.substr(0, 40), least,
                    most));
    return value;
  }

  // "name=7"
  int64_t setting(std::string_view name, int64_t most) {
    check(rest_.starts_with(name), fmt::format("'{}' expected", name));
    rest_.remove_prefix(name.size());
    return number(0, most, ' ');
  }

  bool empty() const { return rest_.empty(); }

  void check(bool condition, std::string_view what) const {
    require(condition, "{}: line {}: {}", where_, number_, what);
  }

 private:
  std::string_view text_, where_, rest_;
  int64_t number_ = 0;
};

Split split_of(std::string_view name, const Lines& lines) {
  if (name == "train") return Split::train;
  if (name == "val") return Split::valid;
  if (name == "test") return Split::test;
  lines.check(name == "unused", "the split is none of train, val, test, unused");
  return Split::unused;
}

void read_node(Lines& lines, CitationGraph& graph) {
  const auto id = static_cast<int64_t>(graph.labels.size());
  lines.check(id < graph.nodes, "more nodes than its first line says");
  lines.check(lines.number(0, graph.nodes - 1) == id, "nodes are not in order");
  graph.labels.push_back(static_cast<int>(lines.number(-1, graph.classes - 1)));
  graph.splits.push_back(split_of(lines.cell(), lines));
  for (int64_t before = -1; !lines.empty();) {
    before = lines.number(before + 1, graph.words - 1, ' ');
    graph.word_of.push_back(static_cast<int32_t>(before));
  }
  graph.word_begin.push_back(static_cast<int64_t>(graph.word_of.size()));
}

}  // namespace

CitationGraph parse_citations(std::string_view nodes, std::string_view edges,
                              std::string_view where) {
  CitationGraph graph;
  Lines lines(nodes, where);
  require(lines.next(), "{}: empty", where);
  graph.nodes = lines.setting("# nodes=", kMaxNodes);
  graph.words = lines.setting("features=", kMaxNodes);
  graph.classes = lines.setting("classes=", 1 << 16);
  const auto links = lines.setting("edges=", int64_t{1} << 32);
  graph.word_begin = {0};
  while (lines.next()) read_node(lines, graph);
  require(static_cast<int64_t>(graph.labels.size()) == graph.nodes, "{}: {} nodes, expected {}",
          where, graph.labels.size(), graph.nodes);

  const auto edges_where = std::string(where) + " (edges)";
  Lines pairs(edges, edges_where);
  while (pairs.next()) {
    const auto first = pairs.number(0, graph.nodes - 1);
    const auto second = pairs.number(first + 1, graph.nodes - 1);
    pairs.check(pairs.empty(), "more than two nodes");
    graph.edges.emplace_back(first, second);
  }
  std::sort(graph.edges.begin(), graph.edges.end());
  require(std::adjacent_find(graph.edges.begin(), graph.edges.end()) == graph.edges.end(),
          "{}: an edge comes twice", edges_where);
  require(static_cast<int64_t>(graph.edges.size()) == links, "{}: {} edges, expected {}",
          edges_where, graph.edges.size(), links);
  return graph;
}

CitationGraph read_citations(std::string_view name) {
  const auto& set = dataset(name);
  require(set.folder == "planetoid", "{} is not a citation graph", name);
  const auto nodes = std::string(name) + ".nodes.tsv.gz",
             edges = std::string(name) + ".edges.tsv.gz";
  const auto pickled = "ind." + std::string(name) + ".graph";
  const auto found = find_file(name, {nodes, pickled});
  if (found.filename() == pickled) return read_planetoid(found.parent_path(), name);
  return parse_citations(read_compressed(found, kMaxText),
                         read_compressed(found.parent_path() / edges, kMaxText), found.string());
}

}  // namespace cajal::data
