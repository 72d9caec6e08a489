#include "cajal/data/planetoid.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <string>

#include "cajal/core/error.h"
#include "cajal/core/files.h"
#include "cajal/core/pickle.h"

namespace cajal::data {
namespace {

using Kind = PickleValue::Kind;

constexpr size_t kMaxFile = size_t{256} << 20;
constexpr int64_t kMaxPapers = int64_t{1} << 24;
constexpr int64_t kValidNodes = 500;  // nodes behind the training nodes
constexpr std::string_view kGlobals[] = {"scipy.sparse.csr.csr_matrix",
                                         "numpy.core.multiarray._reconstruct",
                                         "numpy.ndarray",
                                         "numpy.dtype",
                                         "collections.defaultdict",
                                         "__builtin__.list"};

// A NumPy array inside a pickle.
struct Numbers {
  std::vector<int64_t> shape;
  std::vector<double> values;
};

struct SparseRows {
  int64_t rows = 0, columns = 0;
  std::vector<int64_t> begin;  // [rows + 1]
  std::vector<int32_t> columns_of;
};

// One pickle file and the values in it.
class PickledFile {
 public:
  explicit PickledFile(const std::filesystem::path& path)
      : where_(path.string()), file_(path), pickle_(unpickle(file_.bytes(), where_, kGlobals)) {
    check(file_.bytes().size() <= kMaxFile, "too large");
  }

  const PickleValue& root() const { return pickle_[pickle_.root]; }
  const PickleValue& operator[](uint32_t place) const { return pickle_[place]; }

  void check(bool condition, std::string_view what) const {
    require(condition, "{}: {}", where_, what);
  }

  // The element of a tuple or call; what is missing is an error.
  const PickleValue& item(const PickleValue& of, size_t i) const {
    check(i < of.items.size(), "a value is missing");
    return pickle_[of.items[i]];
  }

  int64_t integer(const PickleValue& value) const {
    check(value.kind == Kind::integer && value.integer >= 0 && value.integer <= kMaxPapers,
          "not a sensible count");
    return value.integer;
  }

  const PickleValue& call(const PickleValue& value, std::string_view of) const {
    check(value.kind == Kind::call && item(value, 0).text == of, fmt::format("not a {}", of));
    return value;
  }

  Numbers numbers(const PickleValue& value) const;

 private:
  std::string where_;
  MappedFile file_;
  Pickle pickle_;
};

template <class T>
std::vector<double> widened(std::string_view bytes) {
  std::vector<double> out(bytes.size() / sizeof(T));
  for (size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    out[i] = static_cast<double>(value);
  }
  return out;
}

// _reconstruct(ndarray, ...) given the state (version, shape, dtype, Fortran order, bytes).
Numbers PickledFile::numbers(const PickleValue& value) const {
  const auto& state = item(call(value, "numpy.core.multiarray._reconstruct"), 2);
  const auto& dtype = call(item(state, 2), "numpy.dtype");
  const auto& order = item(item(dtype, 2), 1);
  check(order.text == "<" && item(state, 3).kind == Kind::boolean && item(state, 3).integer == 0,
        "an array that is not little-endian and row-major");
  const auto type = item(item(dtype, 1), 0).text;
  const auto bytes = item(state, 4).text;
  Numbers out;
  if (type == "i4") out.values = widened<int32_t>(bytes);
  if (type == "i8") out.values = widened<int64_t>(bytes);
  if (type == "f4") out.values = widened<float>(bytes);
  if (type == "f8") out.values = widened<double>(bytes);
  size_t count = 1;
  for (const auto axis : item(state, 1).items) {
    out.shape.push_back(integer((*this)[axis]));
    check(out.shape.back() > 0 &&
              static_cast<size_t>(out.shape.back()) <= std::numeric_limits<size_t>::max() / count,
          "an array without a sensible shape");
    count *= static_cast<size_t>(out.shape.back());
  }
  check(!out.shape.empty() && count == out.values.size() && bytes.size() % count == 0,
        "an array whose shape is not its length");
  return out;
}

// A whole number in [0, limit]; anything else is an error.
int64_t whole(const PickledFile& file, double value, int64_t limit) {
  file.check(value >= 0 && value <= static_cast<double>(limit) &&
                 value == static_cast<double>(static_cast<int64_t>(value)),
             "an index out of range");
  return static_cast<int64_t>(value);
}

SparseRows read_rows(const std::filesystem::path& path) {
  const PickledFile file(path);
  const auto& state = file.item(file.call(file.root(), "scipy.sparse.csr.csr_matrix"), 2);
  SparseRows out;
  Numbers begin, columns, data;
  for (size_t i = 0; i + 1 < state.items.size(); i += 2) {
    const auto key = file[state.items[i]].text;
    const auto& value = file[state.items[i + 1]];
    if (key == "indptr") begin = file.numbers(value);
    if (key == "indices") columns = file.numbers(value);
    if (key == "data") data = file.numbers(value);
    if (key == "_shape") {
      out.rows = file.integer(file.item(value, 0));
      out.columns = file.integer(file.item(value, 1));
    }
  }
  file.check(
      static_cast<int64_t>(begin.values.size()) == out.rows + 1 &&
          columns.values.size() == data.values.size() &&
          std::all_of(data.values.begin(), data.values.end(), [](double x) { return x == 1; }),
      "not a sparse matrix of ones");
  const auto entries = static_cast<int64_t>(columns.values.size());
  for (const double x : begin.values) out.begin.push_back(whole(file, x, entries));
  file.check(out.begin.front() == 0 && out.begin.back() == entries &&
                 std::is_sorted(out.begin.begin(), out.begin.end()),
             "the rows of the sparse matrix do not follow each other");
  for (const double x : columns.values)
    out.columns_of.push_back(static_cast<int32_t>(whole(file, x, out.columns - 1)));
  return out;
}

// The class of each row of a one-hot table; -1 for a row of zeros.
struct Labels {
  int64_t classes = 0;
  std::vector<int> of;
};

Labels read_labels(const std::filesystem::path& path) {
  const PickledFile file(path);
  const auto table = file.numbers(file.root());
  file.check(table.shape.size() == 2, "not a table");
  Labels out{table.shape[1], {}};
  for (int64_t row = 0; row < table.shape[0]; ++row) {
    const auto begin = table.values.begin() + row * out.classes;
    const auto largest = std::max_element(begin, begin + out.classes);
    out.of.push_back(*largest > 0 ? static_cast<int>(largest - begin) : -1);
  }
  return out;
}

std::vector<int64_t> read_index(const std::filesystem::path& path) {
  const auto text = read_file(path, kMaxFile);
  std::vector<int64_t> out;
  for (size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    int64_t id = 0;
    const auto [stop, error] = std::from_chars(text.data() + at, text.data() + end, id);
    require(error == std::errc() && stop == text.data() + end && id >= 0 && id < kMaxPapers,
            "{}: line {}: not a node", path.string(), out.size() + 1);
    out.push_back(id);
    at = end + 1;
  }
  require(!out.empty(), "{}: empty", path.string());
  return out;
}

void read_edges(const std::filesystem::path& path, CitationGraph& graph) {
  const PickledFile file(path);
  file.check(file.root().kind == Kind::dict, "not a dict");
  const auto& items = file.root().items;
  for (size_t i = 0; i + 1 < items.size(); i += 2) {
    const auto from = file.integer(file[items[i]]);
    for (const auto place : file[items[i + 1]].items) {
      const auto to = file.integer(file[place]);
      file.check(std::max(from, to) < graph.nodes, "an edge to a node that is not there");
      if (from != to) graph.edges.emplace_back(std::min(from, to), std::max(from, to));
    }
  }
  std::sort(graph.edges.begin(), graph.edges.end());
  graph.edges.erase(std::unique(graph.edges.begin(), graph.edges.end()), graph.edges.end());
}

}  // namespace

CitationGraph read_planetoid(const std::filesystem::path& folder, std::string_view name) {
  const auto part = [&](std::string_view kind) {
    return folder / fmt::format("ind.{}.{}", name, kind);
  };
  const auto known = read_rows(part("allx")), tested = read_rows(part("tx"));
  const auto known_labels = read_labels(part("ally")), test_labels = read_labels(part("ty"));
  const auto test = read_index(part("test.index"));
  const auto trained = static_cast<int64_t>(read_labels(part("y")).of.size());
  const auto where = folder.string();
  require(known.columns == tested.columns && known_labels.classes == test_labels.classes &&
              static_cast<size_t>(known.rows) == known_labels.of.size() &&
              static_cast<size_t>(tested.rows) == test_labels.of.size() &&
              test.size() == test_labels.of.size() && trained + kValidNodes <= known.rows,
          "{}: the files of {} do not fit each other", where, name);

  CitationGraph graph;
  graph.nodes = std::max(known.rows, *std::max_element(test.begin(), test.end()) + 1);
  graph.words = known.columns;
  graph.classes = known_labels.classes;
  graph.labels.assign(static_cast<size_t>(graph.nodes), -1);
  graph.splits.assign(static_cast<size_t>(graph.nodes), Split::unused);
  // Where the words of each node stand: a row of allx, of tx, or nowhere.
  std::vector<std::pair<const SparseRows*, int64_t>> rows(static_cast<size_t>(graph.nodes),
                                                          {nullptr, 0});
  for (int64_t id = 0; id < known.rows; ++id) {
    const auto i = static_cast<size_t>(id);
    graph.labels[i] = known_labels.of[i];
    graph.splits[i] = id < trained                 ? Split::train
                      : id < trained + kValidNodes ? Split::valid
                                                   : Split::unused;
    rows[i] = {&known, id};
  }
  for (size_t i = 0; i < test.size(); ++i) {
    const auto id = static_cast<size_t>(test[i]);
    require(rows[id].first == nullptr, "{}: test node {} comes twice", where, id);
    graph.labels[id] = test_labels.of[i];
    graph.splits[id] = Split::test;
    rows[id] = {&tested, static_cast<int64_t>(i)};
  }
  graph.word_begin = {0};
  for (const auto& [source, row] : rows) {
    if (source) {
      const auto* begin = source->columns_of.data() + source->begin[static_cast<size_t>(row)];
      const auto* end = source->columns_of.data() + source->begin[static_cast<size_t>(row) + 1];
      const auto at = graph.word_of.insert(graph.word_of.end(), begin, end);
      std::sort(at, graph.word_of.end());
    }
    graph.word_begin.push_back(static_cast<int64_t>(graph.word_of.size()));
  }
  read_edges(part("graph"), graph);
  return graph;
}

}  // namespace cajal::data
