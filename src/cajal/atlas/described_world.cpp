#include "cajal/atlas/described_world.h"

#include <utility>

namespace cajal::atlas {
namespace {

using torch::Tensor;

// The networks of a seed, in order.
constexpr WorldTask kTasks[] = {WorldTask::shape, WorldTask::colour, WorldTask::texture,
                                WorldTask::autoencoder, WorldTask::vit};
constexpr size_t kColour = 1, kAutoencoder = 3, kVit = 4;

/// One shape a picture; `share` of them carry an initial, the label's or any.
WorldTensors marked_shapes(int64_t count, uint64_t seed, double share, bool random) {
  return world_tensors(data::shape_world(count, seed,
                                         {.most = 1,
                                          .shapes = 4,
                                          .smallest = 8,
                                          .largest = 13,
                                          .noise = 0.12,
                                          .initial_share = share,
                                          .random_initial = random}));
}

}  // namespace

DescribedWorld::DescribedWorld(const DescribedWorldOptions& options)
    : options_(options),
      train_(world_tensors(data::shape_world(options.train, 1))),
      probe_(world_tensors(data::shape_world(options.probe, 2))) {
  const auto kinds = probe_.kinds.slice(0, 0, options_.describing.whole).unsqueeze(0);
  everywhere_ = count_kinds(torch::ones_like(kinds, torch::kBool), kinds)[0];
}

const WorldNet& DescribedWorld::encoder() {
  if (!encoder_)
    encoder_ = train_world_net(WorldTask::all, train_, {.steps = options_.encoder_steps}, 1);
  return *encoder_;
}

DescribedWorld::Seen& DescribedWorld::seen(uint64_t seed) {
  if (seen_ && seen_->seed == seed) return *seen_;
  seen_.reset();
  Seen s{.seed = seed};
  for (const auto task : kTasks) {
    s.nets.push_back(train_world_net(task, train_, {.steps = options_.net_steps}, seed * 31 + 7));
    s.units.push_back(probe(s.nets.back(), encoder(), probe_, options_.describing, seed));
  }
  seed_everything(seed);
  const auto all = join({s.units.begin(), s.units.begin() + kVit});
  const auto order = torch::randperm(all.size());
  std::vector<int64_t> known, unknown;
  for (int64_t i = 0; i < order.size(0); ++i)
    (i < order.size(0) * 4 / 5 ? known : unknown).push_back(order[i].item<int64_t>());
  s.train = all.of(known), s.test = all.of(unknown);
  s.captioner = train_captioner(s.train, options_.captioner);
  return seen_.emplace(std::move(s));
}

std::vector<std::string> DescribedWorld::say(UnitCaptioner& captioner,
                                             const Tensor& features) const {
  return captioner.describe(
      features, {.lambda = options_.lambda, .beam = options_.beam, .length = options_.length});
}

std::vector<DescriberTrial> DescribedWorld::compare(
    DescribedSplit split, uint64_t seed, const std::vector<double>& lambdas,
    const std::vector<caption::Strategy>& strategies) {
  auto& s = seen(seed);
  const TrialOptions trial{lambdas, strategies, options_.beam, options_.length};
  if (split == DescribedSplit::within || split == DescribedSplit::architecture)
    return try_describers(*s.captioner, s.train,
                          split == DescribedSplit::within ? s.test : s.units[kVit], everywhere_,
                          trial);
  const auto out = split == DescribedSplit::network ? kColour : kAutoencoder;
  std::vector<DescribedUnits> rest;
  for (size_t n = 0; n < kVit; ++n)
    if (n != out) rest.push_back(s.units[n]);
  const auto known = join(rest);
  seed_everything(seed + 100 * out);
  auto captioner = train_captioner(known, options_.captioner);
  return try_describers(captioner, known, s.units[out], everywhere_, trial);
}

std::vector<GroupEffect> DescribedWorld::without_groups(uint64_t seed) {
  auto& s = seen(seed);
  Random random(seed, 3);
  return delete_groups(s.nets[0], kTasks[0], s.units[0], say(*s.captioner, s.units[0].features),
                       probe_, random);
}

EditedNet DescribedWorld::edit(uint64_t seed, const std::vector<std::string>& words) {
  auto& s = seen(seed);
  const auto& o = options_;
  const auto pictures = [&](int64_t count, uint64_t stream, double share, bool random) {
    return marked_shapes(count, seed * 100 + stream, share, random);
  };
  const auto valid = pictures(o.held, 2, 0.5, false);
  const auto net = train_world_net(WorldTask::first, pictures(o.edited, 1, 0.5, false),
                                   {.steps = o.edited_steps}, seed + 5);
  const auto units = probe(net, encoder(), valid, o.describing, seed);
  Random random(seed, 9);
  EditedNet out;
  out.edit = edit_by_phrases(net, WorldTask::first, units, say(*s.captioner, units.features), words,
                             valid, pictures(o.held, 3, 0, false), pictures(2 * o.held, 4, 1, true),
                             pictures(2 * o.held, 5, 0, false), {.most = o.deletions}, random);
  const DescribedUnits* sets[] = {&s.test, &s.units[kVit], &units};
  for (const auto* set : sets) {
    const auto said = say(*s.captioner, set->features);
    for (size_t i = 0; i < said.size(); ++i)
      if (set->truth[i].meaning.shape == 4) ++out.letters, out.found += mentions(said[i], words);
  }
  return out;
}

}  // namespace cajal::atlas
