#include "cajal/study/expert_checks.h"

#include <cmath>

#include "cajal/core/timing.h"
#include "cajal/engine/experts.h"
#include "cajal/layers/ffn/experts.h"
#include "cajal/math/assignment.h"
#include "cajal/math/clusters.h"
#include "cajal/surgery/synthetic.h"

namespace cajal::study {

double auction_over_exact() {
  const auto points = torch::randn({256, 32});
  const std::span<const float> numbers(points.data_ptr<float>(), 256 * 32);
  const auto centre = math::cluster(numbers, 32, {.clusters = 8}).centre;
  const auto cost = torch::cdist(points, torch::tensor(centre).view({8, 32})).square().contiguous();
  const auto places = cost.repeat_interleave(32, 1).contiguous();
  const auto auction = math::assign_balanced({cost.data_ptr<float>(), 256 * 8}, 256, 8);
  const auto exact = math::assign({places.data_ptr<float>(), 256 * 256}, 256, 256);
  double ours = 0, least = 0;
  for (int64_t i = 0; i < 256; ++i) {
    ours += cost[i][auction[static_cast<size_t>(i)]].item<double>();
    least += places[i][exact[static_cast<size_t>(i)]].item<double>();
  }
  return ours / least;
}

std::vector<double> found_again(surgery::ExpertSplit split, double noise, int64_t each,
                                int64_t tokens, int64_t epochs, uint64_t seed) {
  const int64_t topics = 32, width = 64;
  const auto s = surgery::synthetic_experts(topics, each, width, tokens, noise);
  const auto order = surgery::expert_order(split, s.key, s.activations, topics, seed).order;
  std::vector<int64_t> label(order.size());
  for (size_t i = 0; i < order.size(); ++i)
    label[static_cast<size_t>(order[i])] = static_cast<int64_t>(i) / each;
  const std::vector<int64_t> truth(s.topic.data_ptr<int64_t>(),
                                   s.topic.data_ptr<int64_t>() + s.topic.numel());
  const auto index = torch::tensor(std::vector<int64_t>(order.begin(), order.end()));
  const auto gains = experts::gains(s.activations.index_select(1, index), topics, false);
  const auto router =
      surgery::train_router(RouterKind::mlp, experts::centres(s.key.index_select(0, index), topics),
                            s.inputs, gains, (topics + 9) / 10, {.epochs = epochs, .seed = seed});
  return {math::adjusted_rand_index(label, truth), router.captured};
}

LayerTime time_experts(int64_t width, int64_t count, int64_t batch, int copies, int rounds) {
  const int64_t neurons = 4 * width;
  std::vector<torch::Tensor> weights;
  std::vector<engine::FeedForward> dense, cut;
  const auto matrix = [&](int64_t rows, int64_t columns) {
    weights.push_back((torch::randn({rows, columns}) / std::sqrt(static_cast<double>(columns)))
                          .to(torch::kBFloat16));
    return row_matrix(Format::bf16, weights.back().data_ptr(), rows, columns, "speed");
  };
  for (int k = 0; k < copies; ++k) {
    auto network = std::make_shared<engine::StoredFeedForward>();
    network->law = Activation::relu;
    auto& group = network->groups.emplace_back();
    group.key.weight = matrix(neurons, width);
    group.value.weight = matrix(width, neurons);
    const engine::Router router{.first = matrix(count, width), .second = matrix(count, count)};
    dense.push_back([network](engine::Input& x, float* y) { network->apply(x, y); });
    cut.push_back(
        engine::run_experts(network, engine::choose_experts(router, count / 4), count, count / 4));
  }
  ThreadPool threads;
  const auto x = torch::randn({batch, width});
  auto y = torch::empty({batch, width});
  const auto run = [&](const std::vector<engine::FeedForward>& form) {
    for (const auto& layer : form) {
      engine::Input input(x.data_ptr<float>(), batch, width, engine::Arithmetic::rounded, threads);
      layer(input, y.data_ptr<float>());
    }
  };
  const auto times = time_interleaved({[&] { run(dense); }, [&] { run(cut); }}, rounds, 3);
  return {times.median_seconds(0) / copies, times.median_seconds(1) / copies, times.ratio(0, 1)};
}

}  // namespace cajal::study
