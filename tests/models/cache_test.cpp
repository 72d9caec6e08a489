#include "tiny.h"

namespace cajal::lm {
namespace {

using namespace testing;

// Logits of ids given in pieces of these sizes, joined.
torch::Tensor in_pieces(Transformer& model, const torch::Tensor& ids,
                        const std::vector<int64_t>& sizes) {
  const torch::NoGradGuard no_grad;
  KeyValueCache cache(model->config, ids.size(0));
  Pass pass;
  pass.cache = &cache;
  std::vector<torch::Tensor> parts;
  int64_t begin = 0;
  for (const int64_t size : sizes) {
    parts.push_back(model->forward(ids.slice(1, begin, begin + size), pass));
    begin += size;
  }
  return torch::cat(parts, 1);
}

class Cache : public ::testing::TestWithParam<Json> {};

TEST_P(Cache, DecodingInPiecesEqualsOneFullPass) {
  auto model = tiny_model(GetParam());
  const auto ids = some_ids(2, 40);
  const torch::NoGradGuard no_grad;
  const auto whole = model->forward(ids);
  const std::vector<int64_t> one_by_one(30, 1);
  auto sizes = std::vector<int64_t>{10};
  sizes.insert(sizes.end(), one_by_one.begin(), one_by_one.end());
  EXPECT_LE(difference(in_pieces(model, ids, sizes), whole), 1e-5);
  EXPECT_LE(difference(in_pieces(model, ids, {3, 20, 1, 7, 9}), whole), 1e-5);
  EXPECT_LE(difference(in_pieces(model, ids, std::vector<int64_t>(40, 1)), whole), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Families, Cache,
                         ::testing::Values(tiny_llama(), tiny_mistral(), tiny_gemma2(),
                                           tiny_gemma3(), tiny_gpt2(), tiny_opt(), tiny_gpt_neox(),
                                           tiny_phi3()),
                         [](const auto& info) {
                           return info.param.at("model_type").template get<std::string>();
                         });

TEST(CacheMemory, OfALayerWithAWindowStaysBounded) {
  Json json = tiny_mistral();
  json["max_position_embeddings"] = 4096;
  auto model = tiny_model(json);
  KeyValueCache cache(model->config);
  const torch::NoGradGuard no_grad;
  Pass pass;
  pass.cache = &cache;
  for (int64_t i = 0; i < 12; ++i) model->forward(some_ids(1, 100), pass);
  for (int64_t i = 0; i < 200; ++i) model->forward(some_ids(1, 1), pass);
  EXPECT_EQ(cache.tokens(), 1400);
  // 2 layers x keys and values x 2 heads x 8 values x 4 bytes x at most 64 tokens of room
  EXPECT_LE(cache.bytes(), 2 * 2 * 2 * 8 * 4 * 64);
}

TEST(CacheMemory, RefusesATokenBeyondTheContext) {
  auto model = tiny_model(tiny_llama());
  KeyValueCache cache(model->config);
  Pass pass;
  pass.cache = &cache;
  model->forward(some_ids(1, 60), pass);
  EXPECT_EQ(message([&] { model->forward(some_ids(1, 5), pass); }),
            "65 tokens are more than the context of 64 holds");
}

}  // namespace
}  // namespace cajal::lm
