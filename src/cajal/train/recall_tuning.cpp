#include "cajal/train/recall_tuning.h"

#include <algorithm>

#include "cajal/core/error.h"

namespace cajal::train {
namespace {

constexpr uint64_t kJudged = uint64_t{1} << 40;  // where the sequences begin that judge

std::pair<torch::Tensor, torch::Tensor> sequences(const data::AssocRecallOptions& options,
                                                  uint64_t first, int64_t count) {
  auto ids = torch::empty({count, options.tokens}, torch::kLong), answers = ids.clone();
  for (int64_t i = 0; i < count; ++i) {
    const auto one = data::assoc_recall(options, first + static_cast<uint64_t>(i));
    std::copy(one.ids.begin(), one.ids.end(), ids[i].data_ptr<int64_t>());
    std::copy(one.answers.begin(), one.answers.end(), answers[i].data_ptr<int64_t>());
  }
  return {ids, answers};
}

}  // namespace

TuningBatch recall_batches(const data::AssocRecallOptions& options, int64_t batch, uint64_t seed) {
  require(batch > 0, "assoc-recall: {} sequences a step", batch);
  return [=](int64_t step) {
    const auto first = seed * 1'000'003 + static_cast<uint64_t>(step * batch);
    const auto [ids, answers] = sequences(options, first, batch);
    return std::pair{ids, answers.masked_fill(answers.lt(0), -100)};
  };
}

double recalled(lm::Adapted& model, const data::AssocRecallOptions& options, int64_t count) {
  require(count > 0, "assoc-recall: {} sequences to judge on", count);
  const torch::NoGradGuard no_grad;
  int64_t right = 0, asked = 0;
  for (int64_t begin = 0; begin < count; begin += 64) {
    const auto [ids, answers] = sequences(options, kJudged + static_cast<uint64_t>(begin),
                                          std::min<int64_t>(64, count - begin));
    const auto said = model->forward(ids).argmax(-1).view_as(answers);
    right += said.eq(answers).sum().item<int64_t>();
    asked += answers.ge(0).sum().item<int64_t>();
  }
  return static_cast<double>(right) / static_cast<double>(asked);
}

}  // namespace cajal::train
