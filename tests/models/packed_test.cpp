#include "cajal/engine/names.h"
#include "cajal/engine/packed_layout.h"
#include "cajal/models/lm/summary.h"
#include "tiny.h"

namespace cajal::lm {
namespace {

using namespace testing;

torch::Tensor encoded(Format format, const torch::Tensor& rows) {
  const auto from = rows.contiguous();
  const auto bytes = row_bytes(format, from.size(1));
  auto out = torch::empty({from.size(0), bytes}, torch::kByte);
  for (int64_t r = 0; r < from.size(0); ++r)
    encode_row(format, from.data_ptr<float>() + r * from.size(1), from.size(1),
               out.data_ptr<uint8_t>() + r * bytes);
  return out;
}

torch::Tensor rounded(Format format, const torch::Tensor& rows) {
  return Matrix::packed(format, encoded(format, rows), rows.size(1), Major::output).decoded();
}

/// A split checkpoint beside the plain model that it must equal: neurons in another order, the
/// first group in q8_0 and the second in q4_0 (values q8_0 in both), the embedding in q8_0.
class Packed : public ::testing::Test {
 protected:
  void write(const Json& family, const char* embedding) {
    const torch::NoGradGuard no_grad;
    plain_ = tiny_model(family);
    auto& m = *plain_;
    const Config& c = m.config;
    save(plain_, folder_.path(), Dtype::f32);
    tensors_ = load_tensors(folder_.path() / "model.safetensors");
    const auto& map = name_maps(c.family)[0];
    PackedLayout layout;
    const auto order = torch::randperm(c.neurons, torch::kInt);
    for (int64_t layer = 0; layer < c.layers; ++layer)
      layout.split.push_back(split(m.blocks[static_cast<size_t>(layer)].ffn, c, order, map, layer));
    auto& table = m.embedding.tokens.stored();
    layout.tensors[embedding] = Format::q8_0;
    tensors_[embedding] = encoded(Format::q8_0, table);
    table.copy_(rounded(Format::q8_0, table));
    config_ = read_json(folder_.path() / "config.json");
    config_["cajal"] = packed_layout_to_json(layout);
    write_files();
  }

  void write_files() {
    write_json(folder_.path() / "config.json", config_);
    save_tensors(folder_.path() / "model.safetensors", tensors_);
  }

  std::vector<GroupLayout> split(FeedForward& ffn, const Config& c, const torch::Tensor& order,
                                 const NameMap& map, int64_t layer) {
    const auto path = fmt::format("blocks.{}.ffn.", layer);
    const auto module = ffn_module(map, map.prefixes[0], layer);
    auto& whole = ffn.groups[0];
    for (const char* name : {"key", "gate", "value", "gate_key"})
      tensors_.erase(stored_name(map, map.prefixes[0], path + name + ".weight"));
    for (const char* name : {"key", "gate"})
      tensors_.erase(stored_name(map, map.prefixes[0], path + name + ".bias"));
    tensors_[module + ".neuron_order"] = order;
    const std::vector<GroupLayout> groups = {
        {24, Format::q8_0, Format::q8_0, Format::q8_0},
        {c.neurons - 24, Format::q4_0, Format::q4_0, Format::q8_0}};
    int64_t begin = 0;
    for (size_t g = 0; g < groups.size(); ++g) {
      const auto rows = order.slice(0, begin, begin + groups[g].neurons).to(torch::kLong);
      begin += groups[g].neurons;
      const auto at = fmt::format("{}.groups.{}.", module, g);
      const auto put = [&](const char* name, Matrix& matrix, Format format, bool by_rows) {
        if (!matrix.defined()) return;
        const bool turn = by_rows != (matrix.major() == Major::output);
        auto all = turn ? matrix.stored().t() : matrix.stored();  // [neurons, width]
        tensors_[at + name] = encoded(format, all.index_select(0, rows));
        const auto values = rounded(format, all.index_select(0, rows));
        all.index_copy_(0, rows, values);  // the plain model rounds alike
      };
      put("key", whole.key, groups[g].key, true);
      put("gate", whole.gate, groups[g].gate, true);
      put("value", whole.value, groups[g].value, false);
      if (whole.key_bias.defined())
        tensors_[at + "key_bias"] = whole.key_bias.index_select(0, rows);
    }
    return groups;
  }

  Folder folder_;
  Transformer plain_{nullptr};
  NamedTensors tensors_;
  Json config_;
};

void expect_same(Transformer& a, Transformer& b) {
  const torch::NoGradGuard no_grad;
  for (const int64_t tokens : {20, 1}) {  // many rows, and few
    const auto ids = some_ids(1, tokens);
    EXPECT_LE(difference(a->forward(ids), b->forward(ids)), 1e-4) << tokens << " tokens";
  }
}

TEST_F(Packed, SplitLlamaEqualsItsDecodedWeights) {
  write(tiny_llama(), "model.embed_tokens.weight");
  auto loaded = load(folder_.path());
  EXPECT_EQ(loaded->blocks[0].ffn.groups.size(), 2u);
  EXPECT_TRUE(loaded->blocks[0].ffn.order.defined());
  expect_same(loaded, plain_);
}

TEST_F(Packed, SplitGpt2WithTiedEmbeddingEqualsItsDecodedWeights) {
  write(tiny_gpt2(), "transformer.wte.weight");
  auto loaded = load(folder_.path());
  EXPECT_EQ(loaded->output.vocabulary.weight.format(), Format::q8_0);
  expect_same(loaded, plain_);
}

TEST_F(Packed, SplitOptKeepsItsBiases) {
  Json json = tiny_opt();
  json["word_embed_proj_dim"] = 32;
  write(json, "model.decoder.embed_tokens.weight");
  auto loaded = load(folder_.path());
  expect_same(loaded, plain_);
}

TEST_F(Packed, HooksSeeTheNeuronsOfAllGroupsInStoredOrder) {
  write(tiny_llama(), "model.embed_tokens.weight");
  auto loaded = load(folder_.path());
  const torch::NoGradGuard no_grad;
  const auto ids = some_ids(1, 5);
  const auto post = [&](Transformer& model) {
    Hooks hooks;
    hooks.stop_after("post1");
    Pass pass;
    pass.hooks = &hooks;
    return model->forward(ids, pass);
  };
  const auto order = loaded->blocks[1].ffn.order.to(torch::kLong);
  EXPECT_LE(difference(post(loaded), post(plain_).index_select(-1, order)), 1e-4);
}

TEST_F(Packed, SavesAsAPlainCheckpoint) {
  write(tiny_llama(), "model.embed_tokens.weight");
  auto loaded = load(folder_.path());
  const auto out = folder_.path() / "plain";
  save(loaded, out, Dtype::f32);
  auto again = load(out);
  EXPECT_TRUE(again->layout.empty());
  expect_same(loaded, again);
  make_trainable(loaded);
  expect_same(loaded, again);
}

TEST_F(Packed, SummaryCountsStoredBytes) {
  write(tiny_llama(), "model.embed_tokens.weight");
  auto loaded = load(folder_.path());
  EXPECT_EQ(summarise(loaded).parameters, summarise(plain_).parameters);
  EXPECT_EQ(summarise(loaded).formats, (std::vector<std::string>{"f32", "q4_0", "q8_0"}));
  EXPECT_LT(summarise(loaded).stored_bytes, summarise(plain_).stored_bytes * 6 / 10);
}

TEST_F(Packed, RefusesGroupsThatDoNotAddUp) {
  write(tiny_llama(), "model.embed_tokens.weight");
  config_["cajal"]["split"][1]["groups"][0]["neurons"] = 25;
  write_files();
  EXPECT_NE(
      message([&] {
        load(folder_.path());
      }).find("cajal.split[1].groups[1].neurons is 40, expected 1 to 39 (neurons left of 64)"),
      std::string::npos);
}

TEST_F(Packed, RefusesRowsOfAnotherFormat) {
  write(tiny_llama(), "model.embed_tokens.weight");
  config_["cajal"]["split"][0]["groups"][0]["key"] = "q4_0";
  write_files();
  EXPECT_NE(message([&] { load(folder_.path()); })
                .find("tensor 'model.layers.0.mlp.groups.0.key' is [24, 34], expected [24, 18] "
                      "(neurons of the group x bytes of a row in q4_0 of config.json)"),
            std::string::npos);
}

TEST_F(Packed, RefusesAnOrderThatIsNoPermutation) {
  write(tiny_llama(), "model.embed_tokens.weight");
  tensors_["model.layers.0.mlp.neuron_order"][0] = tensors_["model.layers.0.mlp.neuron_order"][1];
  write_files();
  EXPECT_NE(message([&] { load(folder_.path()); }).find("is not a permutation of 0 to 63"),
            std::string::npos);
}

}  // namespace
}  // namespace cajal::lm
