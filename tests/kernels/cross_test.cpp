#include "cajal/kernels/cross.h"

#include <cmath>
#include <vector>

#include "cajal/core/random.h"
#include "kernels/every_target.h"

namespace cajal {
namespace {

struct Table {
  int64_t rows, columns, stride;
  std::vector<float> data;
  Table(int64_t r, int64_t c, uint64_t seed)
      : rows(r), columns(c), stride((c + 15) / 16 * 16), data(((r + 31) / 32 * 32) * stride) {
    Random random(seed);
    for (int64_t i = 0; i < r * stride; ++i) data[i] = static_cast<float>(random.normal());
  }
  ColumnTable all() const { return {data.data(), columns, stride}; }
};

void compare(Precision precision, double tolerance) {
  ThreadPool threads(3);
  for (const auto& [rows, n1, n2] : {std::tuple(1, 1, 1), {40, 17, 300}, {2100, 270, 33}}) {
    const Table x(rows, n1, 1), y(rows, n2, 2);
    std::vector<double> total(static_cast<size_t>(n1 * (n2 + 3)), 2.0);
    CrossProducts(precision).add(x.all(), y.all(), rows, total.data(), n2 + 3, threads);
    for (int64_t i = 0; i < n1; i += 7)
      for (int64_t j = 0; j < n2; j += 5) {
        double expected = 2;
        for (int64_t r = 0; r < rows; ++r)
          expected += static_cast<double>(x.data[r * x.stride + i]) * y.data[r * y.stride + j];
        ASSERT_NEAR(total[i * (n2 + 3) + j], expected, tolerance * std::sqrt(rows))
            << rows << " " << i << " " << j;
      }
    for (int64_t i = 0; i < n1; ++i) ASSERT_EQ(total[i * (n2 + 3) + n2], 2.0);  // beside it
  }
}

TEST(CrossProducts, AreSumsOverTheRowsOnEveryTarget) {
  on_every_target([] { compare(Precision::f32, 1e-5); });
}

TEST(CrossProducts, InBfloat16AreOffByItsRounding) { compare(Precision::bf16, 0.03); }

TEST(CrossProducts, DoNotDependOnTheNumberOfThreads) {
  const Table x(2500, 300, 1), y(2500, 520, 2);
  std::vector<double> one(300 * 520), many(one.size());
  for (const auto precision : {Precision::f32, Precision::bf16}) {
    ThreadPool single(1), three(3);
    CrossProducts(precision).add(x.all(), y.all(), 2500, one.data(), 520, single);
    CrossProducts(precision).add(x.all(), y.all(), 2500, many.data(), 520, three);
    EXPECT_EQ(one, many);
  }
}

}  // namespace
}  // namespace cajal
