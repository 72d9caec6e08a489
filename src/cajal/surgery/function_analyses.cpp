#include "cajal/surgery/function_analyses.h"

#include <algorithm>

#include "cajal/core/error.h"
#include "cajal/surgery/brick_configuration.h"
#include "cajal/surgery/function_network.h"

namespace cajal::surgery {
namespace {

FunctionActivity activity_of(lm::Transformer model, const std::vector<FunctionText>& texts,
                             int64_t tokens, int64_t context) {
  return record(model, texts, tokens, context);
}

/// Prunes neurons of a world's model and judges what that did.
class Pruning {
 public:
  explicit Pruning(const FunctionWorld& world)
      : world_(world), before_(world.test_losses(world.model)) {}

  double add(const std::string& name, const torch::Tensor& neurons, size_t own) {
    Line line{name, world_.test_losses(pruned(world_.model, neurons))};
    auto& [unused, values] = line;
    double others = 0;
    for (size_t c = 0; c < before_.size(); ++c) {
      values[c] -= before_[c];
      if (c != own) others += values[c] / static_cast<double>(before_.size() - 1);
    }
    values.push_back(values[own] / std::max(1e-6, others));
    lines.push_back(line);
    return values.back();
  }

  std::vector<Line> lines;

 private:
  const FunctionWorld& world_;
  std::vector<double> before_;
};

double jaccard(const torch::Tensor& a, const torch::Tensor& b) {
  const double both = a.unsqueeze(0).eq(b.unsqueeze(1)).sum().item<double>();
  return both / (static_cast<double>(a.numel() + b.numel()) - both);
}

}  // namespace

std::vector<Line> specialisation_lines(const FunctionWorld& world, int64_t tokens,
                                       int64_t shuffles) {
  const auto trained = activity_of(world.model, world.valid, tokens, world.context());
  const auto untrained = activity_of(world.untrained, world.valid, tokens, world.context());
  std::vector<Line> out;
  for (const bool beyond_ids : {true, false})
    for (const bool by_window : {true, false}) {
      const SpecialisationOptions o{
          .shuffles = shuffles, .by_window = by_window, .beyond_ids = beyond_ids};
      out.emplace_back(
          fmt::format("{}, {} shuffled", beyond_ids ? "beyond the byte" : "norms",
                      by_window ? "windows" : "tokens"),
          std::vector<double>{specialise(trained, o).share(), specialise(untrained, o).share()});
    }
  return out;
}

std::vector<Line> pruning_lines(const FunctionWorld& world, int64_t tokens, double share) {
  const auto activity = activity_of(world.model, world.valid, tokens, world.context());
  const auto functions = world.test.size();
  const auto count =
      std::max<int64_t>(1, std::llround(share * static_cast<double>(world.neurons())));
  std::vector<torch::Tensor> uses, tops;
  for (size_t c = 0; c < functions; ++c) {
    const auto tokens_of = activity.function.eq(static_cast<int64_t>(c)).sum().item<double>();
    uses.push_back(torch::cat(use_counts(activity, static_cast<int64_t>(c))) / tokens_of);
  }
  const auto sum = torch::stack(uses).sum(0);
  const auto order = torch::cat(mean_norms(activity, -1)).argsort(), rank = order.argsort();
  Pruning pruning(world);
  double specific = 0, random = 0;
  for (size_t c = 0; c < functions; ++c) {
    const auto& name = world.test[c].name;
    const auto others = (sum - uses[c]) / static_cast<double>(functions - 1);
    tops.push_back(top_neurons(uses[c] - others, count));
    specific += pruning.add(name, tops.back(), c) >= 3 ? 1 : 0;
    const auto any = torch::randperm(world.neurons(), torch::kLong).narrow(0, 0, count);
    random += pruning.add("random, judged for " + name, any.contiguous(), c);
    // As active on average, but no matter on what.
    const auto next = (rank.index_select(0, tops.back()) + 1).clamp_max(world.neurons() - 1);
    pruning.add("of equal activity, judged for " + name, order.index_select(0, next), c);
  }
  auto lines = std::move(pruning.lines);
  for (size_t a = 0; a < functions; ++a) {
    lines.emplace_back("overlap " + world.test[a].name, std::vector<double>{});
    for (const auto& b : tops) lines.back().second.push_back(jaccard(tops[a], b));
  }
  lines.emplace_back("specific",
                     std::vector<double>{specific, random / static_cast<double>(functions)});
  return lines;
}

std::vector<Line> community_lines(const FunctionWorld& world, int64_t tokens, int64_t groups,
                                  int64_t nulls) {
  std::vector<Line> out;
  for (const bool trained : {true, false}) {
    const auto activity =
        activity_of(trained ? world.model : world.untrained, world.valid, tokens, world.context());
    for (size_t l = 0; l < activity.norms.size(); ++l) {
      const auto c = communities(activity.norms[l], groups, 8, nulls, l);
      out.emplace_back(
          fmt::format("{}, layer {}", trained ? "trained" : "untrained", l),
          std::vector<double>{c.q, c.null_mean, c.z(), c.within, c.between, c.stability});
    }
  }
  return out;
}

std::vector<Line> network_lines(const FunctionWorld& world, int64_t tokens, int64_t kept) {
  const auto activity = activity_of(world.model, world.train, tokens, world.context());
  std::vector<Line> out;
  Line mean{"mean", std::vector<double>(6)};
  for (size_t c = 0; c < world.test.size(); ++c) {
    const auto i = static_cast<int64_t>(c);
    const auto& ids = world.test[c].ids;
    NeuronScores chance;
    for (const auto& norms : activity.norms) chance.push_back(torch::rand({norms.size(1)}));
    Line line{world.test[c].name, {}};
    const double whole = world.loss(world.model, ids);
    for (const auto& scores :
         {mean_norms(activity, i), wanda_scores(activity, i), use_counts(activity, i),
          wanda_scores(activity, -1), weight_sizes(world.model), chance}) {
      line.second.push_back(world.loss(network_of(world.model, scores, kept), ids) / whole - 1);
      mean.second[line.second.size() - 1] +=
          line.second.back() / static_cast<double>(world.test.size());
    }
    out.push_back(line);
  }
  out.push_back(mean);
  return out;
}

double retrieved_share(const FunctionWorld& world, int64_t queries) {
  constexpr size_t kBytes = 32, kStep = 64;
  auto model = world.model;
  BrickRegistry registry;
  for (const auto& text : world.train) {
    Brick brick{.card = {.id = text.name, .kind = BrickKind::layer, .layer = 0}, .tensors = {}};
    brick.tensors["embedding"] = embed(model, part(text.ids, 0, 0.05));
    registry.add(brick);
  }
  int64_t right = 0;
  for (const auto& text : world.test) {
    require(text.ids.size() > kStep,
            "function '{}': {} bytes to be asked for, expected more than {}", text.name,
            text.ids.size(), kStep);
    for (int64_t q = 0; q < queries; ++q) {
      const auto begin = static_cast<size_t>(q) * kStep % (text.ids.size() - kStep);
      const auto query = embed(model, std::span(text.ids).subspan(begin, kBytes));
      right += retrieve(registry, model, query, 1).at(0).id == text.name;
    }
  }
  return static_cast<double>(right) / static_cast<double>(queries * std::ssize(world.test));
}

}  // namespace cajal::surgery
