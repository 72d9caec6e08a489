#include "cajal/kernels/gemm_feed_forward.h"

#include "cajal/core/error.h"
#include "kernels/stored.h"

namespace cajal {
namespace {

/// A block with memory of its own.
struct Block {
  Block(Format format, int64_t neurons, int64_t width, bool gated, ValueLayout layout, Law law,
        bool bias = false)
      : key(format, neurons, width, 0, 21),
        gate(format, neurons, width, 0, 22),
        value(format, layout == ValueLayout::by_neuron ? neurons : width,
              layout == ValueLayout::by_neuron ? width : neurons, 0, 23),
        biases(normals(neurons, 24)),
        view{key.view, gated ? gate.view : RowMatrix{}, value.view, layout,
             law,      bias ? biases.data() : nullptr} {}

  Stored key, gate, value;
  std::vector<float> biases;
  FeedForwardRows view;
};

/// y + the sum over neurons in double precision; `weight` [batch, neurons] or none.
std::vector<float> reference(const Block& block, const std::vector<float>& x, std::vector<float> y,
                             const std::vector<float>& weight = {}) {
  const auto& view = block.view;
  const int64_t width = view.width(), neurons = view.neurons();
  const auto decode = [](const RowMatrix& matrix) {
    std::vector<float> out(matrix.rows * matrix.width);
    for (int64_t r = 0; r < matrix.rows; ++r)
      decode_row(matrix.format, matrix.row(r), matrix.width, out.data() + r * matrix.width);
    return out;
  };
  const auto key = decode(view.key), gate = decode(block.gate.view), value = decode(view.value);
  for (int64_t b = 0; b < static_cast<int64_t>(x.size()) / width; ++b) {
    std::vector<double> sum(y.begin() + b * width, y.begin() + (b + 1) * width);
    for (int64_t n = 0; n < neurons; ++n) {
      double key_x = 0, gate_x = 0;
      for (int64_t i = 0; i < width; ++i) {
        key_x += double{key[n * width + i]} * x[b * width + i];
        gate_x += double{gate[n * width + i]} * x[b * width + i];
      }
      auto argument = static_cast<float>((view.gate.data ? gate_x : key_x) +
                                         (view.key_bias ? view.key_bias[n] : 0));
      apply_law(view.law, &argument, 1, &argument);
      double h = argument * (view.gate.data ? key_x : 1);
      if (!weight.empty()) h *= weight[b * neurons + n];
      for (int64_t i = 0; i < width; ++i)
        sum[i] += h * (view.layout == ValueLayout::by_neuron ? value[n * width + i]
                                                             : value[i * neurons + n]);
    }
    for (int64_t i = 0; i < width; ++i) y[b * width + i] = static_cast<float>(sum[i]);
  }
  return y;
}

std::vector<float> output(const Block& block, const std::vector<float>& x, std::vector<float> y,
                          Precision precision, int threads = 1) {
  ThreadPool pool(threads);
  feed_forward_many(block.view, x.data(), static_cast<int64_t>(x.size()) / block.view.width(),
                    y.data(), pool, precision);
  return y;
}

constexpr double kBf16Error = 1.0 / 64, kF32Error = 1e-5;

TEST(FeedForwardMany, IsTheSumOverNeuronsInBothLayoutsForEveryFormat) {
  for (const auto& [format, name] : EnumNames<Format>::values) {
    const int64_t block = block_values(format);
    const int64_t width = block == 1 ? 40 : block == 32 ? 96 : 256;
    for (const auto layout : {ValueLayout::by_neuron, ValueLayout::by_output}) {
      const int64_t neurons = layout == ValueLayout::by_neuron ? 300 : block == 1 ? 300 : 512;
      for (const bool gated : {false, true}) {
        const Block of(format, neurons, width, gated, layout, gated ? Law::silu : Law::relu, gated);
        for (const int64_t batch : {0, 1, 3, 65}) {
          SCOPED_TRACE(fmt::format("{} layout {} gated {} batch {}", name, static_cast<int>(layout),
                                   gated, batch));
          const auto x = normals(batch * width, 5), y = normals(batch * width, 6);
          const auto expected = reference(of, x, y);
          EXPECT_LT(relative_error(output(of, x, y, Precision::bf16), expected), kBf16Error);
          EXPECT_LT(relative_error(output(of, x, y, Precision::f32), expected), kF32Error);
        }
      }
    }
  }
}

TEST(FeedForwardMany, MayHaveOtherOutputsThanInputs) {
  for (const auto layout : {ValueLayout::by_neuron, ValueLayout::by_output}) {
    Block of(Format::f32, 70, 40, false, layout, Law::relu);
    const Stored value(Format::f32, layout == ValueLayout::by_neuron ? 70 : 9,
                       layout == ValueLayout::by_neuron ? 9 : 70);
    of.view.value = value.view;
    const auto x = normals(20 * 40, 5);
    std::vector<float> got(20 * 9), hidden(20 * 70), expected(20 * 9);
    ThreadPool pool(1);
    feed_forward_many(of.view, x.data(), 20, got.data(), pool, Precision::f32);
    naive::dot_rows(of.view.key, RowSet::range(0, 70), x.data(), 20, hidden.data(), pool);
    apply_law(Law::relu, hidden.data(), 20 * 70, hidden.data());
    const auto all = RowSet::range(0, value.view.rows);
    if (layout == ValueLayout::by_neuron) {
      naive::gather_axpy(value.view, all, hidden.data(), 20, expected.data(), pool);
    } else {
      naive::dot_rows(value.view, all, hidden.data(), 20, expected.data(), pool);
    }
    EXPECT_LT(relative_error(got, expected), kF32Error);
  }
}

TEST(FeedForwardMany, IsItsFormulaOnEveryTarget) {
  const Block of(Format::f32, 130, 300, true, ValueLayout::by_neuron, Law::gelu);
  const auto x = normals(600 * 300, 5), y = normals(600 * 300, 6);
  const auto expected = reference(of, x, y);
  on_every_target(
      [&] { EXPECT_LT(relative_error(output(of, x, y, Precision::f32), expected), kF32Error); });
}

TEST(FeedForwardMany, IsBitwiseTheSameForEveryNumberOfThreads) {
  for (const auto layout : {ValueLayout::by_neuron, ValueLayout::by_output}) {
    const Block of(Format::q8_0, 1024, 320, true, layout, Law::silu);
    const auto x = normals(70 * 320, 5), y = normals(70 * 320, 6);
    for (const auto precision : {Precision::bf16, Precision::f32}) {
      const auto one = output(of, x, y, precision);
      ThreadPool pool(2);
      for (int run = 0; run < 60; ++run) {
        auto two = y;
        feed_forward_many(of.view, x.data(), 70, two.data(), pool, precision);
        ASSERT_EQ(two, one) << run;
      }
      ASSERT_EQ(output(of, x, y, precision, 5), one);
    }
  }
}

/// Groups of `size` neurons; each token meets some of them.
struct Choice {
  Choice(int64_t neurons, int64_t size, int64_t batch, uint64_t seed, bool weighted)
      : mask(batch * neurons) {
    Random random(seed);
    for (int64_t first = 0; first < neurons; first += size) {
      rows.push_back(first);
      begin.push_back(static_cast<int64_t>(token.size()));
      const int64_t last = std::min(neurons, first + size);
      for (int32_t b = 0; b < batch; ++b) {
        if (random.uniform() < 0.6 || first == 2 * size) continue;  // one group meets nobody
        token.push_back(b);
        weight.push_back(weighted ? static_cast<float>(random.uniform()) : 1.0f);
        std::fill(&mask[b * neurons] + first, &mask[b * neurons] + last, weight.back());
      }
    }
    rows.push_back(neurons);
    begin.push_back(static_cast<int64_t>(token.size()));
    groups = {rows, begin, token, weighted ? weight.data() : nullptr};
  }
  std::vector<int64_t> rows, begin;
  std::vector<int32_t> token;
  std::vector<float> weight, mask;
  TokenGroups groups;
};

TEST(GroupedFeedForward, EqualsTheDenseBlockWithAMask) {
  for (const auto layout : {ValueLayout::by_neuron, ValueLayout::by_output}) {
    for (const int64_t size : {32, 96, 320}) {
      for (const bool weighted : {false, true}) {
        const Block of(Format::q8_0, 672, 96, true, layout, Law::silu);
        const auto x = normals(70 * 96, 5), y = normals(70 * 96, 6);
        const Choice choice(672, size, 70, 7, weighted);
        const auto expected = reference(of, x, y, choice.mask);
        for (const auto precision : {Precision::bf16, Precision::f32}) {
          std::vector<float> one;
          for (const int threads : {1, 2, 3}) {
            ThreadPool pool(threads);
            auto got = y;
            grouped_feed_forward(of.view, choice.groups, x.data(), 70, got.data(), pool, precision);
            EXPECT_LT(relative_error(got, expected),
                      precision == Precision::f32 ? kF32Error : kBf16Error);
            if (one.empty()) one = got;
            EXPECT_EQ(got, one) << "threads " << threads;
          }
        }
      }
    }
  }
}

TEST(GroupedFeedForward, WithRaggedGroupsOfFloatsEqualsTheDenseBlockWithAMask) {
  const Block of(Format::f32, 101, 40, false, ValueLayout::by_output, Law::relu, true);
  const auto x = normals(33 * 40, 5), y = normals(33 * 40, 6);
  const Choice choice(101, 7, 33, 7, true);
  const auto expected = reference(of, x, y, choice.mask);
  ThreadPool pool(2);
  for (const auto precision : {Precision::bf16, Precision::f32}) {
    auto got = y;
    grouped_feed_forward(of.view, choice.groups, x.data(), 33, got.data(), pool, precision);
    EXPECT_LT(relative_error(got, expected), precision == Precision::f32 ? kF32Error : kBf16Error);
  }
}

TEST(GroupedFeedForward, RefusesTokensAndGroupsThatAreNotThere) {
  const Block of(Format::q8_0, 64, 32, false, ValueLayout::by_output, Law::relu);
  ThreadPool pool(1);
  std::vector<float> x(3 * 32), y(3 * 32);
  const auto run = [&](std::vector<int64_t> rows, std::vector<int64_t> begin,
                       std::vector<int32_t> token) {
    grouped_feed_forward(of.view, {rows, begin, token}, x.data(), 3, y.data(), pool);
  };
  run({0, 32, 64}, {0, 1, 2}, {2, 0});
  EXPECT_THROW(run({0, 32, 64}, {0, 1, 2}, {3, 0}), Error);
  EXPECT_THROW(run({0, 32, 64}, {0, 1, 2}, {-1, 0}), Error);
  EXPECT_THROW(run({0, 32, 96}, {0, 1, 2}, {2, 0}), Error);
  EXPECT_THROW(run({0, 16, 64}, {0, 1, 2}, {2, 0}), Error);  // cuts a block of values
  EXPECT_THROW(run({0, 32, 64}, {0, 1, 3}, {2, 0}), Error);
  EXPECT_THROW(run({0, 32, 64}, {0, 1}, {2, 0}), Error);
}

TEST(FeedForwardMany, RefusesMatricesThatDoNotFit) {
  Block of(Format::f32, 8, 6, true, ValueLayout::by_neuron, Law::relu);
  of.view.layout = ValueLayout::by_output;  // of 6 neurons
  ThreadPool pool(1);
  std::vector<float> x(6), y(6);
  EXPECT_THROW(feed_forward_many(of.view, x.data(), 1, y.data(), pool), Error);
}

}  // namespace
}  // namespace cajal
