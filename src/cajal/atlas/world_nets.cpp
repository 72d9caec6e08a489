#include "cajal/atlas/world_nets.h"

#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include <numeric>

#include "cajal/core/error.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/train/descent.h"

namespace cajal::atlas {
namespace {

using torch::Tensor;
namespace nn = torch::nn;

/// Deletions by layer: a ∘ keep + fill.
class Silencer {
 public:
  Silencer(const Deletion& deletion, const std::vector<int64_t>& channels) {
    if (deletion.units.empty()) return;
    const int64_t units = std::accumulate(channels.begin(), channels.end(), int64_t{0});
    auto keep = torch::ones({units}), fill = torch::zeros({units});
    const bool mean = deletion.rule == DeletionRule::mean;
    require(!mean || (deletion.means.dim() == 1 && deletion.means.size(0) == units),
            "deletion: means are {}, expected [{}]",
            deletion.means.defined() ? shape_text(deletion.means.sizes()) : "absent", units);
    for (const auto u : deletion.units) {
      require(u >= 0 && u < units, "deletion: unit {} of {}", u, units);
      keep[u] = 0;
      if (mean) fill[u] = deletion.means[u];
    }
    keep_ = keep.split_with_sizes(channels), fill_ = fill.split_with_sizes(channels);
  }
  /// `axis` is that of the channels.
  Tensor operator()(const Tensor& a, size_t layer, int64_t axis = 1) const {
    if (keep_.empty()) return a;
    std::vector<int64_t> shape(static_cast<size_t>(a.dim()), 1);
    shape[static_cast<size_t>(axis)] = a.size(axis);
    return a * keep_[layer].view(shape) + fill_[layer].view(shape);
  }

 private:
  std::vector<Tensor> keep_, fill_;
};

struct Answer {
  Tensor output;
  UnitMaps maps;
};

nn::Conv2d conv(int64_t in, int64_t out, int64_t kernel, int64_t stride = 1) {
  return nn::Conv2d(nn::Conv2dOptions(in, out, kernel).padding((kernel - 1) / 2).stride(stride));
}

/// 5 x 5 convolution of stride 2, then 3 x 3 ones, pooled between; the largest value of each last
/// channel decides.
struct ConvolutionsImpl : nn::Module {
  ConvolutionsImpl(std::vector<int64_t> channels, int64_t outputs) : channels(channels) {
    for (size_t l = 0; l < channels.size(); ++l) {
      layers.push_back(l == 0 ? conv(3, channels[0], 5, 2) : conv(channels[l - 1], channels[l], 3));
      register_module("layer" + std::to_string(l), layers.back());
    }
    head = register_module("head", nn::Linear(channels.back(), outputs));
  }
  Answer run(const Tensor& x, const Deletion& deletion) {
    const Silencer silence(deletion, channels);
    Answer out;
    Tensor a = x - 0.5;
    for (size_t l = 0; l < layers.size(); ++l) {
      if (l > 1) a = at::max_pool2d(a, {2, 2});
      a = silence(torch::relu(layers[l](a)), l);
      out.maps.push_back(a);
    }
    out.output = head(a.flatten(2).amax(2));
    return out;
  }
  const std::vector<int64_t> channels;
  std::vector<nn::Conv2d> layers;
  nn::Linear head{nullptr};
};
TORCH_MODULE(Convolutions);

struct AutoencoderImpl : nn::Module {
  const std::vector<int64_t> channels = {16, 32, 64};
  nn::Conv2d one = conv(3, 16, 5, 2), two = conv(16, 32, 3, 2), three = conv(32, 64, 3, 1);
  nn::Conv2d narrow = conv(64, 12, 1), wide = conv(12, 16, 3), wider = conv(16, 16, 3);
  nn::Conv2d last = conv(16, 3, 3);
  AutoencoderImpl() {
    register_module("one", one), register_module("two", two), register_module("three", three);
    register_module("narrow", narrow), register_module("wide", wide);
    register_module("wider", wider), register_module("last", last);
  }
  Answer run(const Tensor& x, const Deletion& deletion) {
    const Silencer silence(deletion, channels);
    const auto a = silence(torch::relu(one(x - 0.5)), 0), b = silence(torch::relu(two(a)), 1);
    const auto c = silence(torch::relu(three(b)), 2);
    const auto twice = [](const Tensor& y) {
      return at::upsample_nearest2d(y, {2 * y.size(2), 2 * y.size(3)});
    };
    const auto d = torch::relu(wider(twice(torch::relu(wide(narrow(c))))));
    return {torch::sigmoid(last(twice(d))), {a, b, c}};
  }
};
TORCH_MODULE(Autoencoder);

struct PatchesImpl : nn::Module {
  const std::vector<int64_t> channels = {64, 64, 64};
  lm::Transformer body{nullptr};
  PatchesImpl(int64_t size, int64_t outputs, uint64_t seed) {
    const Json json = {{"model_type", "vit"},      {"architectures", {"ViTForImageClassification"}},
                       {"hidden_size", 64},        {"num_hidden_layers", 3},
                       {"num_attention_heads", 4}, {"intermediate_size", 64},
                       {"image_size", size},       {"patch_size", 6},
                       {"num_channels", 3},        {"num_labels", outputs}};
    body = lm::initialise(lm::config_from_json(json, "world nets"), seed, 0.05);
    body->config.pooler = false;
    register_module("body", body);
  }
  Answer run(const Tensor& x, const Deletion& deletion) {
    const Silencer silence(deletion, channels);
    Answer out;
    lm::Hooks hooks;
    hooks.add("blocks.*.mlp.hook_post", [&](std::string_view, const Tensor& tokens) {
      const auto kept = silence(tokens, out.maps.size(), 2);
      out.maps.push_back(tokens_as_maps(kept));
      return kept;
    });
    out.output = body->forward(x * 2 - 1, {.hooks = &hooks});
    return out;
  }
};
TORCH_MODULE(Patches);

Tensor yes_or_no_loss(const Tensor& logits, const Tensor& present) {
  return (torch::softplus(logits) - logits * present).mean();
}

std::pair<int64_t, int64_t> answers_of(WorldTask task) {
  switch (task) {
    case WorldTask::colour:
      return {5, 11};
    case WorldTask::texture:
      return {11, 14};
    case WorldTask::all:
      return {0, 14};
    default:
      return {0, 5};
  }
}

template <class Module>
WorldNet trained(Module module, WorldTask task, const WorldTensors& data,
                 const WorldNetOptions& o) {
  const auto [begin, end] = answers_of(task);
  train::descend(
      module->parameters(), data.pictures.size(0),
      [&, begin = begin, end = end](const Tensor& rows) {
        const auto x = data.pictures.index_select(0, rows);
        const auto y = module->run(x, {}).output;
        if (task == WorldTask::autoencoder) return (y - x).square().mean();
        if (task == WorldTask::first)
          return torch::nll_loss(torch::log_softmax(y, 1), data.first.index_select(0, rows));
        return yes_or_no_loss(y, data.present.index_select(0, rows).slice(1, begin, end));
      },
      {.batch = o.batch, .steps = o.steps, .rate = o.rate, .decay = 0.3, .clip = 1});
  return {to_name(task), module->channels, [module](const Tensor& x, const Deletion& deletion) {
            const torch::NoGradGuard no_grad;
            auto answer = Module(module)->run(x, deletion);
            return std::pair(answer.output, std::move(answer.maps));
          }};
}

}  // namespace

int64_t WorldNet::units() const {
  return std::accumulate(channels.begin(), channels.end(), int64_t{0});
}

WorldTensors world_tensors(const data::WorldPictures& world) {
  const int64_t count = world.images.shape[0], size = world.images.shape[2];
  WorldTensors out;
  out.pictures = torch::from_blob(const_cast<std::byte*>(world.images.bytes.data()),
                                  {count, 3, size, size}, torch::kByte)
                     .to(torch::kFloat) /
                 255;
  const auto kinds = data::pixel_kinds(world);
  out.kinds = torch::from_blob(const_cast<std::byte*>(kinds.bytes.data()), {count, size, size},
                               torch::kShort)
                  .clone();
  out.present = torch::zeros({count, 14}), out.first = torch::zeros({count}, torch::kLong);
  auto* present = out.present.data_ptr<float>();
  for (int64_t i = 0; i < count; ++i, present += 14) {
    const auto& objects = world.objects[static_cast<size_t>(i)];
    const auto real = objects.size() - world.has_initial[static_cast<size_t>(i)];
    out.first[i] = objects[0].shape;
    for (size_t k = 0; k < real; ++k)
      present[objects[k].shape] = present[5 + objects[k].colour] =
          present[11 + objects[k].texture] = 1;
  }
  return out;
}

WorldNet train_world_net(WorldTask task, const WorldTensors& data, const WorldNetOptions& options,
                         uint64_t seed) {
  seed_everything(seed);
  const auto [begin, end] = answers_of(task);
  if (task == WorldTask::autoencoder) return trained(Autoencoder(), task, data, options);
  if (task == WorldTask::vit)
    return trained(Patches(data.pictures.size(2), end - begin, seed), task, data, options);
  std::vector<int64_t> channels = {16, 32, 64};
  if (task == WorldTask::all) channels.push_back(128);
  return trained(Convolutions(channels, end - begin), task, data, options);
}

double world_accuracy(const WorldNet& net, WorldTask task, const WorldTensors& data,
                      const Deletion& deletion) {
  require(task != WorldTask::autoencoder, "world nets: an autoencoder names nothing");
  const auto [begin, end] = answers_of(task);
  double right = 0, asked = 0;
  for (int64_t at = 0; at < data.pictures.size(0); at += 250) {
    const auto y = net.run(data.pictures.slice(0, at, at + 250), deletion).first;
    const auto hits =
        task == WorldTask::first
            ? y.argmax(1) == data.first.slice(0, at, at + 250)
            : (y > 0) == (data.present.slice(0, at, at + 250).slice(1, begin, end) > 0);
    right += hits.sum().item<double>(), asked += static_cast<double>(hits.numel());
  }
  return right / asked;
}

}  // namespace cajal::atlas
