#include "cajal/kernels/fff.h"

#include "cajal/core/error.h"
#include "kernels/stored.h"

namespace cajal {
namespace {

struct Tree {
  Tree(Format format, int64_t depth, int64_t leaf_width, int64_t width, int64_t outputs,
       Law law = Law::relu)
      : node(format, std::max<int64_t>(1, (int64_t{1} << depth) - 1), width, 0, 31),
        key(format, leaf_width << depth, width, 0, 32),
        value(format, leaf_width << depth, outputs, 0, 33),
        node_bias(normals(int64_t{1} << depth, 34)),
        key_bias(normals(leaf_width << depth, 35)),
        value_bias(normals(outputs << depth, 36)),
        view{depth,           node.view,         key.view, value.view, node_bias.data(),
             key_bias.data(), value_bias.data(), law} {}

  Stored node, key, value;
  std::vector<float> node_bias, key_bias, value_bias;
  FeedForwardTree view;
};

std::vector<double> decoded(const RowMatrix& matrix, int64_t r) {
  std::vector<float> row(matrix.width);
  decode_row(matrix.format, matrix.row(r), matrix.width, row.data());
  return {row.begin(), row.end()};
}

double dot(const std::vector<double>& a, const float* b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

float law_of(Law law, double x) {
  auto value = static_cast<float>(x);
  apply_law(law, &value, 1, &value);
  return value;
}

std::vector<float> reference(const FeedForwardTree& tree, const std::vector<float>& x) {
  const int64_t batch = static_cast<int64_t>(x.size()) / tree.width();
  std::vector<float> y;
  for (int64_t b = 0; b < batch; ++b) {
    const float* const of = x.data() + b * tree.width();
    int64_t position = 0;
    for (int64_t level = 0; level < tree.depth; ++level) {
      const int64_t node = (1 << level) - 1 + position;
      position = 2 * position + (dot(decoded(tree.node, node), of) + tree.node_bias[node] >= 0);
    }
    std::vector<double> sum(tree.value_bias + position * tree.outputs(),
                            tree.value_bias + (position + 1) * tree.outputs());
    for (int64_t i = 0; i < tree.leaf_width(); ++i) {
      const int64_t row = position * tree.leaf_width() + i;
      const double h = law_of(tree.law, dot(decoded(tree.key, row), of) + tree.key_bias[row]);
      const auto value = decoded(tree.value, row);
      for (int64_t o = 0; o < tree.outputs(); ++o) sum[o] += h * value[o];
    }
    y.insert(y.end(), sum.begin(), sum.end());
  }
  return y;
}

std::vector<float> output(const FeedForwardTree& tree, const std::vector<float>& x, int threads = 1,
                          Precision precision = Precision::f32) {
  const int64_t batch = static_cast<int64_t>(x.size()) / tree.width();
  std::vector<float> y(batch * tree.outputs(), NAN);
  ThreadPool pool(threads);
  tree_feed_forward(tree, x.data(), batch, y.data(), pool, precision);
  return y;
}

TEST(FeedForwardTree, IsItsFormulaForEveryDepthLeafAndBatch) {
  for (const int64_t depth : {0, 1, 3, 6})
    for (const int64_t leaf : {1, 3, 16})
      for (const int64_t batch : {0, 1, 3, 65, 257}) {
        SCOPED_TRACE(fmt::format("depth {} leaf {} batch {}", depth, leaf, batch));
        const Tree tree(Format::f32, depth, leaf, 40, 23);
        const auto x = normals(batch * 40, 5);
        EXPECT_LT(relative_error(output(tree.view, x), reference(tree.view, x)), 1e-5);
      }
}

TEST(FeedForwardTree, IsItsFormulaInEveryFormatOnEveryTarget) {
  for (const auto& [format, name] : EnumNames<Format>::values) {
    const int64_t width = block_values(format) == 256 ? 256 : 96;
    const Tree tree(format, 4, 7, width, width, Law::gelu);
    const auto x = normals(9 * width, 5);
    const auto expected = reference(tree.view, x);
    on_every_target(
        [&] { EXPECT_LT(relative_error(output(tree.view, x), expected), 1e-5) << name; });
  }
}

TEST(FeedForwardTree, WithManyTokensInALeafRoundsOnlyWhereAsked) {
  const Tree tree(Format::f32, 2, 32, 64, 48);
  const auto x = normals(300 * 64, 5);
  const auto expected = reference(tree.view, x);
  EXPECT_LT(relative_error(output(tree.view, x), expected), 1e-5);
  EXPECT_LT(relative_error(output(tree.view, x, 1, Precision::bf16), expected), 1.0 / 64);
}

TEST(FeedForwardTree, IsBitwiseTheSameForEveryNumberOfThreadsAndAsOneTokenAlone) {
  const Tree tree(Format::q8_0, 7, 8, 96, 64);
  const auto x = normals(70 * 96, 5);
  const auto one = output(tree.view, x);
  ThreadPool pool(2);
  std::vector<float> y(one.size());
  for (int run = 0; run < 300; ++run) {
    tree_feed_forward(tree.view, x.data(), 70, y.data(), pool);
    ASSERT_EQ(y, one) << run;
  }
  for (int64_t b = 0; b < 70; ++b)
    ASSERT_EQ(output(tree.view, {&x[b * 96], &x[b * 96] + 96}),
              std::vector(&one[b * 64], &one[b * 64] + 64));
}

TEST(FeedForwardTree, IsBitwiseTheSameForOneTokenThatAllThreadsAnswer) {
  for (const auto format : {Format::f32, Format::q8_0, Format::q4_K}) {
    const int64_t width = block_values(format) == 256 ? 512 : 320;
    const Tree tree(format, 3, 512, width, 2 * width, Law::gelu);
    const auto x = normals(width, 5);
    const auto one = output(tree.view, x);
    for (const int threads : {2, 3}) ASSERT_EQ(output(tree.view, x, threads), one) << threads;
  }
}

TEST(FeedForwardTree, GoesRightOnATie) {
  Tree tree(Format::f32, 1, 1, 8, 8);
  tree.node_bias[0] = 0;
  const std::vector<float> zeros(8);
  int32_t leaf = -1;
  ThreadPool pool(1);
  descend_tree(tree.view, zeros.data(), 1, &leaf, pool);
  EXPECT_EQ(leaf, 1);
}

TEST(FeedForwardTree, RefusesMatricesThatDoNotFit) {
  const Tree tree(Format::f32, 2, 3, 8, 8);
  auto wrong = tree.view;
  wrong.depth = 3;
  EXPECT_THROW(output(wrong, normals(8, 1)), Error);
  wrong = tree.view, wrong.depth = 64;
  EXPECT_THROW(output(wrong, normals(8, 1)), Error);
  wrong = tree.view, wrong.value.rows = 9;
  EXPECT_THROW(output(wrong, normals(8, 1)), Error);
}

TEST(NodeForest, IsItsFormula) {
  for (const int64_t depth : {0, 1, 5}) {
    constexpr int64_t trees = 3, width = 40, outputs = 23, batch = 33;
    const int64_t nodes = (int64_t{2} << depth) - 1;
    const Stored key(Format::f32, trees * nodes, width, 0, 1),
        value(Format::f32, trees * nodes, outputs, 0, 2);
    const auto bias = normals(trees * nodes, 3), x = normals(batch * width, 5);
    const NodeForest forest{depth, trees, key.view, value.view, bias.data()};
    std::vector<float> expected, y(batch * outputs), two(batch * outputs);
    for (int64_t b = 0; b < batch; ++b) {
      std::vector<double> sum(outputs);
      for (int64_t tree = 0; tree < trees; ++tree) {
        for (int64_t level = 0, node = 0; level <= depth; ++level) {
          const int64_t row = tree * nodes + node;
          const double score = dot(decoded(key.view, row), x.data() + b * width) + bias[row];
          const auto of = decoded(value.view, row);
          for (int64_t o = 0; o < outputs; ++o) sum[o] += law_of(Law::gelu, score) * of[o];
          node = 2 * node + 1 + (score > 0);
        }
      }
      expected.insert(expected.end(), sum.begin(), sum.end());
    }
    ThreadPool pool(1), pair(2);
    forest_feed_forward(forest, x.data(), batch, y.data(), pool);
    EXPECT_LT(relative_error(y, expected), 1e-5) << depth;
    forest_feed_forward(forest, x.data(), batch, two.data(), pair);
    EXPECT_EQ(two, y);
  }
}

TEST(NodeForest, RefusesMatricesThatDoNotFit) {
  const Stored key(Format::f32, 7, 8), value(Format::f32, 6, 8);
  ThreadPool pool(1);
  std::vector<float> x(8), y(8);
  EXPECT_THROW(forest_feed_forward({2, 1, key.view, value.view}, x.data(), 1, y.data(), pool),
               Error);
  EXPECT_THROW(forest_feed_forward({1, 1, key.view, key.view}, x.data(), 1, y.data(), pool), Error);
}

}  // namespace
}  // namespace cajal
