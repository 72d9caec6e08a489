// Models from GGUF files through surgery: what is written is again a model, with its tokenizer.
#include "cajal/core/gguf.h"

#include "cajal/atlas/measure.h"
#include "cajal/core/torch_tensors.h"
#include "cajal/engine/gguf_export.h"
#include "cajal/engine/random_model.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/surgery/split.h"
#include "cajal/surgery/write.h"
#include "core/scratch.h"

namespace cajal::surgery {
namespace {

using GgufSurgery = Scratch;

torch::Tensor logits(lm::Transformer& model) {
  const torch::NoGradGuard no_grad;
  return model->forward(torch::arange(20).unsqueeze(0));
}

TEST_F(GgufSurgery, AQuantisedFileSplitsIntoAFolderThatReadsBack) {
  const auto path = in("x.gguf");
  lm::write_gguf_model(lm::random_model(lm::shape_config("tiny"), Format::q8_0, 3), Format::q4_0,
                       path);
  auto model = lm::load(path);
  const auto census = atlas::blank(model);
  split(model, make_plan("random=q8_0,rest=q4_0", census), census);
  const auto expected = logits(model);
  write(model, path, in("folder"));
  auto back = lm::load(in("folder"));
  EXPECT_LT((logits(back) - expected).abs().max().item<double>(), 1e-5);
}

TEST_F(GgufSurgery, TheTokenizerGoesAlongAsAFileWithoutTensors) {
  const auto path = in("x.gguf");
  lm::write_gguf_model(lm::random_model(lm::shape_config("tiny"), Format::f32, 3), Format::f32,
                       in("plain.gguf"));
  const auto plain = Gguf::open(in("plain.gguf"));
  std::vector<std::pair<std::string, GgufSetting>> settings(plain.settings().begin(),
                                                            plain.settings().end());
  settings.emplace_back("tokenizer.ggml.model", std::string("gpt2"));
  settings.emplace_back("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"});
  std::vector<GgufTensorToWrite> tensors;
  for (const auto& [name, tensor] : plain.tensors())
    tensors.push_back({name, tensor.type, tensor.shape, [&t = tensor] {
                         return std::vector<std::byte>(t.bytes.begin(), t.bytes.end());
                       }});
  write_gguf(path, settings, tensors);
  auto model = lm::load(path);
  write(model, path, in("folder"));
  EXPECT_EQ(Gguf::open(in("folder") / "tokenizer.gguf").texts("tokenizer.ggml.tokens")[1], "b");
}

}  // namespace
}  // namespace cajal::surgery
