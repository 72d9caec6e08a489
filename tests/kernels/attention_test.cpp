#include "cajal/kernels/attention.h"

#include "cajal/core/error.h"
#include "kernels/every_target.h"

namespace cajal {
namespace {

/// A cache of one kind with memory of its own.
struct Cache {
  Cache(CacheFormat format, int64_t heads, int64_t capacity, int64_t width)
      : view{format, nullptr, nullptr, heads, capacity, width},
        data(view.bytes()),
        scales(heads * capacity) {
    view.data = data.data(), view.scale = scales.data();
  }
  HeadCache view;
  std::vector<uint8_t> data;
  std::vector<float> scales;
};

struct Case {
  CacheFormat format = CacheFormat::f32;
  int64_t heads = 6, key_heads = 2, width = 40, past = 0, tokens = 5, capacity = 64;
  float cap = 0;
  int64_t window = 0;
};

using Attend = decltype(naive::attend);

std::vector<float> output(const Case& c, Attend* kernel, int threads = 1) {
  Cache keys(c.format, c.key_heads, c.capacity, c.width),
      values(c.format, c.key_heads, c.capacity, c.width);
  const int64_t row = c.key_heads * c.width, all = c.past + c.tokens;
  const auto k = normals(all * row, 1), v = normals(all * row, 2);
  store(keys.view, 0, all, k.data(), row);
  store(values.view, 0, all, v.data(), row);
  const int64_t stride = c.heads * c.width + 3;
  const auto q = normals(c.tokens * stride, 3);
  std::vector<float> y(c.tokens * c.heads * c.width, NAN);
  ThreadPool pool(threads);
  kernel(q.data(), c.past, c.tokens, stride, keys.view, values.view,
         {c.heads, 0.3f, c.cap, c.window}, y.data(), pool);
  return y;
}

std::vector<Case> cases() {
  std::vector<Case> out;
  for (const auto format : {CacheFormat::f32, CacheFormat::f16, CacheFormat::q8}) {
    out.push_back({.format = format});
    out.push_back({.format = format, .past = 58, .tokens = 1});
    out.push_back({.format = format, .width = 16, .past = 9, .tokens = 150, .capacity = 160});
    out.push_back({.format = format, .heads = 4, .key_heads = 4, .tokens = 65, .capacity = 65});
    out.push_back({.format = format, .width = 64, .past = 700, .tokens = 1, .capacity = 701});
    out.push_back({.format = format, .past = 700, .tokens = 3, .capacity = 20, .window = 18});
    out.push_back({.format = format, .tokens = 64, .cap = 2, .window = 7});
    out.push_back({.format = format,
                   .width = 72,
                   .past = 300,
                   .tokens = 70,
                   .capacity = 400,
                   .cap = 5,
                   .window = 200});
    out.push_back({.format = format, .heads = 1, .key_heads = 1, .width = 1, .tokens = 3});
  }
  return out;
}

TEST(Attention, IsItsFormulaOnEveryTarget) {
  for (const auto& c : cases()) {
    SCOPED_TRACE(fmt::format("{} width {} past {} tokens {} window {}", to_name(c.format), c.width,
                             c.past, c.tokens, c.window));
    const auto expected = output(c, naive::attend);
    on_every_target([&] { EXPECT_LT(relative_error(output(c, attend), expected), 1e-5); });
  }
}

TEST(Attention, IsBitwiseTheSameForEveryNumberOfThreads) {
  for (const auto& c : cases()) {
    const auto one = output(c, attend, 1);
    for (int run = 0; run < 5; ++run) ASSERT_EQ(output(c, attend, 2), one);
    ASSERT_EQ(output(c, attend, 3), one);
  }
}

TEST(Attention, OfAQueryDoesNotDependOnThoseBesideIt) {
  Case all{.past = 10, .tokens = 40}, last{.past = 49, .tokens = 1};
  // The same keys and values; the queries are numbered from the first, so compare by the formula.
  EXPECT_LT(relative_error(output(all, attend), output(all, naive::attend)), 1e-5);
  EXPECT_LT(relative_error(output(last, attend), output(last, naive::attend)), 1e-5);
}

TEST(Attention, EightBitsStayNearSinglePrecision) {
  Case c{.past = 40, .tokens = 9};
  const auto exact = output(c, attend);
  c.format = CacheFormat::q8;
  EXPECT_LT(relative_error(output(c, attend), exact), 0.02);
  c.format = CacheFormat::f16;
  EXPECT_LT(relative_error(output(c, attend), exact), 2e-3);
}

TEST(Attention, RefusesHeadsThatDoNotDivideAndPositionsThatAreGone) {
  EXPECT_THROW(output({.heads = 5, .key_heads = 2}, attend), Error);
  EXPECT_THROW(output({.past = 60, .tokens = 5, .capacity = 64}, attend), Error);
  EXPECT_THROW(output({.past = 700, .tokens = 4, .capacity = 20, .window = 18}, attend), Error);
}

TEST(Attention, OfNoTokensDoesNothing) { EXPECT_TRUE(output({.tokens = 0}, attend).empty()); }

}  // namespace
}  // namespace cajal
