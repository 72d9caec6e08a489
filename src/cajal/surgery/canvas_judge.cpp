#include "cajal/surgery/canvas_judge.h"

#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include "cajal/core/error.h"
#include "cajal/train/descent.h"

namespace cajal::surgery {
namespace {

using torch::Tensor;
namespace nn = torch::nn;

struct JudgeNetImpl : nn::Module {
  nn::Conv2d one{nn::Conv2dOptions(1, 16, 3).padding(1)},
      two{nn::Conv2dOptions(16, 32, 3).padding(1)}, three{nn::Conv2dOptions(32, 32, 3).padding(1)};
  nn::Linear full, head{64, data::kCanvasVocabulary};
  explicit JudgeNetImpl(int64_t size) : full(32 * (size / 4) * (size / 4), 64) {
    register_module("one", one), register_module("two", two), register_module("three", three);
    register_module("full", full), register_module("head", head);
  }
  Tensor features(const Tensor& x) {
    const auto a = at::max_pool2d(torch::relu(one(x)), {2, 2});
    const auto b = at::max_pool2d(torch::relu(three(torch::relu(two(a)))), {2, 2});
    return torch::relu(full(b.flatten(1)));
  }
};
TORCH_MODULE(JudgeNet);

/// Which words are in the captions, f32 [n, vocabulary].
Tensor words_there(const Tensor& captions) {
  return torch::zeros({captions.size(0), data::kCanvasVocabulary}).scatter_(1, captions, 1.0);
}

}  // namespace

Scenes paint_scenes(const std::vector<std::vector<data::PlacedItem>>& scenes, int64_t size,
                    Random& random) {
  const auto n = std::ssize(scenes);
  Scenes out{torch::zeros({n, 1, size, size}),
             torch::zeros({n, data::kCaptionLength}, torch::kLong)};
  for (int64_t i = 0; i < n; ++i) {
    const auto caption =
        data::paint(scenes[static_cast<size_t>(i)], size, random,
                    {out.pictures[i].data_ptr<float>(), static_cast<size_t>(size * size)});
    std::copy(caption.begin(), caption.end(),
              out.words.data_ptr<int64_t>() + i * data::kCaptionLength);
  }
  out.pictures = out.pictures * 2 - 1;
  return out;
}

CanvasJudge train_judge(const std::function<std::vector<data::PlacedItem>(Random&)>& scene,
                        int64_t size, int64_t steps, uint64_t seed) {
  require(size >= 8, "judge: pictures of {} pixels", size);
  seed_everything(seed);
  Random random(seed, 0x77);
  JudgeNet net(size);
  constexpr int64_t kBatch = 64;
  train::descend(net->parameters(), kBatch,
                 [&](const Tensor&) {
                   std::vector<std::vector<data::PlacedItem>> scenes;
                   for (int64_t i = 0; i < kBatch; ++i) scenes.push_back(scene(random));
                   const auto some = paint_scenes(scenes, size, random);
                   const auto noisy = some.pictures + 0.3 * torch::rand({kBatch, 1, 1, 1}) *
                                                          torch::randn_like(some.pictures);
                   const auto odds = net->head(net->features(noisy)),
                              there = words_there(some.words);
                   return (torch::softplus(odds) - odds * there).sum(1).mean();
                 },
                 {.batch = kBatch, .steps = steps, .rate = 2e-3, .decay = 0.3});
  CanvasJudge out;
  out.features = [net](const Tensor& x) {
    const torch::NoGradGuard no_grad;
    return JudgeNet(net)->features(x);
  };
  out.odds = [net](const Tensor& x) {
    const torch::NoGradGuard no_grad;
    auto judge = net;
    return judge->head(judge->features(x));
  };
  return out;
}

double CanvasJudge::share_with(const Tensor& pictures, const std::vector<int64_t>& words) const {
  const auto there = odds(pictures).index_select(1, torch::tensor(words, torch::kLong)).amin(1) > 0;
  return there.to(torch::kDouble).mean().item<double>();
}

double CanvasJudge::likeness(const Tensor& pictures, const Tensor& real) const {
  const auto a = features(pictures), b = features(real).mean(0);
  return (torch::matmul(a, b) / (a.norm(2, 1) * b.norm()).clamp_min(1e-12)).mean().item<double>();
}

}  // namespace cajal::surgery
