#include "cajal/kernels/columns.h"

#include <cmath>
#include <vector>

#include "cajal/core/random.h"
#include "kernels/every_target.h"

namespace cajal {
namespace {

struct Activations {
  static constexpr int64_t rows = 37, stride = 40;
  std::vector<float> post, pre, norm, least;

  Activations() : post(rows * stride), pre(post.size()), norm(stride), least(rows) {
    Random random(3);
    for (size_t i = 0; i < post.size(); ++i) {
      pre[i] = static_cast<float>(random.normal() * std::exp2(random.normal() * 4));
      post[i] = std::max(0.0f, pre[i]);
    }
    pre[5] = 0, pre[6] = -0.0f, pre[7] = 1e30f, pre[8] = -1e30f, pre[9] = 1e-30f;
    for (auto& n : norm) n = 0.5f + static_cast<float>(random.uniform());
    for (auto& l : least) l = static_cast<float>(random.uniform());
  }
  ColumnRows part(int64_t first, int64_t columns, float threshold) const {
    return {post.data() + first,
            pre.data() + first,
            norm.data() + first,
            least.data(),
            stride,
            rows,
            columns,
            threshold};
  }
};

TEST(Columns, AreSumsTakenOneByOneOnEveryTarget) {
  const Activations a;
  on_every_target([&] {
    for (const int64_t columns : {int64_t{16}, int64_t{7}})
      for (const float threshold : {0.0f, 0.8f}) {
        ColumnSums sums;
        std::vector<uint8_t> fired(a.post.size(), 7);
        std::vector<uint32_t> bins(static_cast<size_t>(columns * kBins));
        const int64_t first = 8;
        add_columns(a.part(first, columns, threshold), sums, fired.data() + first, bins.data());
        for (int64_t i = 0; i < columns; ++i) {
          double sum = 0, square = 0, fourth = 0;
          int positive = 0, zero = 0, high = 0, lit = 0;
          float largest = 0;
          for (int64_t r = 0; r < a.rows; ++r) {
            const auto at = static_cast<size_t>(r * a.stride + first + i);
            const double x = a.post[at];
            const float energy = a.post[at] * a.norm[first + i] * (a.post[at] * a.norm[first + i]);
            const bool fires = threshold > 0 ? x > threshold : a.pre[at] > 0;
            sum += x, square += x * x, fourth += std::pow(a.pre[at] / 16.0, 4);
            positive += x > 0, zero += x == 0, high += energy >= a.least[r] && x != 0;
            lit += fires, largest = std::max(largest, a.post[at]);
            ASSERT_EQ(fired[at], fires);
          }
          ASSERT_NEAR(sums.sum[i], sum, 1e-9 * sum);
          ASSERT_NEAR(sums.square[i], square, 1e-9 * square);
          ASSERT_NEAR(sums.power[3][i], fourth, 1e-9 * fourth);
          ASSERT_EQ(sums.positive[i], positive);
          ASSERT_EQ(sums.zero[i], zero);
          ASSERT_EQ(sums.high[i], high);
          ASSERT_EQ(sums.fired[i], lit);
          ASSERT_EQ(sums.largest[i], largest);
          uint32_t all = 0;
          for (int b = 0; b < kBins; ++b) all += bins[static_cast<size_t>(i * kBins + b)];
          ASSERT_EQ(all, a.rows);
        }
        EXPECT_EQ(fired[first - 1], 7);
        EXPECT_EQ(fired[static_cast<size_t>(first + columns)], 7);
      }
  });
}

TEST(Columns, PutWhatIsTooLargeOrTooSmallIntoTheOuterBins) {
  const Activations a;
  on_every_target([&] {
    auto part = a.part(0, 16, 0);
    part.rows = 1;
    ColumnSums sums;
    std::vector<uint8_t> fired(a.post.size());
    std::vector<uint32_t> bins(static_cast<size_t>(16 * kBins));
    add_columns(part, sums, fired.data(), bins.data());
    const auto bin = [&](int64_t column) { return bins.data() + column * kBins; };
    EXPECT_EQ(bin(5)[kBinSide], 1u);
    EXPECT_EQ(bin(6)[kBinSide], 1u);
    EXPECT_EQ(bin(7)[kBins - 1], 1u);
    EXPECT_EQ(bin(8)[0], 1u);
    EXPECT_EQ(bin(9)[kBinSide], 1u);
  });
}

TEST(Columns, LiveEnergiesAreThoseThatAreNotZero) {
  on_every_target([] {
    std::vector<float> a(21, 0.0f), norm(21, 2.0f), energies(21 + kColumns);
    a[0] = 1, a[3] = -3, a[17] = NAN, a[20] = 0.5f;
    ASSERT_EQ(live_energies(a.data(), norm.data(), 21, energies.data()), 4);
    EXPECT_EQ(energies[0], 4);
    EXPECT_EQ(energies[1], 36);
    EXPECT_TRUE(std::isnan(energies[2]));
    EXPECT_EQ(energies[3], 1);
  });
}

}  // namespace
}  // namespace cajal
