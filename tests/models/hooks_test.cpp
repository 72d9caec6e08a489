#include "cajal/models/lm/hooks.h"

#include <set>

#include "tiny.h"

namespace cajal::lm {
namespace {

using namespace testing;

std::map<std::string, std::vector<int64_t>> visited(Transformer& model, const torch::Tensor& input,
                                                    const std::string& pattern = "*") {
  std::map<std::string, std::vector<int64_t>> shapes;
  Hooks hooks;
  hooks.add(pattern, [&](std::string_view name, const torch::Tensor& value) {
    shapes[std::string(name)] = value.sizes().vec();
    return torch::Tensor();
  });
  Pass pass;
  pass.hooks = &hooks;
  const torch::NoGradGuard no_grad;
  model->forward(input, pass);
  return shapes;
}

TEST(HookNames, ExpandAsTransformerLensDoes) {
  EXPECT_EQ(full_hook_name("post5"), "blocks.5.mlp.hook_post");
  EXPECT_EQ(full_hook_name("pattern3"), "blocks.3.attn.hook_pattern");
  EXPECT_EQ(full_hook_name("scale4ln1"), "blocks.4.ln1.hook_scale");
  EXPECT_EQ(full_hook_name("k6"), "blocks.6.attn.hook_k");
  EXPECT_EQ(full_hook_name("rot_q12"), "blocks.12.attn.hook_rot_q");
  EXPECT_EQ(full_hook_name("resid_pre0"), "blocks.0.hook_resid_pre");
  EXPECT_EQ(full_hook_name("pre_linear1"), "blocks.1.mlp.hook_pre_linear");
  EXPECT_EQ(full_hook_name("embed"), "hook_embed");
  EXPECT_EQ(full_hook_name("scale"), "ln_final.hook_scale");
  EXPECT_EQ(full_hook_name("blocks.*.hook_mlp_out"), "blocks.*.hook_mlp_out");
}

TEST(HookNames, MatchPatternsWithStars) {
  EXPECT_TRUE(matches("*", ""));
  EXPECT_TRUE(matches("blocks.*.mlp.hook_post", "blocks.11.mlp.hook_post"));
  EXPECT_FALSE(matches("blocks.*.mlp.hook_post", "blocks.1.mlp.hook_pre"));
  EXPECT_TRUE(matches("*hook*q", "blocks.0.attn.hook_rot_q"));
  EXPECT_FALSE(matches("hook_q", "hook_q2"));
}

TEST(Hooks, VisitEveryPointOfALlamaWithItsShape) {
  auto model = tiny_model(tiny_llama());
  const auto shapes = visited(model, some_ids(2, 5));
  using Shape = std::vector<int64_t>;
  const std::map<std::string, Shape> expected = {
      {"hook_embed", {2, 5, 32}},
      {"blocks.1.hook_resid_pre", {2, 5, 32}},
      {"blocks.1.hook_resid_mid", {2, 5, 32}},
      {"blocks.1.hook_resid_post", {2, 5, 32}},
      {"blocks.1.ln1.hook_scale", {2, 5, 1}},
      {"blocks.1.ln1.hook_normalized", {2, 5, 32}},
      {"blocks.1.ln2.hook_scale", {2, 5, 1}},
      {"blocks.1.attn.hook_q", {2, 5, 4, 8}},
      {"blocks.1.attn.hook_k", {2, 5, 2, 8}},
      {"blocks.1.attn.hook_v", {2, 5, 2, 8}},
      {"blocks.1.attn.hook_z", {2, 5, 4, 8}},
      {"blocks.1.attn.hook_rot_q", {2, 5, 4, 8}},
      {"blocks.1.attn.hook_rot_k", {2, 5, 2, 8}},
      {"blocks.1.attn.hook_attn_scores", {2, 4, 5, 5}},
      {"blocks.1.attn.hook_pattern", {2, 4, 5, 5}},
      {"blocks.1.attn.hook_result", {2, 5, 4, 32}},
      {"blocks.1.hook_attn_out", {2, 5, 32}},
      {"blocks.1.hook_mlp_in", {2, 5, 32}},
      {"blocks.1.hook_mlp_out", {2, 5, 32}},
      {"blocks.1.mlp.hook_pre", {2, 5, 64}},
      {"blocks.1.mlp.hook_pre_linear", {2, 5, 64}},
      {"blocks.1.mlp.hook_post", {2, 5, 64}},
      {"ln_final.hook_scale", {2, 5, 1}},
      {"ln_final.hook_normalized", {2, 5, 32}},
  };
  for (const auto& [name, shape] : expected) {
    ASSERT_TRUE(shapes.count(name)) << name;
    EXPECT_EQ(shapes.at(name), shape) << name;
  }
}

TEST(Hooks, ThatOnlyReadChangeNothing) {
  for (const auto& json : {tiny_llama(), tiny_gpt2(), tiny_opt(), tiny_gpt_neox(), tiny_gemma2(),
                           tiny_gemma3(), tiny_phi3(), tiny_bert()}) {
    auto model = tiny_model(json);
    const auto ids = some_ids(2, 12);
    const torch::NoGradGuard no_grad;
    Hooks hooks;
    hooks.add("*", [](auto, const auto&) { return torch::Tensor(); });
    Pass pass;
    pass.hooks = &hooks;
    EXPECT_LE(difference(model->forward(ids, pass), model->forward(ids)), 2e-5)
        << json.at("model_type");
  }
}

TEST(Hooks, ParallelBlocksHaveNoMiddleAndPostNormOnesNormTheirEnd) {
  auto neox = tiny_model(tiny_gpt_neox());
  EXPECT_FALSE(visited(neox, some_ids(1, 4)).count("blocks.0.hook_resid_mid"));
  auto bert = tiny_model(tiny_bert());
  const auto shapes = visited(bert, some_ids(1, 4));
  EXPECT_TRUE(shapes.count("hook_full_embed"));
  EXPECT_TRUE(shapes.count("blocks.0.hook_normalized_resid_post"));
}

TEST(Hooks, ReplaceAValue) {
  auto model = tiny_model(tiny_llama());
  const auto ids = some_ids(1, 6);
  const torch::NoGradGuard no_grad;
  Hooks hooks;
  Pass pass;
  pass.hooks = &hooks;
  // Without what the FFN and attention write, the stream is the embedding to the end.
  for (const char* point : {"blocks.*.hook_attn_out", "blocks.*.hook_mlp_out"})
    hooks.add(point, [](auto, const auto& value) { return torch::zeros_like(value); });
  torch::Tensor first, last;
  hooks.add("embed", [&](auto, const auto& v) { return first = v, torch::Tensor(); });
  hooks.add("resid_post1", [&](auto, const auto& v) { return last = v, torch::Tensor(); });
  model->forward(ids, pass);
  EXPECT_EQ(difference(first, last), 0);
}

TEST(Hooks, AblatingANeuronEqualsZeroingItsValueRow) {
  auto model = tiny_model(tiny_llama());
  const auto ids = some_ids(1, 6);
  const torch::NoGradGuard no_grad;
  Hooks hooks;
  hooks.add("post1", [](auto, const auto& value) {
    auto copy = value.clone();
    copy.select(-1, 3).zero_();
    return copy;
  });
  Pass pass;
  pass.hooks = &hooks;
  const auto ablated = model->forward(ids, pass);
  model->blocks[1].ffn.groups[0].value.stored().select(1, 3).zero_();
  EXPECT_LE(difference(model->forward(ids), ablated), 1e-5);
}

TEST(Hooks, AreGoneOnceRemoved) {
  auto model = tiny_model(tiny_gpt2());
  const auto ids = some_ids(1, 6);
  const torch::NoGradGuard no_grad;
  Hooks hooks;
  Pass pass;
  pass.hooks = &hooks;
  int calls = 0;
  const int handle = hooks.add("post0", [&](auto, const auto& v) { return ++calls, v * 0; });
  model->forward(ids, pass);
  hooks.remove(handle);
  EXPECT_TRUE(hooks.empty());
  EXPECT_EQ(difference(model->forward(ids, pass), model->forward(ids)), 0);
  EXPECT_EQ(calls, 1);
}

TEST(Hooks, StopThePassAtAPoint) {
  auto model = tiny_model(tiny_llama());
  Hooks hooks;
  std::set<std::string> seen;
  hooks.add("*", [&](std::string_view name, const auto&) {
    return seen.insert(std::string(name)), torch::Tensor();
  });
  hooks.stop_after("post0");
  Pass pass;
  pass.hooks = &hooks;
  const torch::NoGradGuard no_grad;
  EXPECT_EQ(model->forward(some_ids(1, 6), pass).sizes(), (std::vector<int64_t>{1, 6, 64}));
  EXPECT_FALSE(seen.count("blocks.0.hook_mlp_out"));
}

TEST(Hooks, SeePatternsThatAreCausalAndSumToOne) {
  auto model = tiny_model(tiny_mistral());
  torch::Tensor pattern, scores;
  Hooks hooks;
  hooks.add("pattern0", [&](auto, const auto& v) { return pattern = v, torch::Tensor(); });
  hooks.add("attn_scores0", [&](auto, const auto& v) { return scores = v, torch::Tensor(); });
  Pass pass;
  pass.hooks = &hooks;
  const torch::NoGradGuard no_grad;
  model->forward(some_ids(1, 20), pass);
  EXPECT_LE((pattern.sum(-1) - 1).abs().max().item<double>(), 1e-5);
  EXPECT_EQ(pattern.triu(1).abs().max().item<double>(), 0);
  EXPECT_EQ(pattern.tril(-8).abs().max().item<double>(), 0);  // a window of 8 keys
  EXPECT_EQ(scores[0][0][0][1].item<float>(), -INFINITY);
}

TEST(StopAtLayer, ReturnsTheStreamBeforeIt) {
  auto model = tiny_model(tiny_llama());
  const auto ids = some_ids(1, 6);
  const torch::NoGradGuard no_grad;
  Pass pass;
  pass.stop_at_layer = 1;
  const auto stream = model->forward(ids, pass);
  EXPECT_LE(difference(stream, model->block(0, model->embed(ids))), 1e-6);
  const auto rest = model->unembed(model->block(1, stream));
  EXPECT_LE(difference(rest, model->forward(ids)), 1e-5);
}

TEST(LastTokenOnly, GivesTheLastRowOfTheLogits) {
  auto model = tiny_model(tiny_gemma2());
  const auto ids = some_ids(2, 9);
  const torch::NoGradGuard no_grad;
  Pass pass;
  pass.last_token_only = true;
  EXPECT_LE(difference(model->forward(ids, pass), model->forward(ids).slice(1, -1)), 1e-5);
}

}  // namespace
}  // namespace cajal::lm
