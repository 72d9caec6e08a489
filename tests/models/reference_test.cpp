#include "reference.h"

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

}  // namespace
}  // namespace cajal::lm
