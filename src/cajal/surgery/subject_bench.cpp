#include "cajal/surgery/subject_bench.h"

#include "cajal/train/diffusion.h"

namespace cajal::surgery {
namespace {

using torch::Tensor;

diffusion::TextToImage make_model(int64_t size, const SubjectBenchOptions& o) {
  seed_everything(1);
  diffusion::TextToImageOptions options;
  options.size = size, options.channels = o.channels, options.blocks = o.blocks;
  return diffusion::TextToImage(options);
}

std::vector<NoiseDraw> noise_draws(const Subject& subject, const diffusion::Schedule& schedule,
                                   int64_t count, uint64_t seed) {
  torch::manual_seed(static_cast<int64_t>(seed));
  std::vector<NoiseDraw> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(draw_noise(subject, schedule, 32));
  return out;
}

}  // namespace

SubjectBench::SubjectBench(SubjectWorld world, const SubjectBenchOptions& o)
    : world_(std::move(world)),
      options_(o),
      model_(make_model(world_.size, o)),
      schedule_({.steps = o.noise_steps, .predicts = diffusion::Prediction::picture}) {
  Random random(1, 2);
  base_loss_ = train::train_diffusion(model_, schedule_,
                                      [&](int64_t) {
                                        const auto some = world_.scenes(o.base_batch, random);
                                        return std::pair(some.pictures, some.words);
                                      },
                                      {.steps = o.base_steps, .rate = o.base_rate});
  original_ = snapshot(*model_);
  const auto base = world_.scenes(64, random);
  base_draws_ = noise_draws({base.pictures, base.words, base.pictures, base.words}, schedule_,
                            o.held_draws, 77);
  base_at_start_ = concept_loss(model_, schedule_, base_draws_);
}

int64_t SubjectBench::weight_count() {
  int64_t out = 0;
  for (const auto& w : weights()) out += w.numel();
  return out;
}

Tensor SubjectBench::draw(const Tensor& words, uint64_t seed) {
  torch::manual_seed(static_cast<int64_t>(seed));
  return diffusion::sample(model_, schedule_, words,
                           torch::randn({words.size(0), 1, world_.size, world_.size}),
                           {.steps = options_.sample_steps});
}

Subject SubjectBench::subject(int which, uint64_t seed) {
  Random random(seed, static_cast<uint64_t>(which) + 50);
  const auto own = world_.pictures_of(which, seed, random);
  const auto prior = world_.captions(which, false, options_.prior);
  return {own.pictures, own.words, draw(prior, seed + 900), prior};
}

double SubjectBench::loss(const Subject& subject, uint64_t seed) {
  return concept_loss(model_, schedule_,
                      noise_draws(subject, schedule_, options_.held_draws, seed * 10 + 3));
}

double SubjectBench::base_loss_of(const Subject& subject, int which, uint64_t seed) {
  const auto [at, fresh] = base_losses_.try_emplace({which, seed}, 0);
  if (fresh) {
    const auto kept = snapshot(*model_);
    restore();
    at->second = loss(subject, seed);
    surgery::restore(*model_, kept);
  }
  return at->second;
}

SubjectScores SubjectBench::score(const Subject& subject, int which, uint64_t seed) {
  const auto& judge = this->judge(seed);
  const auto pictures = draw(prompts(which), seed + 40);
  SubjectScores out;
  out.seen = judge.share_with(pictures, {world_.word_of(which)});
  out.likeness = judge.likeness(pictures, subject.pictures);
  for (int64_t p = 0; p < 4; ++p)
    out.obeyed += judge.share_with(pictures.slice(0, p, {}, 4), {data::kFirstPlace + p}) / 4;
  out.drift = concept_loss(model_, schedule_, base_draws_) / base_at_start_ - 1;
  out.drop = base_loss_of(subject, which, seed) - loss(subject, seed);
  return out;
}

double SubjectBench::both_seen(int a, int b, uint64_t seed) {
  const auto& judge = this->judge(seed);
  return judge.share_with(draw(world_.joint_captions(a, b, options_.prompts), seed + 60),
                          {world_.word_of(a), world_.word_of(b)});
}

const CanvasJudge& SubjectBench::judge(uint64_t seed) {
  if (!judge_ || judge_seed_ != seed) {
    judge_ = train_judge([&](Random& random) { return world_.scene_for_judge(seed, random); },
                         world_.size, options_.judge_steps, seed);
    judge_seed_ = seed;
  }
  return *judge_;
}

}  // namespace cajal::surgery
