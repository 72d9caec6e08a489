#include "cajal/atlas/zoo_world.h"

#include <set>

#include "cajal/core/error.h"

namespace cajal::atlas {
namespace {

using torch::Tensor;

double mean_score(const std::vector<UnitPair>& pairs) {
  double sum = 0;
  for (const auto& p : pairs) sum += p.score / static_cast<double>(pairs.size());
  return sum;
}

/// Mean of every unit of the last layer in every picture.
Tensor last_means(const UnitViews& views) {
  std::vector<Tensor> all;
  for (const auto& batch : views.batches) all.push_back(batch.back().flatten(2).mean(2));
  return torch::cat(all);
}

std::vector<int64_t> firsts(const std::vector<UnitPair>& pairs) {
  std::vector<int64_t> out;
  for (const auto& p : pairs) out.push_back(p.a);
  return out;
}

}  // namespace

ZooWorld::ZooWorld(Tensor pictures, Tensor labels, const ZooWorldOptions& options)
    : pictures_(std::move(pictures)), labels_(std::move(labels)), options_(options) {
  require(pictures_.size(0) == labels_.size(0) && options.drawn > 1,
          "zoo world: {} pictures, {} labels, {} drawn", pictures_.size(0), labels_.size(0),
          options.drawn);
}

ZooModel ZooWorld::train(ZooKind kind, uint64_t seed) const {
  return train_zoo_model(kind, pictures_, labels_, options_.training, seed);
}

void ZooWorld::prepare(uint64_t seed) {
  if (world_ && seed_ == seed) return;
  seed_ = seed;
  auto twice = options_.training;
  twice.steps *= 2;
  world_ = InversionWorld{train_generator(pictures_, twice, seed, options_.shift)};
  torch::manual_seed(static_cast<int64_t>(seed) + 50);
  const auto z = torch::randn({options_.drawn, world_->generator.latent});
  const torch::NoGradGuard no_grad;
  drawn_ = world_->generator.run(z).first;
  views_ = view_units([&](const Tensor& some) { return world_->generator.run(some).second; }, z);
  world_->statistics = views_.statistics;
}

ZooFit ZooWorld::fit(ZooKind kind, uint64_t seed) {
  prepare(seed);
  const auto model = view_units(train(kind, seed).maps, drawn_);
  const auto blank =
      view_units(train_zoo_model(kind, pictures_, labels_, {.steps = 0}, seed + 77).maps, drawn_);
  const auto match = match_units(views_, model);
  const auto above = match.above();
  ZooFit out;
  out.generator_units = match.table.size(0), out.units = match.table.size(1);
  out.best = std::ssize(match.best), out.above = std::ssize(above);
  out.blank = std::ssize(match_units(views_, blank).above());
  torch::manual_seed(static_cast<int64_t>(seed) + 60);
  out.rotated = std::ssize(match_units(views_, rotated(model)).above());
  out.mean = mean_score(match.best), out.one_way = mean_score(one_way_best(match.table));
  out.random = match.table.mean().item<double>(), out.threshold = match.threshold;
  out.cka = linear_cka(last_means(views_), last_means(model));
  out.buddies = firsts(match.best), out.sure = firsts(above);
  return out;
}

int64_t ZooWorld::clusters(const std::vector<int64_t>& units, uint64_t seed) {
  if (units.empty()) return 0;
  prepare(seed);
  const auto index = torch::tensor(units, torch::kLong);
  const auto alike = match_units(views_, views_).table;
  const auto of = cluster_units(alike.index_select(0, index).index_select(1, index), 0.5);
  return std::ssize(std::set<int64_t>(of.begin(), of.end()));
}

const InversionWorld& ZooWorld::inversion(uint64_t seed) {
  prepare(seed);
  if (!world_->judge.maps) {
    world_->judge = train(ZooKind::cnn, seed);
    const auto views = view_units(world_->judge.maps, drawn_);
    world_->judge_statistics = views.statistics;
    world_->pairs = match_units(views_, views).above();
    if (std::ssize(world_->pairs) > options_.most_pairs)
      world_->pairs.resize(static_cast<size_t>(options_.most_pairs));
  }
  return *world_;
}

}  // namespace cajal::atlas
