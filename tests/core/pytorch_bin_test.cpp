#include "cajal/core/pytorch_bin.h"

#include "core/scratch.h"
#include "core/torch_archive.h"

namespace {

using namespace torch_archive;
using cajal::Dtype;

const std::string kSix =
    number(0.f) + number(1.f) + number(2.f) + number(3.f) + number(4.f) + number(5.f);

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}
std::vector<float> floats(const cajal::StoredTensor& tensor) {
  std::vector<float> out(tensor.bytes.size() / sizeof(float));
  std::memcpy(out.data(), tensor.bytes.data(), tensor.bytes.size());
  return out;
}

/// What the reader says of a file; empty when it is content.
std::string verdict(const std::string& file) {
  return error_of([&] { cajal::read_pytorch_bin(bytes_of(file), "f"); }, "f: ");
}
std::string verdict_of(const std::string& object) {
  return verdict(archive(object, {{"0", kSix}}));
}
std::string verdict_of(const Tensor& description) {
  return verdict_of(dict({{"w", tensor(description)}}));
}

TEST(PytorchBin, IsReadInBothItsForms) {
  const auto object =
      dict({{"w", tensor({})}, {"b", tensor({.shape = {2}, .strides = {1}, .offset = 4})}});
  for (const auto& file : {archive(object, {{"0", kSix}}), legacy(object, {{"0", kSix}}, 4)}) {
    const auto found = cajal::read_pytorch_bin(bytes_of(file), "f");
    ASSERT_EQ(found.tensors.size(), 2u);
    EXPECT_EQ(found.tensors.at("w").shape, (std::vector<int64_t>{2, 3}));
    EXPECT_EQ(floats(found.tensors.at("w")), (std::vector<float>{0, 1, 2, 3, 4, 5}));
    EXPECT_EQ(floats(found.tensors.at("b")), (std::vector<float>{4, 5}));
    EXPECT_TRUE(found.copies.empty());
    EXPECT_TRUE(found.metadata.empty());
  }
}

TEST(PytorchBin, CopiesTransposedTensorsRowMajorAndTiedOnesOnce) {
  const Tensor turned{.shape = {3, 2}, .strides = {1, 3}};
  const auto file = archive(dict({{"w", tensor(turned)}, {"tied", tensor(turned)}}), {{"0", kSix}});
  const auto found = cajal::read_pytorch_bin(bytes_of(file), "f");
  EXPECT_EQ(floats(found.tensors.at("w")), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(found.tensors.at("w").bytes.data(), found.tensors.at("tied").bytes.data());
  EXPECT_EQ(found.copies.size(), 1u);
}

TEST(PytorchBin, CopiesTensorsWithGaps) {
  const auto file =
      archive(dict({{"w", tensor({.shape = {3, 1, 1}, .strides = {2, 9, 9}, .offset = 1})}}),
              {{"0", kSix}});
  const auto found = cajal::read_pytorch_bin(bytes_of(file), "f");
  EXPECT_EQ(floats(found.tensors.at("w")), (std::vector<float>{1, 3, 5}));
}

TEST(PytorchBin, TakesScalarsAndEmptyTensors) {
  const auto file = archive(dict({{"scalar", tensor({.shape = {}, .strides = {}, .offset = 2})},
                                  {"none", tensor({.shape = {0, 4}, .strides = {4, 1}})}}),
                            {{"0", kSix}});
  const auto found = cajal::read_pytorch_bin(bytes_of(file), "f");
  EXPECT_EQ(floats(found.tensors.at("scalar")), (std::vector<float>{2}));
  EXPECT_TRUE(found.tensors.at("none").bytes.empty());
}

TEST(PytorchBin, KnowsTheTypesOfStorages) {
  const std::pair<const char*, Dtype> types[] = {
      {"DoubleStorage", Dtype::f64},    {"HalfStorage", Dtype::f16},
      {"BFloat16Storage", Dtype::bf16}, {"LongStorage", Dtype::i64},
      {"CharStorage", Dtype::i8},       {"ByteStorage", Dtype::u8},
      {"BoolStorage", Dtype::boolean},  {"IntStorage", Dtype::i32}};
  for (const auto& [storage, dtype] : types) {
    const auto count = static_cast<int64_t>(kSix.size() / cajal::dtype_bytes(dtype));
    const Tensor described{.elements = count, .shape = {count}, .strides = {1}, .storage = storage};
    const auto file = archive(dict({{"w", tensor(described)}}), {{"0", kSix}});
    const auto found = cajal::read_pytorch_bin(bytes_of(file), "f");
    EXPECT_EQ(found.tensors.at("w").dtype, dtype) << storage;
  }
}

TEST(PytorchBin, TakesTheFormOfEightBitFloats) {
  const auto file =
      archive(dict({{"w", global("torch._utils", "_rebuild_tensor_v3") + "((" + text("storage") +
                              global("torch.storage", "UntypedStorage") + text("0") + text("cpu") +
                              integer(24) + "tQ" + integer(4) + tuple({20}) + tuple({1}) + "\x89" +
                              global("collections", "OrderedDict") + ")R" +
                              global("torch", "float8_e4m3fn") + "tR"}}),
              {{"0", kSix}});
  const auto found = cajal::read_pytorch_bin(bytes_of(file), "f");
  EXPECT_EQ(found.tensors.at("w").dtype, Dtype::f8_e4m3);
  EXPECT_EQ(found.tensors.at("w").bytes.size(), 20u);
}

TEST(PytorchBin, TakesParametersAndTheAttributesOfAStateDict) {
  const auto parameter =
      global("torch._utils", "_rebuild_parameter") + "(" + tensor({}) + "\x88}tR";
  const auto ordered = global("collections", "OrderedDict") + ")R(" + text("w") + parameter + "u}" +
                       text("_metadata") + "}sb";
  EXPECT_EQ(verdict_of(ordered), "");
}

TEST(PytorchBin, LooksOneLevelDownAndNamesWhatItLeavesOut) {
  const auto file = archive(dict({{"epoch", integer(3)},
                                  {"state_dict", dict({{"w", tensor({})}, {"step", "N"}})},
                                  {"optimizer", dict({{"state", "}"}})}}),
                            {{"0", kSix}});
  const auto found = cajal::read_pytorch_bin(bytes_of(file), "f");
  EXPECT_EQ(found.tensors.size(), 1u);
  EXPECT_EQ(found.metadata.at("ignored_entries"), "epoch, optimizer, step");
  const auto two = dict({{"w", tensor({})}});
  EXPECT_EQ(verdict_of(dict({{"model", two}, {"ema", two}})),
            "holds several dicts of tensors, 'ema' is not the only one");
  EXPECT_EQ(verdict_of(dict({{"a", "N"}})), "holds no tensors");
  EXPECT_EQ(verdict_of("]"), "holds no dict of tensors");
}

TEST(PytorchBin, RunsNothing) {
  const auto call = [](const char* module, const char* name) {
    return verdict_of(dict({{"w", global(module, name) + "(" + text("touch /tmp/x") + "tR"}}));
  };
  EXPECT_EQ(
      call("os", "system"),
      "m/data.pkl: byte 10: names the Python object 'os.system', which a file of tensors does "
      "not need; it is not loaded");
  for (const auto& [module, name] : {std::pair{"builtins", "eval"},
                                     {"torch", "load"},
                                     {"torch._utils", "_rebuild_tensor_v2.x"},
                                     {"posix", "system"},
                                     {"collections.OrderedDict", ""},
                                     {"", "torch.FloatStorage"}})
    EXPECT_NE(call(module, name).find("names the Python object"), std::string::npos) << module;
  const auto by_stack = text("os") + text("system") + "\x93(" + text("x") + "tR";
  EXPECT_NE(verdict_of(dict({{"w", by_stack}})).find("'os.system'"), std::string::npos);
  EXPECT_NE(verdict_of("(i").find("pickle opcode 0x69"), std::string::npos);
}

TEST(PytorchBin, RefusesTensorsOutsideTheirStorage) {
  EXPECT_EQ(verdict_of(Tensor{}), "");
  EXPECT_EQ(verdict_of(Tensor{.offset = 1}),
            "tensor 'w': shape [2, 3], strides [3, 1] and offset 1 reach past the 6 elements of "
            "storage '0'");
  EXPECT_NE(verdict_of(Tensor{.strides = {INT64_MAX, 1}}).find("reach past"), std::string::npos);
  EXPECT_NE(verdict_of(Tensor{.offset = INT64_MAX}).find("reach past"), std::string::npos);
  EXPECT_NE(verdict_of(Tensor{.shape = {INT64_MAX, 4}}).find("is too large"), std::string::npos);
  EXPECT_NE(verdict_of(Tensor{.shape = {-1, 4}}).find("an integer from 0 on"), std::string::npos);
  EXPECT_NE(verdict_of(Tensor{.strides = {-3, 1}}).find("an integer from 0 on"), std::string::npos);
  EXPECT_EQ(verdict_of(Tensor{.strides = {3}}), "tensor 'w': shape [2, 3] but strides [3]");
}

TEST(PytorchBin, RefusesTensorsThatGrowOutOfFewBytes) {
  EXPECT_EQ(verdict_of(Tensor{.shape = {1'000'000'000'000}, .strides = {0}}),
            "tensor 'w': shape [1000000000000] with strides [0] repeats elements of its storage, "
            "which is not read");
}

TEST(PytorchBin, RefusesStoragesOfAnotherSize) {
  EXPECT_EQ(verdict_of(Tensor{.elements = 7}),
            "storage '0' has 24 bytes, 7 elements of 4 are expected");
  EXPECT_EQ(verdict_of(Tensor{.key = "1"}), "storage '1' is missing");
  EXPECT_NE(
      verdict_of(Tensor{.storage = "ComplexFloatStorage"}).find("'torch.ComplexFloatStorage'"),
      std::string::npos);
}

TEST(PytorchBin, RefusesPicklesThatEndEarlyOrGoWrong) {
  const auto whole = std::string("\x80\x02") + dict({{"w", tensor({})}});
  for (size_t size = 0; size <= whole.size(); ++size) {
    const auto file = zip({{"m/data.pkl", whole.substr(0, size)}, {"m/data/0", kSix}});
    EXPECT_NE(verdict(file), "") << size;
  }
  EXPECT_NE(verdict_of("u").find("closes what it did not open"), std::string::npos);
  EXPECT_NE(verdict_of("}0").find("pickle opcode 0x30"), std::string::npos);
  EXPECT_NE(verdict_of("h\5").find("recalls a value that it did not keep"), std::string::npos);
  EXPECT_NE(verdict_of("}(" + text("w") + "u").find("a key of a dict has no value"),
            std::string::npos);
  EXPECT_NE(verdict_of(std::string(1000, '(')).find("nested too deeply"), std::string::npos);
  EXPECT_NE(verdict_of(std::string(5'000'000, 'N')).find("holds too many values"),
            std::string::npos);
}

TEST(PytorchBin, DoesNotFollowContainersThatHoldThemselves) {
  EXPECT_EQ(verdict_of("}q\1" + text("a") + "h\1s"), "holds no tensors");
}

TEST(PytorchBin, RefusesOtherArchives) {
  EXPECT_EQ(verdict(zip({{"readme", "x"}})),
            "no entry 'data.pkl', so not a file that torch.save wrote");
  EXPECT_EQ(verdict(zip({{"a/data.pkl", "x"}, {"b/data.pkl", "x"}})),
            "entries 'a/data.pkl' and 'b/data.pkl', one expected");
  EXPECT_EQ(verdict(zip({{"m/data.pkl", "x"}, {"m/byteorder", "big"}})),
            "byteorder is 'big', only little is read");
  EXPECT_EQ(verdict(pickle("}")), "a pickle, but not of torch.save");
}

TEST(PytorchBin, RefusesLegacyFilesCutOffOrWithMore) {
  const auto object = dict({{"w", tensor({})}});
  const auto whole = legacy(object, {{"0", kSix}}, 4);
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_NE(verdict(whole.substr(0, size)), "") << size;
  EXPECT_EQ(verdict(whole + "x"), "1 bytes behind the last storage");
  EXPECT_EQ(verdict(legacy(object, {{"0", kSix}, {"1", kSix}}, 4)), "no tensor is in storage '1'");
  EXPECT_EQ(verdict(legacy(object, {}, 4)), "storage '0' is missing");
}

using PytorchFile = Scratch;

TEST_F(PytorchFile, OpensByContentUnderAnyName) {
  put("weights", archive(dict({{"w", tensor({})}}), {{"0", kSix}}));
  const auto file = cajal::TensorFile::open(in("weights"));
  EXPECT_EQ(floats(file.at("w")), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(file.at("w").file->path(), in("weights"));
}

TEST_F(PytorchFile, MayBeOneOfSeveral) {
  put("one.bin", archive(dict({{"a", tensor({})}}), {{"0", kSix}}));
  put("two.bin",
      legacy(dict({{"b", tensor({.shape = {3, 2}, .strides = {1, 3}})}}), {{"0", kSix}}, 4));
  put("pytorch_model.bin.index.json", R"({"weight_map":{"a":"one.bin","b":"two.bin"}})");
  const auto file = cajal::TensorFile::open(in(""));
  EXPECT_EQ(floats(file.at("b")), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(file.total_bytes(), 48);
}

}  // namespace
