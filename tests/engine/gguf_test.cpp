#include "cajal/core/gguf.h"

#include "cajal/core/json.h"
#include "cajal/engine/checkpoint.h"
#include "cajal/engine/generate.h"
#include "cajal/engine/gguf_export.h"
#include "cajal/engine/random_model.h"
#include "core/scratch.h"
#include "engine/golden.h"

namespace cajal::lm {
namespace {

using namespace testing;

std::vector<float> decoded(const Checkpoint& model, const std::string& name) {
  const auto& stored = model.file->at(name);
  const auto it = model.layout.tensors.find(name);
  const auto format = it != model.layout.tensors.end() ? it->second : Format::f32;
  const auto values = std::ssize(stored.bytes) / block_bytes(format) * block_values(format);
  std::vector<float> out(static_cast<size_t>(values));
  decode_row(format, stored.bytes.data(), values, out.data());
  return out;
}

TEST(GgufModel, HasTheConfigAndTheTensorsOfItsFolder) {
  const auto folder = golden("gguf");
  CAJAL_NEED_GOLDEN(folder);
  const auto file = open_checkpoint(folder / "llama-F32.gguf"), hf = open_checkpoint(folder / "hf");
  EXPECT_EQ(file.config.width, hf.config.width);
  EXPECT_EQ(file.config.kv_heads, hf.config.kv_heads);
  EXPECT_EQ(file.config.context, hf.config.context);
  EXPECT_EQ(file.config.rope.inverse_frequency, hf.config.rope.inverse_frequency);
  EXPECT_EQ(file.config.end_ids, hf.config.end_ids);
  EXPECT_NEAR(file.config.epsilon, hf.config.epsilon, 1e-9);
  for (const auto& [name, stored] : hf.file->tensors())
    EXPECT_EQ(decoded(file, name), decoded(hf, name)) << name;
}

/// The golden file with one of its settings changed, or tensors taken out.
class Changed : public Scratch {
 protected:
  void SetUp() override {
    const auto folder = golden("gguf");
    CAJAL_NEED_GOLDEN(folder);
    source.emplace(Gguf::open(folder / "llama-Q8_0.gguf"));
    for (const auto& [key, value] : source->settings())
      if (!key.starts_with("tokenizer.")) settings.emplace_back(key, value);
  }

  void set(const std::string& key, GgufSetting value) {
    for (auto& [name, old] : settings)
      if (name == key) {
        old = std::move(value);
        return;
      }
    settings.emplace_back(key, std::move(value));
  }

  std::string said() {
    std::vector<GgufTensorToWrite> tensors;
    for (const auto& [name, tensor] : source->tensors())
      if (name != left_out)
        tensors.push_back({renamed.count(name) ? renamed[name] : name, tensor.type, tensor.shape,
                           [&t = tensor] { return std::vector(t.bytes.begin(), t.bytes.end()); }});
    const auto path = in("x.gguf");
    write_gguf(path, settings, tensors);
    return error_of([&] { engine::Network::open(path); }, path.string() + ": ");
  }

  std::optional<Gguf> source;
  std::vector<std::pair<std::string, GgufSetting>> settings;
  std::map<std::string, std::string> renamed;
  std::string left_out;
};

TEST_F(Changed, NothingIsSound) { EXPECT_EQ(said(), ""); }

TEST_F(Changed, AnUnknownArchitectureIsNamed) {
  set("general.architecture", std::string("mamba"));
  EXPECT_EQ(said(),
            "general.architecture: 'mamba' is not one of llama, qwen2, qwen3, gemma, gemma2, "
            "gemma3, phi3, gpt2, gptneox");
}

TEST_F(Changed, HeadsThatDoNotDivideAreRefused) {
  set("llama.attention.head_count", 3u);
  EXPECT_EQ(said(), "llama.attention.head_count of 3 do not divide a width of 128");
  set("llama.attention.head_count", 8u);
  set("llama.attention.head_count_kv", 3u);
  set("llama.rope.dimension_count", 16u);
  EXPECT_NE(said().find("8 attention heads cannot share 3"), std::string::npos);
  set("llama.attention.head_count", 0u);
  EXPECT_NE(said().find("is 0, expected 1 to"), std::string::npos);
}

TEST_F(Changed, AnEpsilonThatIsNoNumberIsRefused) {
  set("llama.attention.layer_norm_rms_epsilon", std::nanf(""));
  EXPECT_EQ(said(), "llama.attention.layer_norm_rms_epsilon is nan, expected a finite number");
  set("llama.attention.layer_norm_rms_epsilon", -1.0f);
  EXPECT_EQ(said(), "llama.attention.layer_norm_rms_epsilon is -1, expected more than 0");
}

TEST_F(Changed, SizesMustBeThoseOfTheTensors) {
  set("llama.feed_forward_length", 128u);
  EXPECT_NE(said().find("is [160, 136], expected [128, 136]"), std::string::npos);
  set("llama.feed_forward_length", 160u);
  set("llama.block_count", 4u);
  EXPECT_NE(said().find("'model.layers.3.input_layernorm.weight' is missing"), std::string::npos);
  set("llama.block_count", 2u);
  EXPECT_NE(said().find("has no place in this llama model of 2 layers"), std::string::npos);
  set("llama.block_count", 4'000'000'000u);
  EXPECT_NE(said().find("expected 1 to 4096"), std::string::npos);
}

TEST_F(Changed, ATensorThatIsMissingOrStrangeIsNamed) {
  left_out = "blk.1.ffn_up.weight";
  EXPECT_NE(said().find("'model.layers.1.mlp.up_proj.weight' is missing"), std::string::npos);
  left_out = "";
  renamed["blk.1.ffn_up.weight"] = "blk.1.ffn_sideways.weight";
  EXPECT_EQ(said(), "tensor 'blk.1.ffn_sideways.weight' has no place in a llama model");
  renamed["blk.1.ffn_up.weight"] = "blk.x.ffn_up.weight";
  EXPECT_EQ(said(), "tensor 'blk.x.ffn_up.weight' has no place in a llama model");
}

class Written : public Scratch, public ::testing::WithParamInterface<Format> {};

TEST_P(Written, ReadsBackAsWhatTheFormatKeeps) {
  const auto model = random_model(shape_config("tiny"), Format::f32, 1);
  write_gguf_model(model, GetParam(), in("x.gguf"));
  const auto back = open_checkpoint(in("x.gguf"));
  EXPECT_EQ(back.config.rope.inverse_frequency, model.config.rope.inverse_frequency);
  const auto name = "model.layers.1.self_attn.q_proj.weight";
  auto expected = decoded(model, name);
  std::vector<std::byte> row(static_cast<size_t>(row_bytes(GetParam(), 256)));
  for (size_t at = 0; at < expected.size(); at += 256) {
    encode_row(GetParam(), expected.data() + at, 256, row.data());
    decode_row(GetParam(), row.data(), 256, expected.data() + at);
  }
  const auto& stored = back.file->at(name);
  std::vector<float> kept(expected.size());
  decode_row(GetParam(), stored.bytes.data(), std::ssize(kept), kept.data());
  EXPECT_EQ(kept, expected);

  // Written again, nothing changes.
  write_gguf_model(back, GetParam(), in("y.gguf"));
  const auto again = open_checkpoint(in("y.gguf"));
  for (const auto& [tensor, bytes] : back.file->tensors())
    EXPECT_TRUE(std::ranges::equal(bytes.bytes, again.file->at(tensor).bytes)) << tensor;
}

INSTANTIATE_TEST_SUITE_P(Formats, Written,
                         ::testing::Values(Format::f32, Format::f16, Format::bf16, Format::q8_0,
                                           Format::q4_0, Format::q4_1, Format::q5_0, Format::q5_1,
                                           Format::q4_K, Format::q5_K, Format::q6_K),
                         [](const auto& info) { return to_name(info.param); });

using WrittenFile = Scratch;

TEST_F(WrittenFile, OfGoldenWeightsHasTheBytesOfTheReferenceFile) {
  const auto folder = golden("gguf");
  CAJAL_NEED_GOLDEN(folder);
  for (const auto* name : {"Q4_0", "Q8_0", "F16"}) {
    const auto path = in(fmt::format("{}.gguf", name));
    auto format = std::string(name);
    std::ranges::transform(format, format.begin(), ::tolower);
    write_gguf_model(open_checkpoint(folder / "hf"), from_name<Format>(format, ""), path);
    const auto ours = Gguf::open(path);
    const auto theirs = Gguf::open(folder / fmt::format("llama-{}.gguf", name));
    for (const auto& [tensor, value] : theirs.tensors()) {
      ASSERT_NE(ours.find_tensor(tensor), nullptr) << tensor;
      EXPECT_TRUE(std::ranges::equal(ours.find_tensor(tensor)->bytes, value.bytes)) << tensor;
    }
  }
}

TEST_F(WrittenFile, OfOtherFamiliesGivesTheSameLogits) {
  for (const auto* family : {"gpt2", "llama"}) {
    const auto folder = golden("checkpoints") / family;
    if (!std::filesystem::exists(folder)) GTEST_SKIP() << "CAJAL_GOLDEN holds no checkpoints";
    write_gguf_model(open_checkpoint(folder), Format::f32, in("x.gguf"));
    const auto ids = first_ids(TensorFile::open(folder / "reference.safetensors").at("input_ids"));
    ThreadPool pool(2);
    const auto logits = [&](const std::filesystem::path& path) {
      const auto network = engine::Network::open(path);
      engine::Cache cache(network.config(), 24, CacheFormat::f32);
      return network.forward(ids, 24, cache, pool);
    };
    EXPECT_LT(largest_distance(logits(in("x.gguf")), logits(folder)), 1e-5) << family;
  }
}

}  // namespace
}  // namespace cajal::lm
