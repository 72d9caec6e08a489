#include "cajal/core/safetensors.h"

#include <sys/resource.h>

#include <csignal>

#include "core/scratch.h"

namespace {

using cajal::Dtype;
using cajal::Json;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string file_of(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + data;
}

/// What the reader says of a file with that header and data; empty when it is content.
std::string verdict(const std::string& header, const std::string& data) {
  const auto file = file_of(header, data);
  return error_of([&] { cajal::read_safetensors(bytes_of(file), "f"); }, "f: ");
}
std::string verdict(const std::string& header) { return verdict(header, "12345678"); }

using Safetensors = Scratch;

TEST_F(Safetensors, HoldWhatWasWritten) {
  const float a[6] = {1, 2, 3, 4, 5, 6};
  const std::string b = "xyz";
  cajal::write_safetensors(in("m"),
                           {{"b", Dtype::i8, {3}, bytes_of(b)},
                            {"a", Dtype::f32, {2, 3}, std::as_bytes(std::span(a))},
                            {"none", Dtype::f64, {0, 7}, {}},
                            {"scalar", Dtype::u8, {}, bytes_of("s")}},
                           {{"format", "pt"}, {"né\"\n", "ü"}});
  const auto file = cajal::TensorFile::open(in("m"));
  EXPECT_EQ(file.metadata(), (Json{{"format", "pt"}, {"né\"\n", "ü"}}));
  EXPECT_EQ(file.tensors().size(), 4u);
  EXPECT_EQ(file.total_bytes(), 28);
  EXPECT_EQ(file.at("a").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(file.at("a").bytes.data(), a, sizeof a), 0);
  EXPECT_EQ(file.at("a").file->path(), in("m"));
  EXPECT_TRUE(std::ranges::equal(file.at("b").bytes, bytes_of(b)));
  EXPECT_TRUE(file.at("none").bytes.empty());
  EXPECT_TRUE(file.at("scalar").shape.empty());
}

TEST_F(Safetensors, AreWrittenWithEveryTensorAligned) {
  cajal::write_safetensors(in("m"), {{"odd", Dtype::i8, {3}, bytes_of("123")},
                                     {"half", Dtype::bf16, {1}, bytes_of("12")},
                                     {"wide", Dtype::f64, {1}, bytes_of("12345678")}});
  const auto file = cajal::TensorFile::open(in("m"));
  for (const auto& [name, tensor] : file.tensors()) EXPECT_TRUE(is_aligned(tensor)) << name;
  EXPECT_EQ((file.at("wide").bytes.data() - file.at("wide").file->bytes().data()) % 64, 0);
}

TEST_F(Safetensors, OfOthersMayBeUnaligned) {
  put("m", file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}} )", "1234"));
  const auto file = cajal::TensorFile::open(in("m"));
  EXPECT_EQ((8 + 55) % 4, 3);
  EXPECT_FALSE(is_aligned(file.at("a")));
}

TEST_F(Safetensors, NameTheTensorThatWasMeant) {
  cajal::write_safetensors(in("m"), {{"lm_head.weight", Dtype::u8, {1}, bytes_of("x")}});
  const auto file = cajal::TensorFile::open(in("m"));
  EXPECT_EQ(error_of([&] { file.at("lm_haed.weight"); }, in("m").string()),
            ": no tensor 'lm_haed.weight'; did you mean 'lm_head.weight'?");
}

TEST_F(Safetensors, RefuseToBeWrittenWrong) {
  const auto write = [&](std::vector<cajal::TensorToWrite> tensors, Json metadata) {
    return error_of([&] { cajal::write_safetensors(in("m"), tensors, metadata); },
                    in("m").string() + ": ");
  };
  const cajal::TensorToWrite a{"a", Dtype::f32, {2}, bytes_of("12345678")};
  const auto none = Json::object();
  EXPECT_EQ(write({{"a", Dtype::f32, {3}, a.bytes}}, none),
            "tensor 'a' has 8 bytes, F32 [3] takes 12");
  EXPECT_EQ(write({a, a}, none), "tensor 'a' is taken as a name already");
  EXPECT_EQ(write({{"__metadata__", Dtype::f32, {2}, a.bytes}}, none),
            "tensor '__metadata__' is taken as a name already");
  EXPECT_EQ(write({{"a", Dtype::f32, {-1}, a.bytes}}, none),
            "tensor 'a': shape [-1] has a negative size");
  EXPECT_EQ(write({{"\xff", Dtype::f32, {2}, a.bytes}}, none), "'\xff' is not valid UTF-8");
  EXPECT_EQ(write({a}, {{"epoch", 3}}), "__metadata__ 'epoch' is number, expected a string");
  EXPECT_EQ(entries(), 0u);
}

TEST_F(Safetensors, OnAFullDiskKeepTheOldFile) {
  const auto path = put("m", "old");
  const std::string data(100'000, 'x');
  std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit before {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  struct rlimit tight = before;
  tight.rlim_cur = 50'000;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
  const auto message = error_of([&] {
    cajal::write_safetensors(path, {{"a", Dtype::u8, {100'000}, bytes_of(data)}});
  });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(message, path.string() + ": cannot be written: File too large");
  EXPECT_EQ(cajal::read_file(path), "old");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(Safetensors, AreTakenWithPaddingAndEmptyTensors) {
  EXPECT_EQ(verdict(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}   )"), "");
  EXPECT_EQ(verdict(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},
                        "b":{"dtype":"U8","shape":[0],"data_offsets":[8,8]},
                        "c":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})"),
            "");
  EXPECT_EQ(verdict("{}", ""), "");
}

TEST_F(Safetensors, RefuseAHeaderThatIsNone) {
  const auto read = [](std::string_view file) {
    return error_of([&] { cajal::read_safetensors(bytes_of(file), "f"); }, "f: ");
  };
  EXPECT_EQ(read("1234567"), "7 bytes, too short for a safetensors file");
  EXPECT_NE(read("GGUF1234").find("not a safetensors file, or its header of"), std::string::npos);
  EXPECT_EQ(read(std::string_view("\x09\0\0\0\0\0\0\0{}", 10)),
            "cut off: the header ends at byte 17, the file at 10");
  EXPECT_EQ(verdict("[]"), "not a safetensors file: its header does not begin with '{'");
  EXPECT_NE(verdict("{\"a\"").find("header: not valid JSON at byte 5"), std::string::npos);
  EXPECT_EQ(verdict(R"({"a":[[[[1]]]]})"), "header: nested deeper than 3 levels");
  EXPECT_EQ(verdict(R"({"a":1,"a":1})"), "header: key 'a' appears twice");
}

TEST_F(Safetensors, RefuseEntriesThatAreWrong) {
  const auto entry = [](const char* text) { return verdict(fmt::format(R"({{"a":{}}})", text)); };
  EXPECT_EQ(entry("1"), "tensor 'a' is number, expected an object");
  EXPECT_EQ(entry(R"({"dtype":"F32","shape":[2]})"), "tensor 'a' has no 'data_offsets'");
  EXPECT_EQ(entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1})"),
            "tensor 'a' has fields besides dtype, shape and data_offsets");
  EXPECT_NE(entry(R"({"dtype":"Q4","shape":[2],"data_offsets":[0,8]})")
                .find("tensor 'a': dtype 'Q4' is not one of F64, F32"),
            std::string::npos);
  EXPECT_EQ(entry(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"),
            "tensor 'a': a size of shape is -2, expected an integer from 0 on");
  EXPECT_EQ(entry(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})"),
            "tensor 'a': a size of shape is 2.0, expected an integer from 0 on");
  EXPECT_EQ(entry(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]})"),
            "tensor 'a': shape [4294967296, 4294967296] is too large");
  EXPECT_EQ(entry(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})"),
            "tensor 'a': data_offsets [0, 8] hold 8 bytes, F32 [3] takes 12");
  EXPECT_EQ(entry(R"({"dtype":"F32","shape":[3],"data_offsets":[0,12]})"),
            "tensor 'a': data_offsets [0, 12] do not lie in the 8 bytes of data");
  EXPECT_EQ(entry(R"({"dtype":"F32","shape":[0],"data_offsets":[4,0]})"),
            "tensor 'a': data_offsets [4, 0] do not lie in the 8 bytes of data");
}

TEST_F(Safetensors, RefuseGapsOverlapsAndBytesLeftOver) {
  const auto two = [](int b, int c, int d) {
    return verdict(fmt::format(R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}},
                                    "b":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}}}})",
                               b, c, d));
  };
  EXPECT_EQ(two(4, 4, 8), "");
  EXPECT_EQ(two(5, 3, 8), "tensor 'b' begins at byte 3 of the data, inside another");
  EXPECT_EQ(two(3, 5, 8),
            "tensor 'b' begins at byte 5 of the data, 1 bytes before it belong to no tensor");
  EXPECT_EQ(two(3, 4, 7), "the tensors end at byte 7 of the data, the file at byte 8");
}

TEST_F(Safetensors, RefuseMetadataThatAreNoStrings) {
  EXPECT_EQ(verdict(R"({"__metadata__":{"a":1}})", ""),
            "__metadata__ 'a' is number, expected a string");
  EXPECT_EQ(verdict(R"({"__metadata__":[]})", ""), "__metadata__ is array, expected an object");
}

class Sharded : public Scratch {
 protected:
  Sharded() {
    cajal::write_safetensors(in("one"), {{"a", Dtype::u8, {1}, bytes_of("a")}}, {{"k", "v"}});
    cajal::write_safetensors(
        in("two"), {{"b", Dtype::u8, {1}, bytes_of("b")}, {"c", Dtype::u8, {1}, bytes_of("c")}});
  }
  std::string open(const char* weight_map) {
    put("model.safetensors.index.json", fmt::format(R"({{"weight_map":{}}})", weight_map));
    return error_of([&] { file_ = cajal::TensorFile::open(in("")); }, in("").string());
  }
  cajal::TensorFile file_;
};

TEST_F(Sharded, CheckpointsAreOne) {
  EXPECT_EQ(open(R"({"a":"one","b":"two","c":"two"})"), "");
  EXPECT_EQ(file_.tensors().size(), 3u);
  EXPECT_EQ(file_.at("c").bytes[0], std::byte{'c'});
  EXPECT_EQ(file_.at("c").file->path(), in("two"));
  EXPECT_EQ(file_.metadata(), (Json{{"k", "v"}}));
}

TEST_F(Sharded, CheckpointsHoldWhatTheirIndexSaysAndNothingElse) {
  EXPECT_EQ(open(R"({"a":"one","b":"two"})"),
            "two: tensor 'c' is not said by the index to be here");
  EXPECT_EQ(open(R"({"a":"one","b":"one","c":"two"})"),
            "one: no tensor 'b', which the index says is here");
  EXPECT_EQ(open(R"({"a":"three"})"), "three: cannot be opened: No such file or directory");
}

TEST_F(Sharded, CheckpointsStayInTheirFolder) {
  for (const char* name : {"../one", "/etc/passwd", "..", ".", "", "sub/one"})
    EXPECT_EQ(open(fmt::format(R"({{"a":"{}"}})", name).c_str()),
              fmt::format("model.safetensors.index.json: weight_map 'a' names the file '{}', which "
                          "is not one in its folder",
                          name));
  EXPECT_EQ(open(R"({"a":"model.safetensors.index.json"})"),
            "model.safetensors.index.json: an index, expected a file of tensors");
}

TEST_F(Sharded, CheckpointsWithoutAWeightMapAreRefused) {
  EXPECT_EQ(open("[]"), "model.safetensors.index.json: weight_map is not an object with tensors");
  EXPECT_EQ(open(R"({"a":1})"),
            "model.safetensors.index.json: weight_map 'a' is number, expected a file name");
}

using Checkpoint = Scratch;

TEST_F(Checkpoint, FoldersWithoutOneSayWhatWasLookedFor) {
  const auto folder = in("empty");
  std::filesystem::create_directory(folder);
  EXPECT_EQ(error_of([&] { cajal::TensorFile::open(folder); }, folder.string()),
            ": holds neither model.safetensors nor pytorch_model.bin, nor an index of one");
}

TEST_F(Checkpoint, PointersOfGitLfsAreTold) {
  const auto path = put("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid 1\n");
  EXPECT_EQ(error_of([&] { cajal::TensorFile::open(path); }, path.string()),
            ": a Git LFS pointer, not the file itself; fetch it with 'git lfs pull'");
}

TEST_F(Checkpoint, OfTheReferenceAnswersOpenWhole) {
  const char* golden = std::getenv("CAJAL_GOLDEN");
  if (!golden) GTEST_SKIP() << "CAJAL_GOLDEN is not set: no reference checkpoints";
  for (const char* family : {"bert", "gpt2", "llama", "opt"}) {
    const auto folder = std::filesystem::path(golden) / "checkpoints" / family;
    if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is absent";
    const auto file = cajal::TensorFile::open(folder);
    EXPECT_EQ(file.metadata().at("format"), "pt");
    EXPECT_GT(file.total_bytes(), 300'000);
  }
}

}  // namespace
