#include "cajal/study/expert_trials.h"

#include <unistd.h>

#include "cajal/models/lm/checkpoint.h"
#include "cajal/surgery/selection.h"
#include "cajal/surgery/split.h"
#include "cajal/surgery/write.h"

namespace cajal::study {
namespace {

double accuracy(train::SentenceClassifier& of, const data::LabelledTexts& texts,
                const surgery::Selection& selection, const std::string& router, double ratio) {
  lm::Hooks hooks;
  if (router == "random")
    selection.use_random(of.model, ratio, hooks);
  else
    selection.use(of.model, from_name<RouterKind>(router, "router"), ratio);
  return of.accuracy(texts, hooks.empty() ? nullptr : &hooks);
}

}  // namespace

SentenceTrial try_sentences(const data::SentencePolarity& texts,
                            const train::SentenceOptions& preset,
                            const surgery::MoefyOptions& how) {
  SentenceTrial out;
  out.kept.assign(std::size(kTrials), std::vector<double>(std::size(kTrialRatios)));
  train::SentenceClassifier dense(preset, texts.train, how.seed);
  dense.fit();
  out.dense = dense.accuracy(texts.test);
  auto options = preset;
  options.neurons /= 4;
  train::SentenceClassifier narrow(options, texts.train, how.seed);
  narrow.fit();
  out.narrow = narrow.accuracy(texts.test);
  auto text = dense.running_text();
  while (std::ssize(text) < 64) text.push_back(text[text.size() / 2]);  // a window at least
  const auto blocks = dense.model->blocks;
  const auto cut = [&](surgery::ExpertSplit split, RouterKind router) {
    dense.model->blocks = blocks, dense.model->layout = {};
    auto o = how;
    o.split = split, o.router = router;
    return surgery::moefy(dense.model, text, o);
  };
  const auto alike = cut(surgery::ExpertSplit::kmeans, RouterKind::similarity);
  for (const auto split : {surgery::ExpertSplit::kmeans, surgery::ExpertSplit::coactivation,
                           surgery::ExpertSplit::random}) {
    const auto reports = cut(split, RouterKind::mlp);
    if (split == surgery::ExpertSplit::kmeans)
      // Random experts have their share of all gains, and the best of them more than that.
      for (size_t l = 0; l < reports.size(); ++l) {
        out.fired.push_back(reports[l].fired);
        out.ordered = out.ordered && reports[l].captured >= alike[l].captured &&
                      reports[l].captured <= 1 && alike[l].mass > 0.25;
      }
    const surgery::Selection selection(dense.model);
    for (size_t k = 0; k < std::size(kTrials); ++k)
      for (size_t r = 0; r < std::size(kTrialRatios); ++r)
        if (kTrials[k].split == split &&
            (split == surgery::ExpertSplit::kmeans || kTrialRatios[r] == 0.25))
          out.kept[k][r] =
              accuracy(dense, texts.test, selection, kTrials[k].router, kTrialRatios[r]) /
              out.dense;
  }
  return out;
}

SplitTrial try_split(Subject& s, const surgery::MoefyOptions& cut) {
  auto form = s.copy();
  const auto reports = surgery::moefy(form, s.calibration, cut);
  SplitTrial out;
  for (const auto& r : reports) {
    out.captured += r.captured / static_cast<double>(reports.size());
    out.mass += r.mass / static_cast<double>(reports.size());
  }
  const surgery::Selection selection(form);
  const auto measure = [&](RouterKind router, double ratio) {
    selection.use(form, router, ratio);
    out.kept.push_back({router, ratio, s.bits_per_byte(form)});
  };
  measure(RouterKind::oracle, 0.25), measure(RouterKind::mlp, 0.25);
  if (cut.split != surgery::ExpertSplit::kmeans) return out;
  measure(RouterKind::similarity, 0.25), measure(RouterKind::mlp, 0.2);
  for (const double ratio : {0.1, 0.5})
    measure(RouterKind::oracle, ratio), measure(RouterKind::mlp, ratio);
  lm::Hooks hooks;
  selection.use_random(form, 0.25, hooks);
  out.random = s.bits_per_byte(form, &hooks);
  return out;
}

lm::Transformer pruned(const Subject& s, double ratio) {
  auto form = s.copy();
  surgery::split(form,
                 surgery::make_plan("heavy=bf16,rest=drop", s.census,
                                    {.score = surgery::Score::energy, .ratio = ratio}),
                 s.census);
  return form;
}

Decoding decode_cut(Subject& s, surgery::MoefyOptions cut) {
  const auto folder =
      std::filesystem::temp_directory_path() / fmt::format("cajal-cut-{}-{}", s.name, getpid());
  auto form = s.copy();
  cut.training.epochs = 1, cut.tokens = 4096;  // what the router has learned changes no time
  surgery::moefy(form, s.calibration, cut);
  surgery::write(form, lm::find_model(s.name), folder);
  const auto times =
      time_decoding({lm::find_model(s.name), folder}, std::span(s.valid).first(64), 7);
  std::filesystem::remove_all(folder);
  return times[1];
}

}  // namespace cajal::study
