#include "cajal/models/lm/checkpoint.h"

#include "cajal/models/lm/summary.h"
#include "tiny.h"

namespace cajal::lm {
namespace {

using namespace testing;

torch::Tensor input_for(const Transformer& model) {
  if (!model->config.vision()) return some_ids(2, 9);
  torch::manual_seed(3);
  return torch::randn({2, 3, model->config.image_size, model->config.image_size});
}

class Families : public ::testing::TestWithParam<Json> {};

TEST_P(Families, SurviveSavingAndLoading) {
  const torch::NoGradGuard no_grad;
  auto model = tiny_model(GetParam());
  Folder folder;
  save(model, folder.path(), Dtype::f32);
  auto again = load(folder.path());
  const auto input = input_for(model);
  EXPECT_LE(difference(model->forward(input), again->forward(input)), 1e-6);
}

TEST_P(Families, TrainEveryParameter) {
  auto model = initialise(tiny(GetParam()), 1, 0.2);
  model->forward(input_for(model)).square().sum().backward();
  ASSERT_FALSE(model->named_parameters().is_empty());
  for (const auto& parameter : model->named_parameters()) {
    const auto& gradient = parameter.value().grad();
    ASSERT_TRUE(gradient.defined()) << parameter.key();
    // A bias of the keys shifts all scores of a query alike: its gradient is zero but for rounding.
    if (parameter.key().find("attention.key.bias") != std::string::npos) continue;
    EXPECT_GT(gradient.abs().max().item<double>(), 0) << parameter.key();
  }
}

Json without(Json json, const char* key, const Json& value) {
  json[key] = value;
  return json;
}

INSTANTIATE_TEST_SUITE_P(
    Tiny, Families,
    ::testing::Values(tiny_llama(), tiny_gpt2(), tiny_opt(), tiny_gpt_neox(), tiny_gemma2(),
                      tiny_gemma3(), tiny_phi3(), tiny_bert(), tiny_vit(),
                      without(tiny_bert(), "architectures", {"BertForSequenceClassification"}),
                      without(tiny_bert(), "model_type", "roberta")),
    [](const auto& info) {
      return fmt::format("{}{}", info.param.at("model_type").template get<std::string>(),
                         info.index);
    });

TEST(MakeTrainable, KeepsTheFunctionAndSaves) {
  const torch::NoGradGuard no_grad;
  auto model = tiny_model(tiny_phi3());
  Folder folder;
  save(model, folder.path(), Dtype::bf16);
  auto loaded = load(folder.path());
  const auto ids = some_ids(1, 7);
  const auto before = loaded->forward(ids);
  make_trainable(loaded);
  EXPECT_LE(difference(loaded->forward(ids), before), 1e-5);
  EXPECT_EQ(loaded->parameters().size(), model->parameters().size());
  for (const auto& parameter : loaded->parameters()) EXPECT_TRUE(parameter.requires_grad());
}

TEST(MakeTrainable, TiedMatricesStayOneParameter) {
  auto model = initialise(tiny(tiny_gpt2()), 1);
  EXPECT_EQ(model->output.vocabulary.weight.stored().data_ptr(),
            model->embedding.tokens.stored().data_ptr());
  for (const auto& parameter : model->named_parameters())
    EXPECT_EQ(parameter.key().find("output.vocabulary"), std::string::npos);
}

TEST(Initialise, GivesTheSameWeightsForTheSameSeed) {
  auto a = initialise(tiny(tiny_llama()), 7), b = initialise(tiny(tiny_llama()), 7),
       c = initialise(tiny(tiny_llama()), 8);
  const auto& name = "blocks.0.ffn.key.weight";
  EXPECT_TRUE(a->named_parameters()[name].equal(b->named_parameters()[name]));
  EXPECT_FALSE(a->named_parameters()[name].equal(c->named_parameters()[name]));
}

// What loading says of a checkpoint whose tensors were changed.
std::string after(const Json& json, const std::function<void(NamedTensors&)>& change) {
  const torch::NoGradGuard no_grad;
  auto model = tiny_model(json);
  Folder folder;
  save(model, folder.path(), Dtype::f32);
  auto tensors = load_tensors(folder.path() / "model.safetensors");
  change(tensors);
  save_tensors(folder.path() / "model.safetensors", tensors);
  auto said = message([&] { load(folder.path()); });
  if (const auto at = said.find("model.safetensors"); at != std::string::npos)
    said = said.substr(at);
  return said;
}

constexpr const char* kUp = "model.layers.1.mlp.up_proj.weight";

TEST(Load, NamesAMissingTensorAndTheNearestThere) {
  EXPECT_EQ(after(tiny_llama(),
                  [](NamedTensors& t) {
                    t["model.layers.1.mlp.up_prj.weight"] = t[kUp];
                    t.erase(kUp);
                  }),
            "model.safetensors: tensor 'model.layers.1.mlp.up_proj.weight' is missing; did you "
            "mean 'model.layers.1.mlp.up_prj.weight'?");
}

TEST(Load, NamesAWrongShapeAndTheFieldsThatSaySo) {
  EXPECT_EQ(after(tiny_llama(),
                  [](NamedTensors& t) {
                    t[kUp] = torch::zeros({64, 30});
                  }),
            "model.safetensors: tensor 'model.layers.1.mlp.up_proj.weight' is [64, 30], expected "
            "[64, 32] (intermediate_size x hidden_size of config.json)");
}

TEST(Load, NamesATensorThatHasNoPlace) {
  EXPECT_EQ(
      after(tiny_llama(), [](NamedTensors& t) { t["model.layers.2.mlp.up_proj.weight"] = t[kUp]; }),
      "model.safetensors: tensor 'model.layers.2.mlp.up_proj.weight' has no place in this "
      "llama model of 2 layers");
}

TEST(Load, RefusesATensorOfIntegers) {
  EXPECT_EQ(after(tiny_llama(), [](NamedTensors& t) { t[kUp] = t[kUp].to(torch::kInt); }),
            "model.safetensors: tensor 'model.layers.1.mlp.up_proj.weight' is I32, expected a "
            "floating type");
}

TEST(Load, PassesOverKnownBuffersAndTiedCopies) {
  EXPECT_EQ(after(tiny_gpt2(),
                  [](NamedTensors& t) {
                    t["transformer.h.0.attn.bias"] = torch::ones({1, 1, 64, 64});
                    t["transformer.h.0.attn.masked_bias"] = torch::full({}, -1e4);
                    t["lm_head.weight"] = t["transformer.wte.weight"].clone();
                  }),
            "");
}

TEST(Load, TakesNamesWithoutThePrefix) {
  EXPECT_EQ(after(tiny_gpt2(),
                  [](NamedTensors& t) {
                    NamedTensors bare;
                    for (const auto& [name, value] : t) bare[name.substr(12)] = value;
                    t = bare;
                  }),
            "");
}

TEST(Load, TakesGammaAndBetaInBert) {
  EXPECT_EQ(after(tiny_bert(),
                  [](NamedTensors& t) {
                    const std::string norm = "bert.encoder.layer.0.output.LayerNorm.";
                    t[norm + "gamma"] = t[norm + "weight"], t.erase(norm + "weight");
                    t[norm + "beta"] = t[norm + "bias"], t.erase(norm + "bias");
                  }),
            "");
}

TEST(Load, TakesTimmNamesOfAVisionTransformer) {
  const torch::NoGradGuard no_grad;
  auto model = tiny_model(tiny_vit());
  Folder folder;
  save(model, folder.path(), Dtype::f32);
  NamedTensors timm;
  for (const auto& [name, value] : load_tensors(folder.path() / "model.safetensors")) {
    if (name.find(".attention.attention.") != std::string::npos) continue;
    auto to = name;
    for (const auto& [from, into] : std::vector<std::pair<std::string, std::string>>{
             {"vit.embeddings.patch_embeddings.projection", "patch_embed.proj"},
             {"vit.embeddings.position_embeddings", "pos_embed"},
             {"vit.embeddings.cls_token", "cls_token"},
             {"vit.encoder.layer.", "blocks."},
             {"vit.layernorm", "norm"},
             {"layernorm_before", "norm1"},
             {"layernorm_after", "norm2"},
             {"attention.output.dense", "attn.proj"},
             {"intermediate.dense", "mlp.fc1"},
             {"output.dense", "mlp.fc2"},
             {"classifier", "head"}})
      if (const auto at = to.find(from); at != std::string::npos) to.replace(at, from.size(), into);
    timm[to] = value;
  }
  for (int64_t layer = 0; layer < 2; ++layer) {
    const auto& a = model->blocks[static_cast<size_t>(layer)].attention;
    const auto at = fmt::format("blocks.{}.attn.qkv.", layer);
    timm[at + "weight"] =
        torch::cat({a.query.weight.stored(), a.key.weight.stored(), a.value.weight.stored()});
    timm[at + "bias"] = torch::cat({a.query.bias, a.key.bias, a.value.bias});
  }
  save_tensors(folder.path() / "model.safetensors", timm);
  auto again = load(folder.path());
  EXPECT_LE(difference(model->forward(input_for(model)), again->forward(input_for(model))), 1e-5);
}

TEST(Load, AnUntiedCopyOfATiedMatrixCounts) {
  const torch::NoGradGuard no_grad;
  auto model = tiny_model(tiny_gpt2());
  Folder folder;
  save(model, folder.path(), Dtype::f32);
  auto tensors = load_tensors(folder.path() / "model.safetensors");
  tensors["lm_head.weight"] = tensors["transformer.wte.weight"] * 2;
  save_tensors(folder.path() / "model.safetensors", tensors);
  auto again = load(folder.path());
  const auto ids = some_ids(1, 5);
  EXPECT_LE(difference(again->forward(ids), model->forward(ids) * 2), 1e-4);
}

TEST(Load, OfHalvesComputesInFp32) {
  const torch::NoGradGuard no_grad;
  auto model = tiny_model(tiny_llama());
  for (const auto dtype : {Dtype::f16, Dtype::bf16}) {
    Folder folder;
    save(model, folder.path(), dtype);
    auto half = load(folder.path());
    for (auto& parameter : model->parameters())
      parameter.copy_(parameter.to(to_torch(dtype)).to(torch::kFloat));
    const auto ids = some_ids(1, 12);
    EXPECT_LE(difference(half->forward(ids), model->forward(ids)), 2e-4);
    const auto few = some_ids(1, 2);
    EXPECT_LE(difference(half->forward(few), model->forward(few)), 2e-4);
  }
}

TEST(NotFinite, NamesTheTensor) {
  const torch::NoGradGuard no_grad;
  auto model = tiny_model(tiny_llama());
  Folder folder;
  save(model, folder.path(), Dtype::bf16);
  auto sound = load(folder.path());
  EXPECT_TRUE(not_finite(sound).empty());
  model->blocks[1].ffn.groups[0].key.stored()[3][5] = NAN;
  save(model, folder.path(), Dtype::bf16);
  auto broken = load(folder.path());
  EXPECT_EQ(not_finite(broken), std::vector<std::string>{kUp});
}

TEST(Summary, CountsTiedMatricesOnceAndTheShareOfTheFfn) {
  auto model = initialise(tiny(tiny_gpt2()), 1);
  const auto s = summarise(model);
  int64_t parameters = 0;
  for (const auto& parameter : model->parameters()) parameters += parameter.numel();
  EXPECT_EQ(s.parameters, parameters);
  EXPECT_EQ(s.ffn_parameters, 2 * (2 * 32 * 128 + 128 + 32));
  EXPECT_EQ(s.stored_bytes, 4 * parameters);
  EXPECT_EQ(s.bytes_per_token, 4 * (parameters - 63 * 32));  // one row of 64 positions
}

}  // namespace
}  // namespace cajal::lm
