// GGUF files as models of libtorch's form; the engine's form is tested in tests/engine.
#include "cajal/engine/gguf_export.h"
#include "cajal/models/lm/generate.h"
#include "core/scratch.h"
#include "reference.h"

namespace cajal::lm {
namespace {

using namespace testing;
namespace fs = std::filesystem;

fs::path golden_gguf() {
  const char* root = std::getenv("CAJAL_GOLDEN");
  const auto folder = fs::path(root ? root : "") / "gguf";
  return fs::exists(folder) ? folder : fs::path();
}

torch::Tensor logits(const fs::path& path, const torch::Tensor& ids) {
  const torch::NoGradGuard no_grad;
  return load(path)->forward(ids);
}

TEST(Gguf, GivesTheLogitsOfItsDecodedWeights) {
  const auto folder = golden_gguf();
  if (folder.empty()) GTEST_SKIP() << "CAJAL_GOLDEN holds no GGUF files";
  for (const auto* type : {"F32", "F16", "Q8_0", "Q4_0"}) {
    const auto reference =
        load_tensors(folder / fmt::format("llama-{}.reference.safetensors", type));
    const auto ours =
        logits(folder / fmt::format("llama-{}.gguf", type), reference.at("input_ids"));
    EXPECT_LT(largest_difference(ours, reference.at("logits")), 1e-4) << type;
  }
}

TEST(Gguf, AgreesWithItsFolder) {
  const auto folder = golden_gguf();
  if (folder.empty()) GTEST_SKIP() << "CAJAL_GOLDEN holds no GGUF files";
  const auto ids = torch::arange(24).unsqueeze(0);
  EXPECT_LT(largest_difference(logits(folder / "llama-F32.gguf", ids), logits(folder / "hf", ids)),
            1e-5);
}

using GgufOf = Scratch;

TEST_F(GgufOf, Gpt2IsTheSameModelAndSavesAsAFolder) {
  const auto folder = golden_checkpoints();
  if (!folder) GTEST_SKIP() << "CAJAL_GOLDEN holds no checkpoints";
  const auto source = *folder / "gpt2";
  const auto ids = torch::arange(24).unsqueeze(0);
  write_gguf_model(open_checkpoint(source), Format::f32, in("x.gguf"));
  EXPECT_LT(largest_difference(logits(in("x.gguf"), ids), logits(source, ids)), 1e-5);
  auto model = load(in("x.gguf"));
  save(model, in("folder"), Dtype::f32);
  EXPECT_LT(largest_difference(logits(in("folder"), ids), logits(source, ids)), 1e-5);
}

}  // namespace
}  // namespace cajal::lm
