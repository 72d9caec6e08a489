#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "cajal/core/timing.h"
#include "cajal/data/image_set.h"
#include "cajal/study/study.h"
#include "cajal/surgery/subject_tuning.h"
#include "cajal/surgery/subject_world.h"
#include "cajal/train/diffusion.h"

namespace {
using namespace cajal;
using surgery::NeuronScore;
using surgery::NoiseDraw;
using surgery::Subject;
using surgery::SubjectWorld;
using surgery::TunedPart;
using torch::Tensor;

SubjectWorld find_world(study::Lab& lab) {
  SubjectWorld out;
  out.size = lab.by_scale(20, 20, 28);
  const int64_t side = out.size / 2;
  if (!lab.smoke()) try {
      const auto set = data::read_image_set("fashion-mnist");
      out.items = data::items_of(set.train, side, 2500);
      out.held = data::items_of(set.test, side, 600);
      return out;
    } catch (const Error& absent) {
      lab.not_shown("items of fashion-mnist (generated forms instead)", absent.what());
    }
  out.items = data::generated_items(400, side, 1);
  out.held = data::generated_items(100, side, 2);
  return out;
}

const char *kBase = "base model", *kOwn = "concept neurons: gates",
           *kSoft = "soft gates of all weights", *kTuned = "key and value fine-tuning",
           *kJoint = "union, 100 steps of its entries";

/// Figures of one method, one a subject and seed.
struct Method {
  std::vector<double> drop, subject, likeness, context, drift, bytes, seconds;
};

class Cones {
 public:
  explicit Cones(study::Lab& lab) : lab_(lab), world_(find_world(lab)) {
    seed_everything(1);
    diffusion::TextToImageOptions options;
    options.size = world_.size;
    if (lab.scale() != study::Scale::full) options.channels = {16, 32, 32}, options.blocks = 1;
    if (lab.smoke()) options.channels = {8, 8};
    model_ = diffusion::TextToImage(options);
    schedule_ = diffusion::Schedule(
        {.steps = lab.by_scale<int64_t>(20, 100, 200), .predicts = diffusion::Prediction::picture});
    Random random(1, 2);
    const Stopwatch watch;
    const double loss = train::train_diffusion(
        model_, schedule_,
        [&](int64_t) {
          const auto some = world_.scenes(lab_.by_scale<int64_t>(8, 64, 64), random);
          return std::pair(some.pictures, some.words);
        },
        {.steps = lab.by_scale<int64_t>(4, 1500, 6000), .rate = 2e-3});
    original_ = surgery::snapshot(*model_);
    for (const auto& w : matrices()) weights_ += w.numel();
    lab.note(
        fmt::format("Base model: loss {:.4f}, {:.0f} s of training, {} key and value weights "
                    "in {} matrices.",
                    loss, watch.seconds(), weights_, matrices().size()));
    const auto base = world_.scenes(64, random);
    base_draws_ = draws({base.pictures, base.words, base.pictures, base.words}, 77);
  }

  void mechanics() {
    torch::manual_seed(5);
    auto draw = surgery::draw_noise(make_subject(0, 1), schedule_, 4);
    draw.pictures = draw.pictures.to(torch::kDouble), draw.noise = draw.noise.to(torch::kDouble);
    model_->to(torch::kDouble);
    std::vector<Tensor> gates, way;
    for (const auto& w : matrices()) {
      gates.push_back((torch::rand_like(w) * 0.5 + 0.5).detach());
      way.push_back(torch::randn_like(w).detach());
    }
    const auto found = surgery::gate_gradients(model_, schedule_, draw, gates, 1);
    double along = 0, chain = 0;
    for (size_t m = 0; m < gates.size(); ++m) along += (found[m] * way[m]).sum().item<double>();
    const auto loss_at = [&](double step) {
      const auto kept = surgery::snapshot(*model_);
      for (size_t m = 0; m < gates.size(); ++m)
        matrices()[m].detach().mul_(gates[m] + step * way[m]);
      const double loss = surgery::concept_loss(model_, schedule_, std::vector<NoiseDraw>{draw});
      surgery::restore(*model_, kept);
      return loss;
    };
    const double measured = (loss_at(1e-4) - loss_at(-1e-4)) / 2e-4;
    for (size_t a = 0; a < model_->attentions.size(); ++a) {
      auto& key = model_->attentions[a]->key;
      const auto parameter = key;
      const auto k = torch::ones_like(parameter).detach().requires_grad_(true);
      key = k * parameter;
      const auto g = torch::autograd::grad({surgery::concept_loss(model_, schedule_, draw)}, {k});
      key = parameter;
      const auto own = surgery::gate_gradients(model_, schedule_, draw, {}, 1)[2 * a];
      chain = std::max(chain, (g[0] - own).abs().max().item<double>());
    }
    model_->to(torch::kFloat);
    surgery::restore(*model_, original_);
    lab_.claim("dL/dk against the gate as a leaf of the graph").measured(chain).at_most(1e-6);
    lab_.claim("dL/dk along a direction against finite differences, relative")
        .measured(std::abs(measured / along - 1))
        .at_most(1e-3);
    const auto mask =
        surgery::find_concept_neurons(model_, schedule_, make_subject(0, 1),
                                      {.score = NeuronScore::random, .back_off = false})
            .shut;
    const auto values = surgery::shut(matrices(), mask);
    surgery::restore(matrices(), mask, values);
    bool same = surgery::decode(surgery::encode(mask), "mask") == mask;
    const auto now = surgery::snapshot(*model_);
    for (size_t i = 0; i < now.size(); ++i) same = same && torch::equal(now[i], original_[i]);
    lab_.claim("shut and restored, encoded and decoded: bit by bit").holds(same);
  }

  void run() {
    for (const auto seed : lab_.seeds()) {
      judge_ = surgery::train_judge(
          [&, seed](Random& random) { return world_.scene_for_judge(seed, random); }, world_.size,
          lab_.by_scale<int64_t>(2, 500, 1500), seed);
      std::vector<Subject> subjects;
      std::vector<surgery::IndexLists> masks;
      for (int which = 0; which < SubjectWorld::kSubjects; ++which) {
        subjects.push_back(make_subject(which, seed));
        masks.push_back(compare(subjects.back(), which, seed));
      }
      combine(subjects, masks, seed);
      for (int a = 0; a < 3; ++a)
        overlap_.push_back(surgery::jaccard(masks[static_cast<size_t>(a)],
                                            masks[static_cast<size_t>((a + 1) % 3)]));
    }
    judge();
  }

 private:
  std::vector<Tensor> matrices() { return surgery::key_value_weights(model_); }
  void restore() { surgery::restore(*model_, original_); }

  Tensor draw(const Tensor& words, uint64_t seed) {
    torch::manual_seed(static_cast<int64_t>(seed));
    return diffusion::sample(model_, schedule_, words,
                             torch::randn({words.size(0), 1, world_.size, world_.size}),
                             {.steps = lab_.by_scale<int64_t>(2, 20, 25)});
  }
  Subject make_subject(int which, uint64_t seed) {
    Random random(seed, static_cast<uint64_t>(which) + 50);
    const auto own = world_.pictures_of(which, seed, random);
    const auto prior = world_.captions(which, false, lab_.by_scale<int64_t>(4, 32, 64));
    return {own.pictures, own.words, draw(prior, seed + 900), prior};
  }
  std::vector<NoiseDraw> draws(const Subject& subject, uint64_t seed) const {
    torch::manual_seed(static_cast<int64_t>(seed));
    std::vector<NoiseDraw> out;
    for (int i = 0; i < lab_.by_scale(1, 12, 40); ++i)
      out.push_back(surgery::draw_noise(subject, schedule_, 32));
    return out;
  }
  double loss(const std::vector<NoiseDraw>& on) {
    return surgery::concept_loss(model_, schedule_, on);
  }

  /// All methods on one subject; the mask that the gates found.
  surgery::IndexLists compare(const Subject& subject, int which, uint64_t seed) {
    const auto held_out = draws(subject, seed * 10 + 3);
    const double before = loss(held_out), base_before = loss(base_draws_);
    const auto prompts = world_.captions(which, true, lab_.by_scale<int64_t>(4, 24, 64));
    const auto measure = [&](const std::string& name, int64_t bytes, double seconds) {
      auto& m = methods_[name];
      if (std::find(order_.begin(), order_.end(), name) == order_.end()) order_.push_back(name);
      const auto pictures = draw(prompts, seed + 40);
      m.drop.push_back(before - loss(held_out));
      m.subject.push_back(judge_.share_with(pictures, {world_.word_of(which)}));
      m.likeness.push_back(judge_.likeness(pictures, subject.pictures));
      double obeyed = 0;
      for (int64_t p = 0; p < 4; ++p)
        obeyed += judge_.share_with(pictures.slice(0, p, {}, 4), {data::kFirstPlace + p}) / 4;
      m.context.push_back(obeyed), m.drift.push_back(loss(base_draws_) / base_before - 1);
      m.bytes.push_back(static_cast<double>(bytes)), m.seconds.push_back(seconds);
      if (seed == lab_.seeds()[0]) shown_[name].push_back(pictures.slice(0, 0, 2));
    };
    if (seed == lab_.seeds()[0]) shown_["the subject"].push_back(subject.pictures.slice(0, 0, 2));
    measure(kBase, 0, 0);
    surgery::IndexLists found;
    const auto search = [&](const std::string& name, surgery::ConceptOptions options) {
      torch::manual_seed(static_cast<int64_t>(seed) + 7);
      options.draws = lab_.by_scale<int64_t>(2, 100, 600);
      const Stopwatch watch;
      const auto neurons = surgery::find_concept_neurons(model_, schedule_, subject, options);
      const double seconds = watch.seconds();
      surgery::shut(matrices(), neurons.shut);
      measure(name, std::ssize(surgery::encode(neurons.shut)), seconds);
      restore();
      return neurons;
    };
    const auto by_gates = search(kOwn, {});
    found = by_gates.shut;
    shares_.push_back(static_cast<double>(found.count()) / static_cast<double>(weights_));
    for (size_t m = 0; m < by_gates.gates.size(); ++m)
      matrices()[m].detach().mul_(by_gates.gates[m]);
    measure(kSoft, 4 * weights_, 0);
    restore();
    if (which == 0) dose(found, held_out, prompts, seed), sweep(subject, held_out, prompts, seed);
    search("one-shot t-statistic", {.score = NeuronScore::one_shot});
    const double share = shares_.back();  // of the same size, without backing off
    for (const auto score : {NeuronScore::gradient, NeuronScore::magnitude, NeuronScore::random})
      search(to_name(score), {.score = score, .share = share, .back_off = false});
    for (const auto& [name, part, rate] :
         {std::tuple("full fine-tuning", TunedPart::everything, 5e-4),
          {kTuned, TunedPart::keys_values, 2e-3},
          {"token embedding", TunedPart::token, 2e-2},
          {"LoRA of rank 4", TunedPart::low_rank, 2e-3}}) {
      torch::manual_seed(static_cast<int64_t>(seed) + 8);
      const Stopwatch watch;
      const auto bytes = surgery::tune(model_, schedule_, {subject},
                                       {.part = part,
                                        .steps = lab_.by_scale<int64_t>(1, 80, 400),
                                        .rate = rate,
                                        .words = {world_.word_of(which)}});
      measure(name, bytes, watch.seconds());
      if (part == TunedPart::keys_values) tuned_.push_back(surgery::snapshot(*model_));
      restore();
    }
    return found;
  }

  /// The gates of the mask moved from 1 to 0 and beyond.
  void dose(const surgery::IndexLists& mask, const std::vector<NoiseDraw>& held_out,
            const Tensor& prompts, uint64_t seed) {
    if (!dose_)
      dose_.emplace(lab_.table("the mask's gates at", {"seed", "gate", "L_con", "subject"}));
    for (const double gate : {1.0, 0.75, 0.5, 0.25, 0.0, -0.5}) {
      auto values = surgery::shut(matrices(), mask);
      for (auto& list : values)
        for (auto& v : list) v *= static_cast<float>(gate);
      surgery::restore(matrices(), mask, values);
      dose_->row(seed, gate, loss(held_out),
                 judge_.share_with(draw(prompts, seed + 41), {world_.word_of(0)}));
      restore();
    }
  }

  /// Larger and smaller masks: the smallest that passes, if two in a hundred do not.
  void sweep(const Subject& subject, const std::vector<NoiseDraw>& held_out, const Tensor& prompts,
             uint64_t seed) {
    if (!sweep_)
      sweep_.emplace(lab_.table("how much to shut", {"seed", "share", "keys of it", "fall of L_con",
                                                     "subject seen", "drift of the base loss"}));
    const double before = loss(held_out), base = loss(base_draws_);
    for (const double share : {0.005, 0.01, 0.02, 0.05, 0.1}) {
      torch::manual_seed(static_cast<int64_t>(seed) + 7);
      const auto mask = surgery::find_concept_neurons(
                            model_, schedule_, subject,
                            {.share = share, .draws = lab_.by_scale<int64_t>(2, 60, 300)})
                            .shut;
      int64_t keys = 0;
      for (size_t m = 0; m < mask.indices.size(); m += 2) keys += std::ssize(mask.indices[m]);
      surgery::shut(matrices(), mask);
      sweep_->row(
          seed, static_cast<double>(mask.count()) / static_cast<double>(weights_),
          static_cast<double>(keys) / static_cast<double>(std::max<int64_t>(1, mask.count())),
          before - loss(held_out), judge_.share_with(draw(prompts, seed + 42), {world_.word_of(0)}),
          loss(base_draws_) / base - 1);
      restore();
    }
  }

  /// Several subjects at once: masks joined, with and without tuning, against joined changes.
  void combine(const std::vector<Subject>& subjects, const std::vector<surgery::IndexLists>& masks,
               uint64_t seed) {
    const auto both = [&](int a, int b) {
      const auto prompts = world_.joint_captions(a, b, lab_.by_scale<int64_t>(4, 24, 64));
      return judge_.share_with(draw(prompts, seed + 60), {world_.word_of(a), world_.word_of(b)});
    };
    const size_t first = tuned_.size() - 3;
    for (const auto& [a, b] : {std::pair(0, 1), {1, 2}, {0, 2}}) {
      const auto sa = static_cast<size_t>(a), sb = static_cast<size_t>(b);
      joint_[kBase].push_back(both(a, b));
      const auto mask = surgery::unite(masks[sa], masks[sb]);
      surgery::shut(matrices(), mask);
      joint_["union of masks"].push_back(both(a, b));
      restore();
      torch::manual_seed(static_cast<int64_t>(seed) + 9);
      surgery::tune(model_, schedule_, {subjects[sa], subjects[sb]},
                    {.part = TunedPart::masked,
                     .steps = lab_.by_scale<int64_t>(1, 100, 100),
                     .rate = 2e-2,
                     .mask = mask});
      joint_[kJoint].push_back(both(a, b));
      restore();
      const auto parameters = model_->parameters();
      for (size_t i = 0; i < parameters.size(); ++i)
        parameters[i].detach().add_(tuned_[first + sa][i] + tuned_[first + sb][i] -
                                    2 * original_[i]);
      joint_["sum of key and value changes"].push_back(both(a, b));
      restore();
    }
  }

  void judge();
  void paint();

  study::Lab& lab_;
  SubjectWorld world_;
  diffusion::TextToImage model_{nullptr};
  diffusion::Schedule schedule_;
  surgery::CanvasJudge judge_;
  int64_t weights_ = 0;
  std::vector<Tensor> original_;
  std::vector<std::vector<Tensor>> tuned_;
  std::vector<NoiseDraw> base_draws_;
  std::map<std::string, Method> methods_;
  std::map<std::string, std::vector<double>> joint_;
  std::map<std::string, std::vector<Tensor>> shown_;
  std::vector<std::string> order_;
  std::vector<double> shares_, overlap_;
  std::optional<study::TableWriter> dose_, sweep_;
};

void Cones::judge() {
  auto table = lab_.table("methods, over subjects and seeds",
                          {"method", "fall of L_con", "subject seen", "likeness", "place obeyed",
                           "drift of the base loss", "bytes", "seconds"});
  for (const auto& name : order_) {
    const auto& m = methods_[name];
    table.row(name, study::Figure(m.drop), study::Figure(m.subject), study::Figure(m.likeness),
              study::Figure(m.context), study::Figure(m.drift), study::Figure(m.bytes),
              study::Figure(m.seconds));
  }
  auto joint = lab_.table("two subjects at once", {"method", "both seen"});
  for (const auto& [name, values] : joint_) joint.row(name, study::Figure(values));

  const auto &own = methods_[kOwn], &random = methods_["random"], &base = methods_[kBase];
  const auto mean = [](const std::vector<double>& v) { return study::Figure(v).mean(); };
  const double tuned = mean(methods_[kTuned].drop);
  lab_.claim("share of the key and value weights shut")
      .measured(shares_)
      .in_percent()
      .at_most(0.02);
  lab_.claim("fall of L_con over that of key and value fine-tuning")
      .paper("zeroing alone yields the subject")
      .measured(mean(own.drop) / tuned)
      .in_percent()
      .at_least(0.25);
  for (const char* rival : {"random", "magnitude"})
    lab_.claim(fmt::format("fall of L_con with {} masks as large", rival))
        .measured(methods_[rival].drop)
        .at_most(0);
  std::vector<double> more;
  for (size_t i = 0; i < own.drop.size(); ++i) more.push_back(own.drop[i] - random.drop[i]);
  const study::Figure difference(more);
  const auto n = static_cast<double>(more.size());
  lab_.claim("t of the fall above random masks, paired (1.86: p = 0.05 for 9 pairs)")
      .measured(difference.mean() / (difference.spread() / std::sqrt(n) + 1e-12))
      .at_least(1.86);
  lab_.claim("subject seen, above the base model")
      .paper("comparable to DreamBooth")
      .measured(mean(own.subject) - mean(base.subject))
      .in_percent()
      .at_least(0.15);
  lab_.claim("subject seen, above random masks")
      .measured(mean(own.subject) - mean(random.subject))
      .in_percent()
      .at_least(0.15);
  lab_.claim("drift of the base loss").measured(own.drift).in_percent().at_most(0.05);
  lab_.claim("bytes of a mask over those of the key and value changes in fp32")
      .paper("10 %")
      .measured(mean(own.bytes) / static_cast<double>(4 * weights_))
      .in_percent()
      .at_most(0.1);
  lab_.claim("two subjects, union of masks and 100 steps: both seen")
      .paper("up to four subjects")
      .measured(joint_[kJoint])
      .in_percent()
      .at_least(0.5);
  lab_.claim("binary mask against soft gates: difference of subject seen")
      .paper("robust")
      .measured(std::abs(mean(own.subject) - mean(methods_[kSoft].subject)))
      .in_percent()
      .at_most(0.05);
  lab_.note(
      fmt::format("Masks of two subjects overlap by {:.3f} (Jaccard); union without tuning "
                  "shows both in {:.0f} % of pictures.",
                  mean(overlap_), 100 * mean(joint_["union of masks"])));
  lab_.not_shown("pictures of Stable Diffusion's quality", "no such model ships");
  paint();
}

/// What each method draws, one row a method, two pictures a subject.
void Cones::paint() {
  plot::HeatMap map;
  map.title = "What each method draws (two pictures of each subject)";
  for (const char* name : {"the subject", kBase, "random", kOwn, "full fine-tuning"}) {
    const auto row = torch::cat(shown_[name]).squeeze(1).permute({1, 0, 2}).flatten(1);
    for (int64_t y = 0; y < row.size(0); ++y) {
      map.rows.push_back(y == row.size(0) / 2 ? name : "");
      map.values.emplace_back();
      for (int64_t x = 0; x < row.size(1); ++x)
        map.values.back().push_back(row[y][x].item<double>());
    }
  }
  map.columns.assign(map.values.front().size(), "");
  lab_.plot(map);
}

void run(study::Lab& lab) {
  Cones cones(lab);
  cones.mechanics();
  cones.run();
}

const auto registered = study::add({.slug = "concept-neurons"}, run);
}  // namespace
