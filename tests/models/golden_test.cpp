#include "reference.h"

namespace cajal::lm {
namespace {

// The first layer of checkpoints that transformers wrote, with the rows of the vocabulary that the
// ids use, and the hidden states that it computed.
class Golden : public ::testing::TestWithParam<const char*> {};

TEST_P(Golden, FirstLayerEqualsThatOfTransformers) {
  const torch::NoGradGuard no_grad;
  const auto folder = std::filesystem::path(CAJAL_TEST_GOLDEN) / "models" / GetParam();
  auto model = load(folder);
  const auto reference = load_tensors(folder / "reference.safetensors");
  Hooks hooks;
  int compared = 0;
  hooks.add("*", [&](std::string_view name, const torch::Tensor& value) {
    if (const auto it = reference.find(name); it != reference.end()) {
      EXPECT_LE(testing::largest_difference(value, it->second), 1e-5) << name;
      ++compared;
    }
    return torch::Tensor();
  });
  Pass pass;
  pass.hooks = &hooks;
  model->forward(reference.at("input_ids"), pass);
  EXPECT_EQ(compared, 2);
}

INSTANTIATE_TEST_SUITE_P(Families, Golden, ::testing::Values("gpt_neox", "bert"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace cajal::lm
