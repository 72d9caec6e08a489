#include "cajal/atlas/vision_zoo.h"

#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/train/trainer.h"

namespace cajal::atlas {
namespace {

using torch::Tensor;
namespace nn = torch::nn;

nn::Conv2d conv(int64_t in, int64_t out, int64_t kernel = 3, int64_t stride = 1) {
  return nn::Conv2d(nn::Conv2dOptions(in, out, kernel).padding((kernel - 1) / 2).stride(stride));
}

struct Answer {
  Tensor output;
  UnitMaps maps;
};

struct ClassifierImpl : nn::Module {
  nn::Conv2d one = conv(1, 16), two = conv(16, 32), three = conv(32, 64);
  nn::Linear head{64, 10};
  ClassifierImpl() {
    register_module("one", one), register_module("two", two), register_module("three", three);
    register_module("head", head);
  }
  Answer run(const Tensor& x) {
    const auto a = torch::relu(one(x)), b = torch::relu(two(at::max_pool2d(a, {2, 2})));
    const auto c = torch::relu(three(at::max_pool2d(b, {2, 2})));
    return {head(c.mean(torch::IntArrayRef({2, 3}))), {a, b, c}};
  }
};
TORCH_MODULE(Classifier);

struct ResidualImpl : nn::Module {
  nn::Conv2d stem = conv(1, 16), down1 = conv(16, 32, 3, 2), same1 = conv(32, 32);
  nn::Conv2d skip1 = conv(16, 32, 1, 2), down2 = conv(32, 64, 3, 2), same2 = conv(64, 64);
  nn::Conv2d skip2 = conv(32, 64, 1, 2);
  nn::Linear head{64, 4};
  ResidualImpl() {
    register_module("stem", stem), register_module("down1", down1), register_module("same1", same1);
    register_module("skip1", skip1), register_module("down2", down2);
    register_module("same2", same2), register_module("skip2", skip2), register_module("head", head);
  }
  Answer run(const Tensor& x) {
    const auto a = torch::relu(stem(x));
    const auto b = torch::relu(same1(torch::relu(down1(a))) + skip1(a));
    const auto c = torch::relu(same2(torch::relu(down2(b))) + skip2(b));
    return {head(c.mean(torch::IntArrayRef({2, 3}))), {a, b, c}};
  }
};
TORCH_MODULE(Residual);

// The house's own transformer, with a linear head that fills in pixels for the masked form.
struct PatchesImpl : nn::Module {
  lm::Transformer body{nullptr};
  nn::Linear pixels{64, 16};
  PatchesImpl(bool classes, uint64_t seed) {
    const Json json = {{"model_type", "vit"},
                       {"architectures", {classes ? "ViTForImageClassification" : "ViTModel"}},
                       {"hidden_size", 64},
                       {"num_hidden_layers", 4},
                       {"num_attention_heads", 4},
                       {"intermediate_size", 128},
                       {"image_size", 28},
                       {"patch_size", 4},
                       {"num_channels", 1},
                       {"num_labels", 10}};
    body = lm::initialise(lm::config_from_json(json, "vision zoo"), seed, 0.05);
    body->config.pooler = false;
    register_module("body", body), register_module("pixels", pixels);
  }
  Answer run(const Tensor& x) {
    Answer out;
    lm::Hooks hooks;
    hooks.add("blocks.*.hook_resid_post", [&](std::string_view, const Tensor& tokens) {
      out.maps.push_back(tokens_as_maps(tokens));
      return Tensor();
    });
    out.output = body->forward(x, {.hooks = &hooks});
    return out;
  }
};
TORCH_MODULE(Patches);

constexpr int64_t kLatent = 32;

struct AutoencoderImpl : nn::Module {
  nn::Conv2d in1 = conv(1, 16, 3, 2), in2 = conv(16, 32, 3, 2), out = conv(16, 1);
  nn::Linear code{32 * 49, 2 * kLatent}, spread{kLatent, 64 * 49};
  nn::ConvTranspose2d up1{nn::ConvTranspose2dOptions(64, 32, 4).stride(2).padding(1)};
  nn::ConvTranspose2d up2{nn::ConvTranspose2dOptions(32, 16, 4).stride(2).padding(1)};
  AutoencoderImpl() {
    register_module("in1", in1), register_module("in2", in2), register_module("out", out);
    register_module("code", code), register_module("spread", spread);
    register_module("up1", up1), register_module("up2", up2);
  }
  Answer draw(const Tensor& z) {
    const auto a = torch::relu(spread(z)).reshape({z.size(0), 64, 7, 7});
    const auto b = torch::relu(up1(a)), c = torch::relu(up2(b));
    return {torch::sigmoid(out(c)), {a, b, c}};
  }
  Tensor loss(const Tensor& x) {
    const auto parts = code(torch::relu(in2(torch::relu(in1(x)))).flatten(1)).chunk(2, 1);
    const auto z = parts[0] + torch::randn_like(parts[0]) * (parts[1] / 2).exp();
    const auto fit = torch::binary_cross_entropy(draw(z).output.clamp(1e-6, 1 - 1e-6), x, {},
                                                 at::Reduction::Sum);
    const auto prior = -0.5 * (1 + parts[1] - parts[0].square() - parts[1].exp()).sum();
    return (fit + prior) / static_cast<double>(x.size(0) * 784);
  }
};
TORCH_MODULE(Autoencoder);

Tensor moved(const Tensor& pictures, int64_t right, int64_t down) {
  auto out = torch::zeros_like(pictures);
  const int64_t n = pictures.size(-1);
  const auto range = [&](int64_t by) {
    return std::pair(std::max<int64_t>(0, by), std::min(n, n + by));
  };
  const auto [x0, x1] = range(right);
  const auto [y0, y1] = range(down);
  out.slice(2, y0, y1).slice(3, x0, x1).copy_(
      pictures.slice(2, y0 - down, y1 - down).slice(3, x0 - right, x1 - right));
  return out;
}

void fit(const nn::Module& module, const Tensor& pictures, const ZooOptions& o, uint64_t seed,
         const std::function<Tensor(const Tensor& rows, Random& random)>& loss) {
  if (o.steps == 0) return;
  require(pictures.dim() == 4 && pictures.size(1) == 1 && pictures.size(2) == 28 &&
              pictures.size(3) == 28 && pictures.size(0) > 0,
          "vision zoo: pictures are {}, expected [images, 1, 28, 28]",
          shape_text(pictures.sizes()));
  Random random(seed, 5);
  train::Options options;
  options.steps = o.steps, options.learning_rate = o.learning_rate;
  options.weight_decay = 0.01, options.warmup_steps = o.steps / 20;
  train::run(
      train::task_of(
          module,
          [&](const train::Slice&) -> train::Batch {
            std::vector<int64_t> rows(static_cast<size_t>(o.batch));
            for (auto& row : rows)
              row = static_cast<int64_t>(random.below(static_cast<uint64_t>(pictures.size(0))));
            return {torch::tensor(rows, torch::kLong)};
          },
          [&](const train::Batch& batch) { return loss(batch[0], random); }),
      options);
}

Tensor cross_entropy(const Tensor& logits, const Tensor& labels) {
  return torch::nll_loss(torch::log_softmax(logits, -1), labels);
}

template <class Module>
ZooModel zoo_model(std::string name, Module module, bool classifies) {
  ZooModel out{std::move(name),
               [module](const Tensor& x) mutable {
                 const torch::NoGradGuard no_grad;
                 return module->run(x).maps;
               },
               {}};
  if (classifies) out.logits = [module](const Tensor& x) mutable { return module->run(x).output; };
  return out;
}

}  // namespace

ZooModel train_zoo_model(ZooKind kind, const Tensor& pictures, const Tensor& labels,
                         const ZooOptions& options, uint64_t seed) {
  seed_everything(seed);
  const auto name = to_name(kind);
  switch (kind) {
    case ZooKind::cnn: {
      Classifier model;
      fit(*model, pictures, options, seed, [&](const Tensor& rows, Random&) {
        return cross_entropy(model->run(pictures.index_select(0, rows)).output,
                             labels.index_select(0, rows));
      });
      return zoo_model(name, model, true);
    }
    case ZooKind::rotation: {
      Residual model;
      fit(*model, pictures, options, seed, [&](const Tensor& rows, Random&) {
        const auto x = pictures.index_select(0, rows).chunk(4);
        std::vector<Tensor> turned, turns;
        for (size_t k = 0; k < x.size(); ++k) {
          turned.push_back(x[k].rot90(static_cast<int64_t>(k), {2, 3}));
          turns.push_back(torch::full({x[k].size(0)}, static_cast<int64_t>(k), torch::kLong));
        }
        return cross_entropy(model->run(torch::cat(turned)).output, torch::cat(turns));
      });
      return zoo_model(name, model, false);
    }
    case ZooKind::vit: {
      Patches model(true, seed);
      fit(*model, pictures, options, seed, [&](const Tensor& rows, Random&) {
        return cross_entropy(model->run(pictures.index_select(0, rows)).output,
                             labels.index_select(0, rows)) +
               0 * model->pixels->weight.sum() + 0 * model->pixels->bias.sum();
      });
      return zoo_model(name, model, true);
    }
    case ZooKind::masked: {
      Patches model(false, seed);
      fit(*model, pictures, options, seed, [&](const Tensor& rows, Random&) {
        const auto x = pictures.index_select(0, rows);
        const auto hidden = torch::rand({x.size(0), 1, 7, 7}).lt(0.6).to(torch::kFloat);
        const auto mask = hidden.repeat_interleave(4, 2).repeat_interleave(4, 3);
        const auto filled = model->pixels(model->run(x * (1 - mask)).output.slice(1, 1));
        const auto wanted =
            x.reshape({-1, 7, 4, 7, 4}).permute({0, 1, 3, 2, 4}).reshape({-1, 49, 16});
        return ((filled - wanted).square() * hidden.reshape({-1, 49, 1})).mean();
      });
      return zoo_model(name, model, false);
    }
  }
  fail("vision zoo: no kind {}", static_cast<int>(kind));
}

Generator train_generator(const Tensor& pictures, const ZooOptions& options, uint64_t seed,
                          int64_t shift) {
  seed_everything(seed);
  Autoencoder model;
  fit(*model, pictures, options, seed, [&](const Tensor& rows, Random& random) {
    auto x = pictures.index_select(0, rows);
    if (shift > 0) {
      auto parts = x.chunk(8);
      for (auto& part : parts) {
        const auto by = [&] {
          return static_cast<int64_t>(random.below(static_cast<uint64_t>(2 * shift + 1))) - shift;
        };
        const int64_t right = by();
        part = moved(part, right, by());
      }
      x = torch::cat(parts);
    }
    return model->loss(x);
  });
  return {[model](const Tensor& z) mutable {
            auto answer = model->draw(z);
            return std::pair(answer.output, answer.maps);
          },
          kLatent};
}

}  // namespace cajal::atlas
