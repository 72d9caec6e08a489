#include "cajal/atlas/planted_readout.h"

#include <cmath>

#include "cajal/core/error.h"

namespace cajal::atlas {

PlantedReadout plant_readout(const PlantedReadoutOptions& o) {
  constexpr auto kind = PlantedReadout::of_a_kind;
  require(o.null_directions > 0 && o.width > o.null_directions + 2 && o.neurons > 2 * kind &&
              o.vocabulary > 1 && o.tokens > 0,
          "a planted readout of width {}, {} null directions and {} neurons has no room for {}",
          o.width, o.null_directions, o.neurons, 2 * kind);
  PlantedReadout p;
  auto random = torch::randn({o.width, o.width}, torch::kDouble);
  if (o.layer_norm) random.select(1, 0).fill_(1);  // the mean direction: written and read by none
  const auto q = std::get<0>(torch::linalg_qr(random));
  const auto frame = q.slice(1, o.layer_norm ? 1 : 0).t().to(torch::kFloat);
  const auto null = frame.slice(0, 0, o.null_directions);
  const auto e = frame[o.null_directions], seen = frame.slice(0, o.null_directions + 1);
  for (int64_t i = 0; i < o.vocabulary; ++i) p.counts.push_back(1'000'000 / (i + 10));
  p.unigram = unigram_direction(p.counts);
  const auto b = p.unigram.to(torch::kFloat);
  auto mixed = torch::randn({seen.size(0), o.vocabulary});
  mixed = mixed - torch::outer(torch::mv(mixed, b), b);  // only e moves the unigram direction
  const double root = std::sqrt(static_cast<double>(o.vocabulary));
  p.readout.unembed = torch::mm(seen.t(), mixed) * 0.1 + torch::outer(e, b) * root;
  p.readout.bias = torch::zeros({o.vocabulary});
  p.readout.centred = o.layer_norm;
  const auto ordinary = torch::mm(torch::randn({o.neurons, seen.size(0)}), seen);
  p.readout.value = ordinary / ordinary.norm(2, 1, true);
  for (int64_t n = 0; n < kind; ++n) {
    p.readout.value[n].copy_(o.length * null[n % o.null_directions]);
    p.readout.value[kind + n].copy_((n % 2 ? -1 : 1) * e);
  }
  p.stream.activations = torch::randn({o.tokens, o.neurons}).clamp_min(0);
  const auto repeat = torch::rand({o.tokens, 1}) < 0.5;  // the entropy neurons follow repeats
  p.stream.activations.slice(1, 0, kind).mul_(repeat.to(torch::kFloat) * 2);
  p.stream.stream =
      torch::randn({o.tokens, o.width}) + torch::mm(p.stream.activations, p.readout.value) * 0.3;
  p.stream.targets = torch::randint(0, o.vocabulary, {o.tokens}, torch::kLong);
  return p;
}

}  // namespace cajal::atlas
