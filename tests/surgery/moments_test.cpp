#include "cajal/surgery/moments.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"
#include "cajal/surgery/split.h"
#include "cajal/surgery/synthetic.h"

namespace cajal::surgery {
namespace {

// Inputs of 16 features, a few of which are much larger than the others.
struct Case {
  Case() {
    torch::manual_seed(1);
    matrix = torch::randn({24, 16});
    x = torch::randn({400, 16}) * torch::logspace(0, -2, 16);
    moment = x.t().mm(x) / 400;
  }
  double error(const Factors& f) const {  // of outputs
    return x.mm((matrix - f.left.mm(f.right)).t()).square().sum().item<double>();
  }
  torch::Tensor matrix, x, moment;
};

TEST(LowRank, WeightedLosesLessOfTheOutputsThanPlain) {
  const Case c;
  for (const int64_t rank : {1, 4, 8})
    EXPECT_LT(c.error(low_rank(c.matrix, rank, c.moment)), 0.7 * c.error(low_rank(c.matrix, rank)))
        << rank;
}

TEST(LowRank, OfFullRankIsTheMatrix) {
  const Case c;
  for (const auto& moment : {torch::Tensor(), c.moment}) {
    const auto f = low_rank(c.matrix, 16, moment);
    EXPECT_LT((f.left.mm(f.right) - c.matrix).abs().max().item<double>(), 1e-3);
  }
}

TEST(LowRank, PlainIsTheWeightedOneOfWhiteInputs) {
  const Case c;
  const auto plain = low_rank(c.matrix, 4), white = low_rank(c.matrix, 4, torch::eye(16));
  EXPECT_LT((plain.left.mm(plain.right) - white.left.mm(white.right)).abs().max().item<double>(),
            1e-3);
}

TEST(LowRank, RefusesAMomentOfOtherInputs) {
  const Case c;
  EXPECT_THROW(low_rank(c.matrix, 4, torch::eye(15)), Error);
  EXPECT_THROW(low_rank(c.matrix, 17), Error);
}

TEST(LowRank, AWeightedSplitErrsLessThanAPlainOne) {
  auto s = synthetic_ffn(Activation::relu, false, 64, 256, 1, 512, 1);
  s.inputs = s.inputs * torch::logspace(0, -1, 64);
  const auto& group = s.ffn.groups[0];
  const auto a = torch::relu(group.key.apply(s.inputs) + group.key_bias);
  const auto of = [](const torch::Tensor& t) { return t.t().mm(t) / t.size(0); };
  const Moments moments{of(s.inputs), of(a)};
  atlas::Census census;
  census.layers = {s.census};
  const auto error = [&](const char* words) {
    const auto plan = make_plan(words, census);
    return output_error(s, split(s.ffn, plan.layers[0], s.census, moments)).mean_square;
  };
  EXPECT_LT(error("heavy=f16,rest=asvd:0.25"), 0.9 * error("heavy=f16,rest=svd:0.25"));
}

TEST(LowRank, WeightedNeedsAText) {
  const auto s = synthetic_ffn(Activation::relu, false, 64, 256, 1, 64, 1);
  atlas::Census census;
  census.layers = {s.census};
  EXPECT_THROW(split(s.ffn, make_plan("all=asvd:0.25", census).layers[0], s.census), Error);
}

}  // namespace
}  // namespace cajal::surgery
