#include "cajal/layers/mixers/sparse_attention.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cajal/core/error.h"
#include "gradcheck.h"

namespace cajal {
namespace {

constexpr int64_t kHeads = 3, kTokens = 24, kWidth = 8;

torch::Tensor heads(torch::Dtype type, int64_t rows = kTokens) {
  return torch::randn({kHeads, rows, kWidth}, type);
}

mixers::KeyLists some_lists(int64_t most) {
  torch::manual_seed(5);
  return mixers::lists_by_scores(torch::rand({kHeads, kTokens, kTokens}), kHeads, {},
                                 {.most = most});
}

// softmax(clamp(scale q kᵀ)) v with everything that is not listed masked.
torch::Tensor masked(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                     const mixers::KeyLists& lists, double scale, double clamp) {
  auto scores = torch::matmul(q, k.transpose(1, 2)) * scale;
  if (clamp > 0) scores = scores.clamp(-clamp, clamp);
  scores = scores.masked_fill(lists.dense(k.size(1)).logical_not(), -INFINITY);
  return torch::matmul(torch::softmax(scores, -1), v);
}

double difference(const torch::Tensor& a, const torch::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

TEST(KeyLists, RecallOfCodesCountsWhatTheExactSearchMightHaveTaken) {
  torch::manual_seed(6);
  const auto codes = [] { return torch::randint(4, {2, 16, 4}, torch::kByte); };
  const auto q = codes(), k = codes();
  const mixers::ListOptions o{.most = 4, .keep_self = false};
  const auto exact = mixers::lists_by_codes(q, k, {}, o, CodeOrder::exact);
  EXPECT_EQ(mixers::code_recall(q, k, exact, exact), 1);
  const auto first = mixers::lists_by_scores(-torch::arange(16).expand({1, 16, 16}), 2, {}, o);
  EXPECT_LT(mixers::code_recall(q, k, first, exact), 0.95);
  // Where all codes are equal, any keys are as good.
  const auto same = torch::zeros({2, 16, 4}, torch::kByte);
  EXPECT_EQ(mixers::code_recall(same, same, first,
                                mixers::lists_by_codes(same, same, {}, o, CodeOrder::exact)),
            1);
}

TEST(KeyLists, ThreeProductsMakeTheMaskedAttentionWithItsGradients) {
  const auto lists = some_lists(6);
  std::vector<torch::Tensor> inputs{heads(torch::kFloat), heads(torch::kFloat),
                                    heads(torch::kFloat)};
  for (auto& t : inputs) t.requires_grad_();
  const auto p =
      mixers::listed_softmax(mixers::listed_products(inputs[0], inputs[1], lists) * 0.4, lists);
  const auto y = mixers::listed_sum(p, inputs[2], lists);
  const auto expected = masked(inputs[0], inputs[1], inputs[2], lists, 0.4, 0);
  EXPECT_LT(difference(y, expected), 1e-5);
  const auto g = torch::randn_like(y);
  const auto ours = torch::autograd::grad({y}, inputs, {g});
  const auto theirs = torch::autograd::grad({expected}, inputs, {g});
  for (size_t i = 0; i < 3; ++i) EXPECT_LT(difference(ours[i], theirs[i]), 1e-5) << i;
}

TEST(KeyLists, TheOnePassAttentionEqualsTheMaskedOneWithItsGradients) {
  const auto lists = some_lists(6);
  std::vector<torch::Tensor> inputs{heads(torch::kFloat) * 3, heads(torch::kFloat) * 3,
                                    heads(torch::kFloat)};
  for (auto& t : inputs) t = t.detach().requires_grad_();
  const auto y = mixers::listed_attention(inputs[0], inputs[1], inputs[2], lists, 0.4, 2);
  const auto expected = masked(inputs[0], inputs[1], inputs[2], lists, 0.4, 2);
  EXPECT_LT(difference(y, expected), 1e-5);
  const auto g = torch::randn_like(y);
  const auto ours = torch::autograd::grad({y}, inputs, {g});
  const auto theirs = torch::autograd::grad({expected}, inputs, {g});
  for (size_t i = 0; i < 3; ++i) EXPECT_LT(difference(ours[i], theirs[i]), 1e-4) << i;
}

TEST(KeyLists, EveryProductHasTheGradientOfItsFunction) {
  const auto lists = some_lists(4);
  const auto q = heads(torch::kDouble), k = heads(torch::kDouble), v = heads(torch::kDouble);
  const auto p = torch::rand({kHeads, kTokens, 4}, torch::kDouble);
  const auto past = mixers::listed_softmax(p, lists).eq(0);
  EXPECT_LT(testing::gradient_error([&] { return mixers::listed_products(q, k, lists); }, {q, k}),
            1e-6);
  EXPECT_LT(testing::gradient_error([&] { return mixers::listed_sum(p, v, lists); }, {p, v}), 1e-6);
  EXPECT_LT(testing::gradient_error([&] { return mixers::listed_softmax(p, lists); }, {p}), 1e-6);
  EXPECT_LT(testing::gradient_error(
                [&] { return mixers::listed_attention(q, k, v, lists, 0.4, 1); }, {q, k, v}),
            1e-6);
}

TEST(KeyLists, AnEmptyListGivesZerosAndNoGradient) {
  auto lists = some_lists(4);
  lists.counts.zero_();
  auto q = heads(torch::kDouble).requires_grad_();
  const auto y =
      mixers::listed_attention(q, heads(torch::kDouble), heads(torch::kDouble), lists, 1, 10);
  y.sum().backward();
  EXPECT_EQ(y.abs().sum().item<double>(), 0);
  EXPECT_EQ(q.grad().abs().sum().item<double>(), 0);
}

SparseAttention layer(SparseAttentionOptions options) {
  torch::manual_seed(7);
  options.head_width = kWidth;
  options.code_width = 2;
  SparseAttention out(options);
  out->to(torch::kDouble);
  return out;
}

torch::Tensor four(int64_t tokens = kTokens) {
  return torch::randn({2, kHeads, tokens, kWidth}, torch::kDouble);
}

TEST(SparseAttention, WithEveryKeyItIsDenseAttention) {
  auto sparse = layer({.keys = kTokens, .clamp = 0});
  auto dense = layer({.search = KeySearch::all, .clamp = 0});
  const auto q = four(), k = four(), v = four();
  const auto hidden = torch::ones({kTokens, kTokens}, torch::kBool).triu(1);
  const auto scores = torch::matmul(q, k.transpose(2, 3)) / std::sqrt(8.0);
  const auto naive = torch::matmul(torch::softmax(scores.masked_fill(hidden, -INFINITY), -1), v);
  EXPECT_LT(difference(std::get<0>(sparse->forward(q, k, v)), naive), 1e-12);
  EXPECT_LT(difference(std::get<0>(dense->forward(q, k, v)), naive), 1e-12);
}

// The keys of one query by sorting (equal codes, place), both descending.
std::vector<int64_t> sorted_keys(const torch::Tensor& of_query, const torch::Tensor& of_keys,
                                 int64_t query, int64_t most, int64_t sink) {
  std::vector<std::array<int64_t, 2>> order;
  for (int64_t j = 0; j <= query; ++j) {
    const bool forced = j < sink || j == query;
    order.push_back({forced ? 1000 : of_keys[j].eq(of_query).sum().item<int64_t>(), j});
  }
  std::sort(order.rbegin(), order.rend());
  std::vector<int64_t> out;
  for (int64_t e = 0; e < std::min<int64_t>(most, std::ssize(order)); ++e)
    out.push_back(order[static_cast<size_t>(e)][1]);
  std::sort(out.begin(), out.end());
  return out;
}

TEST(SparseAttention, ListsTheKeysWithMostEqualCodesAndOfEqualOnesTheLater) {
  auto sparse = layer({.keys = 5, .sink = 1, .codewords = 3});
  const auto q = four(), k = four();
  const auto lists = sparse->search(q, k);
  const auto of_q = sparse->quantizer->codes(q.flatten(0, 1)),
             of_k = sparse->quantizer->codes(k.flatten(0, 1));
  for (int64_t h = 0; h < 2 * kHeads; ++h)
    for (int64_t i = 0; i < kTokens; ++i) {
      const auto expected = sorted_keys(of_q[h][i], of_k[h], i, 5, 1);
      ASSERT_EQ(lists.counts[h][i].item<int64_t>(), std::ssize(expected));
      for (size_t e = 0; e < expected.size(); ++e)
        EXPECT_EQ(lists.places[h][i][static_cast<int64_t>(e)].item<int64_t>(), expected[e])
            << h << " " << i;
    }
}

TEST(SparseAttention, QuartilesOfFourSpacesTakeTheSameCountsOfEqualCodes) {
  // With four sub-spaces a quartile is a count, but 3 and 4 are one: the order differs only there.
  auto exact = layer({.keys = 6}), quick = layer({.keys = 6, .search = KeySearch::quartiles});
  const auto q = four(), k = four();
  const auto a = exact->search(q, k).dense(kTokens), b = quick->search(q, k).dense(kTokens);
  const auto of_q = exact->quantizer->codes(q.flatten(0, 1)).unsqueeze(2),
             of_k = exact->quantizer->codes(k.flatten(0, 1)).unsqueeze(1);
  const auto equal = of_q.eq(of_k).sum(-1).clamp_max(3);
  EXPECT_TRUE((equal * a).sum(-1).equal((equal * b).sum(-1)));
}

TEST(SparseAttention, NeverReadsPaddingOrTheFuture) {
  auto sparse = layer({.keys = 4, .keep_diagonal = false});
  auto mask = torch::ones({2, kTokens});
  mask[0].slice(0, 0, 10).zero_();
  const auto q = four(), k = four();
  const auto seen = sparse->search(q, k, mask.to(torch::kByte)).dense(kTokens);
  EXPECT_EQ(seen.slice(0, 0, kHeads).slice(2, 0, 10).sum().item<int64_t>(), 0);
  EXPECT_EQ(seen.triu(1).sum().item<int64_t>(), 0);
  auto spoiled = four();
  const auto v = spoiled.clone();
  spoiled[0].slice(1, 0, 10).fill_(1e6);
  const auto a = std::get<0>(sparse->forward(q, k, v, mask));
  const auto b = std::get<0>(sparse->forward(q, k, spoiled, mask));
  EXPECT_TRUE(a.equal(b));
}

TEST(SparseAttention, StepByStepWithCachedCodesItGivesWhatTheWholePassGives) {
  auto sparse = layer({.keys = 5, .sink = 2});
  const auto q = four()[0], k = four()[0], v = four()[0];
  const auto whole =
      std::get<0>(sparse->forward(q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0)))[0];
  SparseKeyCache cache(sparse, kHeads, kTokens);
  for (int64_t t = 0; t < kTokens; ++t)
    EXPECT_LT(
        difference(cache.step(q.select(1, t), k.select(1, t), v.select(1, t)), whole.select(1, t)),
        1e-12)
        << t;
  EXPECT_EQ(cache.code_bytes(), 2);
  EXPECT_THROW(cache.step(q.select(1, 0), k.select(1, 0), v.select(1, 0)), Error);
}

TEST(SparseAttention, TheLastQueriesOfALongerCacheSeeWhatTheySawInTheWholePass) {
  auto sparse = layer({.keys = 5});
  const auto q = four(), k = four(), v = four();
  const auto whole = std::get<0>(sparse->forward(q, k, v));
  const auto last = std::get<0>(sparse->forward(q.slice(2, 20), k, v));
  EXPECT_LT(difference(last, whole.slice(2, 20)), 1e-12);
}

TEST(SparseAttention, WindowListsTheLastKeysAndTheSink) {
  auto sparse = layer({.keys = 4, .search = KeySearch::window, .sink = 1});
  const auto lists = sparse->search(four(), four());
  EXPECT_TRUE(
      lists.places[0][20].to(torch::kLong).equal(torch::tensor({0, 18, 19, 20}, torch::kLong)));
}

TEST(SparseAttention, RefusesOptionsThatDoNotFit) {
  EXPECT_THROW(layer({.keys = -1}), Error);
  EXPECT_THROW(layer({.keys = 2, .sink = 2}), Error);
  EXPECT_THROW(layer({.codewords = 0}), Error);
  EXPECT_THROW(layer({.codewords = 257}), Error);
  EXPECT_THROW(SparseAttention(SparseAttentionOptions{.head_width = 12}), Error);  // 8 a sub-space
  EXPECT_THROW(SparseAttention(SparseAttentionOptions{}), Error);
  auto sparse = layer({.keys = 4});
  EXPECT_THROW(sparse->forward(four(), four(20), four(20)), Error);  // more queries than keys
}

ProductQuantizer quantizer(bool stop = false) {
  torch::manual_seed(9);
  ProductQuantizer out(
      ProductQuantizerOptions{.width = 12, .codewords = 5, .code_width = 4, .stop_gradient = stop});
  out->to(torch::kDouble);
  return out;
}

// The reference's formula in libtorch's operations.
torch::Tensor reference_loss(const torch::Tensor& z, const torch::Tensor& books) {
  const auto parts = z.view({z.size(0), 3, 1, 4});
  const auto distance = (parts - books).abs().sum(-1);  // [rows, spaces, codewords]
  const auto p = torch::softmax(-distance.clamp_min(1e-5).log(), -1);
  const auto soft = (p.unsqueeze(-1) * books).sum(2);
  const auto one_hot = torch::one_hot(distance.argmin(-1), books.size(1)).to(z.scalar_type());
  const auto hard = (one_hot.unsqueeze(-1) * books).sum(2);
  return torch::mse_loss(soft, hard) + torch::mse_loss(z.view({z.size(0), 3, 4}), hard);
}

TEST(ProductQuantizer, ItsLossAndGradientsAreTheReferences) {
  auto pq = quantizer();
  auto z = torch::randn({3000, 12}, torch::kDouble).requires_grad_();
  const std::vector<torch::Tensor> inputs{z, pq->codebooks};
  const auto ours = pq->loss(z), theirs = reference_loss(z, pq->codebooks);
  EXPECT_NEAR(ours.item<double>(), theirs.item<double>(), 1e-12);
  const auto a = torch::autograd::grad({ours}, inputs), b = torch::autograd::grad({theirs}, inputs);
  EXPECT_LT(difference(a[0], b[0]), 1e-12);
  EXPECT_LT(difference(a[1], b[1]), 1e-12);
}

TEST(ProductQuantizer, TheLossLeavesZAloneWhenToldTo) {
  auto pq = quantizer(/*stop=*/true);
  auto z = torch::randn({30, 12}, torch::kDouble).requires_grad_();
  pq->loss(z).backward();
  EXPECT_FALSE(z.grad().defined() && z.grad().abs().sum().item<double>() > 0);
  EXPECT_GT(pq->codebooks.grad().abs().sum().item<double>(), 0);
}

TEST(ProductQuantizer, FittedCodebooksFindTheClustersOfTheirData) {
  auto pq = quantizer();
  torch::manual_seed(2);
  const auto centres = torch::randn({5, 12}, torch::kDouble) * 4;
  const auto z = centres.index_select(0, torch::randint(5, {500}, torch::kLong)) +
                 0.01 * torch::randn({500, 12}, torch::kDouble);
  const double before = pq->loss(z).item<double>();
  pq->fit(z, 5, 3);
  EXPECT_LT(pq->loss(z).item<double>(), 0.5 * before);
}

}  // namespace
}  // namespace cajal
