#pragma once
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/surgery/concept_neurons.h"
#include "cajal/surgery/subject_tuning.h"
#include "cajal/surgery/subject_world.h"

namespace cajal::surgery {

struct SubjectBenchOptions {
  std::vector<int64_t> channels = {32, 64, 64};  // of the base model
  int64_t blocks = 2;
  int64_t noise_steps = 200;  // of the schedule
  int64_t base_steps = 3000, base_batch = 64;
  double base_rate = 2e-3;
  int64_t judge_steps = 1500;
  int64_t sample_steps = 25;
  int64_t prior = 64;       // pictures of the class that the frozen model draws
  int64_t held_draws = 40;  // batches of noise that L_con is measured on
  int64_t prompts = 64;     // pictures that are judged
};
CAJAL_OPTIONS(SubjectBenchOptions, channels, blocks, noise_steps, base_steps, base_batch, base_rate,
              judge_steps, sample_steps, prior, held_draws, prompts)

/// What a change of the model did for one subject.
struct SubjectScores {
  double drop = 0;      // fall of L_con on noise not seen before
  double seen = 0;      // share of pictures that show the subject, says the judge
  double likeness = 0;  // cosine of the judge's features with those of the subject's pictures
  double obeyed = 0;    // share whose place is that of the caption
  double drift = 0;     // rise of the loss of base scenes, relative
};
CAJAL_OPTIONS(SubjectScores, drop, seen, likeness, obeyed, drift)

/// A text-to-image model of captioned canvases, subjects to teach it, and a judge: what ways of
/// teaching are compared on. The same seed gives the same numbers in any order of use.
/// Source: dossier concept-neurons, "Data" and "Reproduce".
class SubjectBench {
 public:
  /// Trains the base model.
  SubjectBench(SubjectWorld world, const SubjectBenchOptions& options);

  diffusion::TextToImage& model() { return model_; }
  const diffusion::Schedule& schedule() const { return schedule_; }
  const SubjectWorld& world() const { return world_; }
  double base_loss() const { return base_loss_; }
  std::vector<torch::Tensor> weights() { return key_value_weights(model_); }
  int64_t weight_count();
  /// The base model again, bit by bit.
  void restore() { surgery::restore(*model_, original_); }
  const std::vector<torch::Tensor>& original() const { return original_; }

  /// Four pictures of subject `which` and those that the base model draws of its class. The model
  /// must be as it was trained.
  Subject subject(int which, uint64_t seed);
  /// Of the model as it is now, against the base model. `subject` is that of the same seed.
  SubjectScores score(const Subject& subject, int which, uint64_t seed);
  /// L_con on the noise that `score` takes.
  double loss(const Subject& subject, uint64_t seed);
  /// Drawn for captions i64 [pictures, words], from noise that `seed` gives.
  torch::Tensor draw(const torch::Tensor& words, uint64_t seed);
  torch::Tensor prompts(int which) const { return world_.captions(which, true, options_.prompts); }
  /// Share of pictures of both subjects that show both.
  double both_seen(int a, int b, uint64_t seed);
  /// Trained when it is first asked for, from that seed.
  const CanvasJudge& judge(uint64_t seed);

 private:
  double base_loss_of(const Subject& subject, int which, uint64_t seed);

  SubjectWorld world_;
  SubjectBenchOptions options_;
  diffusion::TextToImage model_{nullptr};
  diffusion::Schedule schedule_;
  double base_loss_ = 0, base_at_start_ = 0;
  std::vector<torch::Tensor> original_;
  std::vector<NoiseDraw> base_draws_;
  std::map<std::pair<int, uint64_t>, double> base_losses_;  // of each subject and seed
  std::optional<CanvasJudge> judge_;
  uint64_t judge_seed_ = 0;
};

}  // namespace cajal::surgery
