#include "cajal/data/citations.h"

#include <gtest/gtest.h>

#include "cajal/data/planetoid.h"
#include "core/scratch.h"
#include "says.h"

namespace cajal::data {
namespace {
using namespace std::string_literals;

const std::string kNodes =
    "# nodes=3 features=4 classes=2 edges=2\n0\t1\ttrain\t0 3\n1\t0\tval\t\n2\t-1\tunused\t1\n";
const std::string kEdges = "0\t1\n1\t2\n";

std::string refusal(const std::string& nodes, const std::string& edges = kEdges) {
  return error_of([&] { parse_citations(nodes, edges, "x"); });
}

std::string replaced(std::string text, const std::string& part, const std::string& by) {
  return text.replace(text.find(part), part.size(), by);
}

TEST(Citations, ReadsTheTextForm) {
  const auto graph = parse_citations(kNodes, kEdges, "x");
  EXPECT_EQ(graph.labels, (std::vector<int>{1, 0, -1}));
  EXPECT_EQ(graph.splits, (std::vector<Split>{Split::train, Split::valid, Split::unused}));
  EXPECT_EQ(graph.word_begin, (std::vector<int64_t>{0, 2, 2, 3}));
  EXPECT_EQ(graph.word_of, (std::vector<int32_t>{0, 3, 1}));
  EXPECT_EQ(graph.edges, (std::vector<std::pair<int32_t, int32_t>>{{0, 1}, {1, 2}}));
}

TEST(Citations, NamesTheLineOfWhatIsUnsound) {
  EXPECT_TRUE(says(refusal(""), "empty"));
  EXPECT_TRUE(says(refusal(replaced(kNodes, "nodes=3", "nodes=-3")), "line 1"));
  EXPECT_TRUE(says(refusal(replaced(kNodes, "nodes=3", "nodes=4")), "3 nodes, expected 4"));
  EXPECT_TRUE(says(refusal(replaced(kNodes, "nodes=3", "nodes=2")), "line 4: more nodes"));
  EXPECT_TRUE(says(refusal(replaced(kNodes, "train", "trane")), "line 2: the split"));
  EXPECT_TRUE(says(refusal(replaced(kNodes, "0 3", "3 0")), "line 2"));
  EXPECT_TRUE(says(refusal(replaced(kNodes, "0 3", "0 4")), "line 2: '4'"));
  EXPECT_TRUE(says(refusal(replaced(kNodes, "0\t1\ttrain", "0\t2\ttrain")), "line 2: '2'"));
  EXPECT_TRUE(says(refusal(replaced(kNodes, "2\t-1", "1\t-1")), "not in order"));
  EXPECT_TRUE(says(refusal(kNodes, "0\t1\n0\t1\n"), "comes twice"));
  EXPECT_TRUE(says(refusal(kNodes, "1\t0\n1\t2\n"), "(edges): line 1"));
  EXPECT_TRUE(says(refusal(kNodes, "0\t1\n1\t3\n"), "line 2: '3'"));
  EXPECT_TRUE(says(refusal(kNodes, "0\t1\n"), "1 edges, expected 2"));
  EXPECT_TRUE(says(refusal(kNodes, "0\t1\t2\n1\t2\n"), "more than two"));
}

// Planetoid's pickles, as Python 2 wrote them.
template <class T>
std::string raw(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::string joined(std::initializer_list<std::string_view> parts) {
  std::string out;
  for (const auto part : parts) out += part;
  return out;
}

std::string number(size_t value) {
  return joined({"J", raw(std::vector<int32_t>{static_cast<int32_t>(value)})});
}

std::string array(const std::string& shape, const std::string& type, const std::string& bytes) {
  return joined({"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\1b\x87R(K\1("s,
                 shape, "tcnumpy\ndtype\nU\2", type,
                 "K\0K\1\x87R(K\3U\1<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89T"s,
                 number(bytes.size()).substr(1), bytes, "tb"});
}

std::string sparse(size_t rows, size_t columns, const std::vector<int32_t>& begin,
                   const std::vector<int32_t>& column) {
  const auto ones = raw(std::vector<float>(column.size(), 1));
  return joined(
      {"\x80\2"
       "cscipy.sparse.csr\ncsr_matrix\n)\x81}(U\6_shape",
       number(rows), number(columns), "\x86U\6indptr",
       array(number(begin.size()), "i4", raw(begin)), "U\7indices",
       array(number(column.size()), "i4", raw(column)), "U\4data",
       array(number(column.size()), "f4", ones), "ub."});
}

std::string one_hot(const std::vector<int>& labels) {
  std::vector<int32_t> table(labels.size() * 2, 0);
  for (size_t i = 0; i < labels.size(); ++i) table[2 * i + static_cast<size_t>(labels[i])] = 1;
  return joined({"\x80\2", array(number(labels.size()) + number(2), "i4", raw(table)), "."});
}

// 502 known nodes with word 0 (node 0 with 2 and 1), test nodes 504 and 502; 503 is in no file.
class Planetoid : public Scratch {
 protected:
  Planetoid() {
    std::vector<int32_t> begin = {0, 2}, columns = {2, 1};
    for (int i = 1; i < 502; ++i) {
      columns.push_back(0);
      begin.push_back(static_cast<int32_t>(columns.size()));
    }
    put("ind.toy.y", one_hot({1, 0}));
    put("ind.toy.allx", sparse(502, 3, begin, columns));
    put("ind.toy.ally", one_hot(std::vector<int>(502, 1)));
    put("ind.toy.tx", sparse(2, 3, {0, 1, 2}, {1, 2}));
    put("ind.toy.ty", one_hot({0, 1}));
    put("ind.toy.test.index", "504\n502\n");
    // 0: [1, 0, 1], 504: [0]: a self-loop and a double edge
    put("ind.toy.graph",
        "\x80\2"
        "ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R(K\0](K\1K\0K\1eM\xf8\1]K\0au."s);
  }
  std::string planetoid_refusal() {
    return error_of([&] { read_planetoid(in(""), "toy"); });
  }
};

TEST_F(Planetoid, ReadsThePickledForm) {
  const auto graph = read_planetoid(in(""), "toy");
  EXPECT_EQ(graph.nodes, 505);
  EXPECT_EQ(graph.words, 3);
  EXPECT_EQ(graph.classes, 2);
  EXPECT_EQ(graph.edges, (std::vector<std::pair<int32_t, int32_t>>{{0, 1}, {0, 504}}));
  EXPECT_EQ(graph.splits[1], Split::train);
  EXPECT_EQ(graph.splits[2], Split::valid);
  EXPECT_EQ(graph.splits[503], Split::unused);
  EXPECT_EQ(graph.splits[504], Split::test);
  EXPECT_EQ(graph.labels[503], -1);
  EXPECT_EQ(graph.labels[504], 0);
  EXPECT_EQ(graph.labels[502], 1);
  EXPECT_EQ(graph.word_of[0], 1);  // sorted
  EXPECT_EQ(graph.word_of[1], 2);
  EXPECT_EQ(graph.word_of.back(), 1);  // of node 504, the first row of tx
}

TEST_F(Planetoid, RefusesEveryTruncationOfAPickle) {
  const auto bytes = read_file(in("ind.toy.tx"));
  for (size_t size = 0; size < bytes.size(); ++size) {
    put("ind.toy.tx", bytes.substr(0, size));
    EXPECT_NE(planetoid_refusal(), "") << size;
  }
}

TEST_F(Planetoid, NeverCrashesOnAWrongByteInAPickle) {
  for (const auto* name : {"ind.toy.tx", "ind.toy.ty", "ind.toy.graph"}) {
    const auto bytes = read_file(in(name));
    for (size_t at = 0; at < bytes.size(); ++at)
      for (const char flip : {'\x01', '\x80', '\x55'}) {
        auto wrong = bytes;
        wrong[at] = static_cast<char>(wrong[at] ^ flip);
        put(name, wrong);
        planetoid_refusal();
      }
    put(name, bytes);
  }
  EXPECT_EQ(planetoid_refusal(), "");
}

TEST_F(Planetoid, LoadsNoOtherPythonObject) {
  put("ind.toy.y", "\x80\2cos\nsystem\nU\2ls\x85R.");
  EXPECT_TRUE(says(planetoid_refusal(), "os.system"));
}

TEST_F(Planetoid, RefusesFilesThatDoNotFitEachOther) {
  put("ind.toy.ty", one_hot({0}));
  EXPECT_TRUE(says(planetoid_refusal(), "do not fit"));
}

TEST_F(Planetoid, RefusesIndicesOutOfRange) {
  put("ind.toy.tx", sparse(2, 3, {0, 1, 2}, {1, 3}));
  EXPECT_TRUE(says(planetoid_refusal(), "out of range"));
  put("ind.toy.tx", sparse(2, 3, {0, 2, 1}, {1, 2}));
  EXPECT_NE(planetoid_refusal(), "");
  put("ind.toy.tx", sparse(2, 3, {0, 1, 2}, {1, 2}));
  put("ind.toy.test.index", "504\n0\n");
  EXPECT_TRUE(says(planetoid_refusal(), "comes twice"));
}

}  // namespace
}  // namespace cajal::data
