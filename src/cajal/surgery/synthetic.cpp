#include "cajal/surgery/synthetic.h"

#include <ATen/CPUGeneratorImpl.h>

#include <cmath>

#include "cajal/atlas/measure.h"
#include "cajal/models/lm/block.h"

namespace cajal::surgery {

SyntheticFfn synthetic_ffn(Activation law, bool gated, int64_t width, int64_t neurons, double sigma,
                           int64_t tokens, uint64_t seed) {
  torch::NoGradGuard no_grad;
  auto generator = at::detail::createCPUGenerator(seed);
  const auto random = [&](std::vector<int64_t> sizes) { return torch::randn(sizes, generator); };
  const double scale = 1 / std::sqrt(static_cast<double>(width));
  SyntheticFfn out;
  out.config.width = width, out.config.neurons = neurons;
  out.config.law = law, out.config.gated = gated;
  auto& group = out.ffn.groups.emplace_back();
  group.key = Matrix::dense(random({neurons, width}) * scale);
  group.key_bias = random({neurons}) * 0.1;
  if (gated) group.gate = Matrix::dense(random({neurons, width}) * scale);
  group.value = Matrix::dense(
      random({neurons, width}) * scale * (random({neurons, 1}) * sigma).exp(), Major::input);
  out.ffn.value_bias = random({width}) * 0.1;
  out.inputs = random({tokens, width});

  out.census = atlas::LayerCensus(atlas::key_norms(out.ffn), atlas::value_norms(out.ffn), gated);
  auto a = group.key.apply(out.inputs) + group.key_bias;
  a = (gated ? activate(law, group.gate.apply(out.inputs)) * a : activate(law, a)).contiguous();
  ThreadPool threads;
  out.census.add({a.data_ptr<float>(), static_cast<size_t>(a.numel())}, 0, threads);
  return out;
}

OutputError output_error(const SyntheticFfn& subject, const lm::FeedForward& changed) {
  torch::NoGradGuard no_grad;
  const lm::Points no_points(nullptr);
  const auto y = lm::feed_forward(subject.config, subject.ffn, subject.inputs, no_points);
  const auto z = lm::feed_forward(subject.config, changed, subject.inputs, no_points);
  const auto off = y - z;
  return {off.abs().max().item<double>() / y.abs().max().item<double>(),
          off.square().sum().item<double>() / y.square().sum().item<double>()};
}

SyntheticExperts synthetic_experts(int64_t topics, int64_t neurons_each, int64_t width,
                                   int64_t tokens, double noise) {
  require(topics >= 3 && topics <= width && neurons_each > 0 && tokens > 0,
          "synthetic experts: {} topics of {} neurons in {} features, {} tokens; expected 3 topics "
          "or more, no more than features",
          topics, neurons_each, width, tokens);
  const double a_feature = 1 / std::sqrt(static_cast<double>(width));
  SyntheticExperts out;
  const auto direction = std::get<0>(torch::linalg_qr(torch::randn({width, width})));
  out.topic = torch::randperm(topics * neurons_each, torch::kLong).remainder(topics);
  out.key = direction.index_select(0, out.topic) +
            noise * a_feature * torch::randn({topics * neurons_each, width});
  const auto mix = torch::rand({tokens, topics}).argsort(-1, /*descending=*/false).slice(1, 0, 3);
  const auto weight = torch::zeros({tokens, topics}).scatter(1, mix, 1.0);
  out.inputs =
      weight.mm(direction.slice(0, 0, topics)) + 0.1 * a_feature * torch::randn({tokens, width});
  out.activations = torch::relu(out.inputs.mm(out.key.t()) - 0.5);
  return out;
}

}  // namespace cajal::surgery
