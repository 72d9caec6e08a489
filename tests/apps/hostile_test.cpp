#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstring>

#include "cajal/core/torch_tensors.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/text/bpe_trainer.h"
#include "core/scratch.h"

// The command as its users meet it: whatever is wrong with a file or an argument, it exits with 2
// and says so in one line, and nothing is left where the result would have been.
namespace {

using namespace cajal;
namespace fs = std::filesystem;

struct Outcome {
  int code = 0;
  std::string complaint;  // what it wrote to stderr
};

class Hostile : public Scratch {
 protected:
  // A small model with a tokenizer, whole and in good order.
  static void SetUpTestSuite() {
    auto pattern = (fs::temp_directory_path() / "cajal-good-XXXXXX").string();
    good_ = ::mkdtemp(pattern.data());
    auto model = lm::initialise(lm::config_from_json({{"model_type", "llama"},
                                                      {"hidden_size", 32},
                                                      {"intermediate_size", 64},
                                                      {"num_hidden_layers", 2},
                                                      {"num_attention_heads", 4},
                                                      {"num_key_value_heads", 2},
                                                      {"vocab_size", 300},
                                                      {"max_position_embeddings", 32},
                                                      {"tie_word_embeddings", true}},
                                                     "test"),
                                1);
    lm::save(model, good_, Dtype::f32);
    const text::BpeTrainerOptions options{.vocabulary = 300};
    text::BpeTrainer trainer(options);
    trainer.add("some words for a tokenizer, some more words for it");
    text::write_tokenizer(good_ / "made", trainer.train(), options);
    for (const auto& entry : fs::directory_iterator(good_ / "made"))
      fs::rename(entry.path(), good_ / entry.path().filename());
  }
  static void TearDownTestSuite() { fs::remove_all(good_); }

  Hostile() {
    fs::copy(good_, model(), fs::copy_options::recursive);
    put("text.txt", "Some words to read, and some more words to read after them.");
  }

  fs::path model() const { return in("model"); }
  fs::path weights() const { return model() / "model.safetensors"; }
  fs::path out() const { return in("out"); }

  // Runs `cajal VERB...` with {model}, {text} and {out} filled in; `limit` bounds written files.
  Outcome run(std::string words, rlim_t limit = RLIM_INFINITY) const {
    for (const auto& [mark, path] :
         {std::pair{"{model}", model()}, {"{text}", in("text.txt")}, {"{out}", out()}})
      for (size_t at; (at = words.find(mark)) != std::string::npos;)
        words.replace(at, std::strlen(mark), path.string());
    const std::string line = fmt::format("exec '{}' {} >'{}' 2>'{}'", CAJAL_COMMAND, words,
                                         in("stdout").string(), in("stderr").string());
    const pid_t child = fork();
    if (child == 0) {
      const rlimit bound{limit, limit};
      setrlimit(RLIMIT_FSIZE, &bound);
      execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
      _exit(127);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(in("stderr"))};
  }

  // It is refused in one line that holds `word`, and leaves nothing at {out}.
  void expect_refused(const std::string& words, const std::string& word,
                      rlim_t limit = RLIM_INFINITY) const {
    const auto outcome = run(words, limit);
    EXPECT_EQ(outcome.code, 2) << words << "\n" << outcome.complaint;
    EXPECT_TRUE(outcome.complaint.starts_with("cajal: ")) << words << "\n" << outcome.complaint;
    EXPECT_EQ(std::count(outcome.complaint.begin(), outcome.complaint.end(), '\n'), 1)
        << words << "\n"
        << outcome.complaint;
    EXPECT_NE(outcome.complaint.find(word), std::string::npos) << words << "\n"
                                                               << outcome.complaint;
    EXPECT_FALSE(fs::exists(out())) << words;
  }

  // Writes a safetensors file with this header over the model's weights.
  void put_header(const std::string& header, size_t data = 64) const {
    std::string file(8, '\0');
    const uint64_t length = header.size();
    std::memcpy(file.data(), &length, 8);
    write_file(weights(), file + header + std::string(data, '\0'));
  }
  void change(const char* file, const std::function<void(Json&)>& edit) const {
    Json json = read_json(model() / file);
    edit(json);
    write_json(model() / file, json);
  }

  static inline fs::path good_;
};

TEST_F(Hostile, TheModelItselfIsTaken) {
  EXPECT_EQ(run("model verify {model}").code, 0);
  EXPECT_EQ(run("eval {model} --text {text} --threads 1").code, 0);
}

TEST_F(Hostile, TruncatedWeights) {
  fs::resize_file(weights(), fs::file_size(weights()) / 2);
  expect_refused("model verify {model}", "model.safetensors");
  expect_refused("generate {model} --tokens 1,2", "model.safetensors");
  expect_refused("atlas build {model} --text {text} --output {out}", "model.safetensors");
}

TEST_F(Hostile, HeadersThatLie) {
  auto file = read_file(weights());
  const uint64_t absurd = uint64_t{1} << 60;
  std::memcpy(file.data(), &absurd, 8);
  write_file(weights(), file);
  expect_refused("model verify {model}", "header");
  put_header(R"({"a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]},)"
             R"("b":{"dtype":"F32","shape":[8],"data_offsets":[16,48]}})");
  expect_refused("model verify {model}", "inside another");
  put_header(R"({"a":{"dtype":"F99","shape":[8],"data_offsets":[0,32]}})");
  expect_refused("model verify {model}", "F99");
  put_header(std::string(100'000, '['));
  expect_refused("model verify {model}", "model.safetensors");
}

TEST_F(Hostile, TensorsThatDoNotFitTheConfig) {
  change("config.json", [](Json& json) { json["intermediate_size"] = 60; });
  expect_refused("logits {model} --tokens 1,2 --output {out}", "expected");
  change("config.json",
         [](Json& json) { json["intermediate_size"] = 64, json["num_hidden_layers"] = 3; });
  expect_refused("split {model} --plan all=q8_0 --text {text} --output {out}", "layers.2");
  change("config.json", [](Json& json) { json["num_hidden_layers"] = 1; });
  expect_refused("quantize {model} --format q8_0 --output {out}", "layers.1");
}

TEST_F(Hostile, ConfigsThatMakeNoSense) {
  write_file(model() / "config.json", std::string(200'000, '[') + std::string(200'000, ']'));
  expect_refused("model info {model}", "config.json");
  write_file(model() / "config.json", R"({"model_type": "wombat"})");
  expect_refused("model info {model}", "wombat");
}

TEST_F(Hostile, TokenizersThatMakeNoSense) {
  write_file(model() / "tokenizer.json", "{\"model\": {\"type\": \"BPE\", \"vocab\": ");
  expect_refused("tokenize {model} --text x", "tokenizer.json");
  expect_refused("eval {model} --text {text}", "tokenizer.json");
}

TEST_F(Hostile, ForbiddenPickles) {
  fs::remove(weights());
  // A stored pickle that would run a command: cos\nsystem\n(S'true'\ntR.
  write_file(model() / "pytorch_model.bin", "cos\nsystem\n(S'touch " + out().string() + "'\ntR.");
  expect_refused("model verify {model}", "pytorch_model.bin");
}

TEST_F(Hostile, IdsAndPromptsOutOfRange) {
  expect_refused("generate {model} --tokens 1,300", "300");
  expect_refused("logits {model} --tokens -1 --output {out}", "-1");
  std::string many = "1";
  for (int i = 0; i < 40; ++i) many += ",1";
  expect_refused("generate {model} --tokens " + many, "32");
  expect_refused("tokenize {model} --decode 99999", "99999");
}

TEST_F(Hostile, TextsThatAreNone) {
  put("text.txt", "");
  expect_refused("eval {model} --text {text}", "text.txt");
  expect_refused("atlas build {model} --text {text} --output {out}", "text.txt");
  expect_refused("eval {model} --text {text}.absent", "text.txt.absent");
}

TEST_F(Hostile, SurgeryWithNothingToLearnFrom) {
  put("text.txt", "");
  expect_refused("moefy {model} --text {text} --output {out}", "text.txt");
  expect_refused("share {model} --networks 1 --text {text} --output {out}", "text.txt");
  expect_refused("split {model} --budget 30% --text {text} --output {out}", "text.txt");
}

TEST_F(Hostile, ExpertsAndSharesOutOfRange) {
  const std::string moefy = "moefy {model} --text {text} --output {out} ";
  expect_refused(moefy + "--experts 7", "7 experts do not divide 64 neurons");
  expect_refused(moefy + "--experts 4 --active 5", "5 active of 4 experts");
  expect_refused(moefy + "--ratio 0", "ratio is 0, expected above 0 and at most 1");
  expect_refused(moefy + "--ratio 1.5", "ratio is 1.5, expected above 0 and at most 1");
  expect_refused(moefy + "--split kmean", "--split");
  expect_refused(moefy + "--router none", "--router");
  expect_refused("share {model} --networks 3 --text {text} --output {out}", "3 networks");
  expect_refused("share {model} --plan own,shared --output {out}", "shared");
  const std::string split =
      "split {model} --plan heavy=q8_0,rest=q4_0 --text {text} --output {out} ";
  expect_refused(split + "--ratio 2", "ratio");
  expect_refused(split + "--ratio nan", "ratio");
}

TEST_F(Hostile, NumbersThatAreNone) {
  auto tensors = load_tensors(weights());
  tensors.at("model.layers.1.mlp.gate_proj.weight")[5][3] = NAN;
  save_tensors(weights(), tensors);
  expect_refused("moefy {model} --text {text} --output {out}", "layer 1 are not finite");
  expect_refused("share {model} --networks 1 --text {text} --output {out}", "finite");
  expect_refused("split {model} --budget 30% --text {text} --output {out}", "finite");
}

TEST_F(Hostile, RoutersThatDoNotFit) {
  ASSERT_EQ(run("moefy {model} --text {text} --experts 4 --output " + in("cut").string()).code, 0);
  fs::remove_all(model());
  fs::rename(in("cut"), model());
  EXPECT_EQ(run("generate {model} --tokens 1,2 --max-tokens 4").code, 0);
  EXPECT_EQ(run("eval {model} --text {text} --threads 1").code, 0);
  const auto experts = [&](const char* key, const Json& value) {
    change("config.json", [&](Json& json) { json["cajal"]["experts"][key] = value; });
  };
  const std::string verb = "generate {model} --tokens 1,2";
  experts("active", {1, 5});
  expect_refused(verb, "active[1] is 5, expected 1 to 4");
  experts("active", {1, 1});
  experts("count", 5);
  expect_refused(verb, "count is 5, expected a divisor of 64");
  experts("count", 8);
  expect_refused(verb, "expected F32, F16 or BF16 [8, 32]");
  experts("count", 4);
  expect_refused("moefy {model} --text {text} --output {out}", "cut into experts already");
  expect_refused("quantize {model} --output {out}/x.gguf", "experts");
  fs::resize_file(model() / "routers.safetensors", 100);
  expect_refused("generate {model} --tokens 1,2", "routers.safetensors");
  fs::remove(model() / "routers.safetensors");
  expect_refused("eval {model} --text {text}", "routers.safetensors: missing");
}

TEST_F(Hostile, ADiskThatIsFull) {
  expect_refused("quantize {model} --format q8_0 --output {out}", "out", 4096);
  expect_refused("logits {model} --tokens 1,2 --output {out}", "out", 1024);
}

TEST_F(Hostile, WhatMayNotBeReadOrWritten) {
  if (geteuid() == 0) GTEST_SKIP() << "permissions do not bind the superuser";
  fs::permissions(weights(), fs::perms::none);
  expect_refused("model verify {model}", "model.safetensors");
}

TEST_F(Hostile, ConfigsOfTrainingThatMakeNoSense) {
  put("train.json", R"({"modle": {}})");
  expect_refused("train " + in("train.json").string() + " --output {out}", "modle");
  put("train.json", R"({"model": {"model_type": "llama"}, "trainer": {"steps": -3}})");
  expect_refused("train " + in("train.json").string() + " --output {out}", "steps");
}

}  // namespace
