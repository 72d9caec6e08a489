#include "cajal/core/torch_tensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "cajal/core/error.h"

namespace cajal {
namespace {

class TorchTensors : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder); }
  void TearDown() override { std::filesystem::remove_all(folder); }

  const std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) /
      ::testing::UnitTest::GetInstance()->current_test_info()->name();
  const std::filesystem::path file = folder / "t.safetensors";
};

TEST_F(TorchTensors, ComeBackAsTheyWereSaved) {
  const NamedTensors saved = {{"d", torch::randn({2, 3}, torch::kDouble)},
                              {"f", torch::randn({4})},
                              {"h", torch::randn({3}).to(torch::kHalf)},
                              {"b", torch::randn({3}).to(torch::kBFloat16)},
                              {"l", torch::arange(5)},
                              {"t", torch::tensor({true, false})},
                              {"u", torch::ones({2}, torch::kByte)},
                              {"none", torch::empty({0, 3})},
                              {"scalar", torch::tensor(2.5f)}};
  save_tensors(file, saved, {{"format", "pt"}});
  const auto loaded = load_tensors(file);
  ASSERT_EQ(loaded.size(), saved.size());
  for (const auto& [name, tensor] : saved) {
    EXPECT_EQ(loaded.at(name).scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(torch::equal(loaded.at(name), tensor)) << name;
  }
}

TEST_F(TorchTensors, AStridedTensorIsSavedInRowOrder) {
  const auto tensor = torch::arange(6).reshape({2, 3}).t();
  save_tensors(file, NamedTensors{{"t", tensor}});
  EXPECT_TRUE(torch::equal(load_tensors(file).at("t"), tensor));
}

TEST_F(TorchTensors, AViewKeepsTheMappedFileAlive) {
  save_tensors(file, NamedTensors{{"t", torch::arange(1000)}});
  torch::Tensor view;
  {
    const auto opened = std::make_shared<TensorFile>(TensorFile::open(file));
    const auto& stored = opened->at("t");
    view = to_torch(stored, opened);
    EXPECT_EQ(view.data_ptr(), static_cast<const void*>(stored.bytes.data()));
  }
  EXPECT_EQ(view.sum().item<int64_t>(), 499500);
}

TEST_F(TorchTensors, UnalignedBytesAreCopied) {
  alignas(8) std::byte bytes[9] = {};
  const float value = 1.5f;
  std::memcpy(bytes + 1, &value, sizeof value);
  const StoredTensor stored{Dtype::f32, {1}, std::span(bytes).subspan(1, 4), nullptr};
  const auto owner = std::make_shared<int>(0);
  const auto tensor = to_torch(stored, owner);
  EXPECT_EQ(owner.use_count(), 1);
  EXPECT_EQ(tensor[0].item<float>(), 1.5f);
}

TEST_F(TorchTensors, EightBitFloatsAreWidened) {
  const std::byte e4m3[] = {std::byte{0x38}, std::byte{0x7e}, std::byte{0x01}, std::byte{0xff}};
  const auto a = to_torch(StoredTensor{Dtype::f8_e4m3, {4}, e4m3, nullptr});
  EXPECT_EQ(a[0].item<float>(), 1.0f);
  EXPECT_EQ(a[1].item<float>(), 448.0f);
  EXPECT_EQ(a[2].item<float>(), std::ldexp(1.0f, -9));
  EXPECT_TRUE(std::isnan(a[3].item<float>()));
  const std::byte e5m2[] = {std::byte{0xbc}, std::byte{0x7b}, std::byte{0x7c}, std::byte{0x01}};
  const auto b = to_torch(StoredTensor{Dtype::f8_e5m2, {4}, e5m2, nullptr});
  EXPECT_EQ(b[0].item<float>(), -1.0f);
  EXPECT_EQ(b[1].item<float>(), 57344.0f);
  EXPECT_TRUE(std::isinf(b[2].item<float>()));
  EXPECT_EQ(b[3].item<float>(), std::ldexp(1.0f, -16));
}

TEST_F(TorchTensors, AComplexTensorIsRefusedByNameAndLeavesNoFile) {
  try {
    save_tensors(file, NamedTensors{{"spectrum", torch::ones({2}, torch::kComplexFloat)}});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("'spectrum'"), std::string::npos);
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder));
}

}  // namespace
}  // namespace cajal
