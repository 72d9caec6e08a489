#include "reference.h"

#include <unistd.h>

#include "cajal/models/lm/generate.h"

namespace cajal::lm {
namespace {

namespace fs = std::filesystem;

// $CAJAL_GOLDEN/checkpoints: one folder a checkpoint, each with the answers of transformers.
class ReferenceCheckpoints : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto folder = testing::golden_checkpoints();
    if (!folder) GTEST_SKIP() << "$CAJAL_GOLDEN/checkpoints is absent";
    for (const auto& entry : fs::directory_iterator(*folder))
      if (fs::exists(entry.path() / "reference.safetensors")) checkpoints.push_back(entry.path());
    std::sort(checkpoints.begin(), checkpoints.end());
  }
  std::vector<fs::path> checkpoints;
};

TEST_F(ReferenceCheckpoints, GiveTheLogitsAndHiddenStatesOfTransformers) {
  for (const auto& folder : checkpoints) {
    SCOPED_TRACE(folder.filename().string());
    try {
      auto model = load(folder);
      const auto result = testing::compare(model, load_tensors(folder / "reference.safetensors"));
      const double bound = folder.filename().string().find("16") == std::string::npos ? 1e-4 : 2e-2;
      EXPECT_LE(result.worst, bound) << result.where;
      EXPECT_GE(result.compared, 2);
      if (std::getenv("CAJAL_VERBOSE"))
        fmt::print("{:24} {:9.2e} {}\n", folder.filename().string(), result.worst, result.where);
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
    }
  }
}

// greedy_ids: [1, prompt of 6 and its continuation]
TEST_F(ReferenceCheckpoints, ContinueGreedilyAsTransformersDoes) {
  for (const auto& folder : checkpoints) {
    SCOPED_TRACE(folder.filename().string());
    const auto reference = load_tensors(folder / "reference.safetensors");
    const auto it = reference.find("greedy_ids");
    if (it == reference.end()) continue;
    auto model = load(folder);
    model->config.end_ids.clear();
    const auto expected = it->second.to(torch::kInt).flatten().contiguous();
    const std::vector<int32_t> ids(expected.data_ptr<int32_t>(),
                                   expected.data_ptr<int32_t>() + expected.numel());
    EXPECT_EQ(generate(model, {ids.begin(), ids.begin() + 6}, expected.numel() - 6, {}), ids);
  }
}

TEST_F(ReferenceCheckpoints, AreSavedAsTheyWere) {
  const torch::NoGradGuard no_grad;
  const auto out = fs::temp_directory_path() / fmt::format("cajal_saved_{}", ::getpid());
  for (const auto& folder : checkpoints) {
    SCOPED_TRACE(folder.filename().string());
    auto model = load(folder);
    save(model, out, Dtype::f32);
    auto again = load(out);
    const auto reference = load_tensors(folder / "reference.safetensors");
    const auto& input = reference.at(model->config.vision() ? "pixel_values" : "input_ids");
    EXPECT_LE(testing::largest_difference(model->forward(input), again->forward(input)), 1e-5);
  }
  fs::remove_all(out);
}

}  // namespace
}  // namespace cajal::lm
