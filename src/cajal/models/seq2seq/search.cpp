#include <algorithm>
#include <cmath>

#include "cajal/models/seq2seq/seq2seq.h"

namespace cajal::seq2seq {
namespace {

constexpr int64_t kBegin = 1, kEnd = 2;

}  // namespace

std::vector<std::vector<int32_t>> greedy(Seq2Seq& model, const torch::Tensor& source,
                                         int64_t limit) {
  const torch::NoGradGuard no_grad;
  const auto memory = model->encode(source);
  const int64_t batch = source.size(0);
  std::vector<std::vector<int32_t>> out(static_cast<size_t>(batch));
  std::vector<bool> done(out.size(), false);
  DecoderCache cache;
  auto word = torch::full({batch}, kBegin, source.options());
  limit = std::min(limit, model->options.context);
  for (int64_t step = 0; step < limit; ++step) {
    word = model->step(memory, word, cache).argmax(-1);
    const auto said = word.cpu();
    const auto* ids = said.data_ptr<int64_t>();
    bool all = true;
    for (size_t b = 0; b < out.size(); ++b) {
      if (!done[b] && ids[b] == kEnd) done[b] = true;
      if (!done[b]) out[b].push_back(static_cast<int32_t>(ids[b])), all = false;
    }
    if (all) break;
  }
  return out;
}

std::vector<int32_t> beam(Seq2Seq& model, const torch::Tensor& source, int64_t limit, int64_t beams,
                          double penalty) {
  require(source.size(0) == 1 && beams > 0, "beam search takes one sentence and at least one beam");
  const torch::NoGradGuard no_grad;
  auto memory = model->encode(source.expand({beams, -1}));
  const auto scaled = [&](double score, size_t length) {
    return score / std::pow((5.0 + static_cast<double>(length)) / 6, penalty);
  };
  struct Path {
    std::vector<int32_t> words;
    double score;
  };
  std::vector<Path> paths(static_cast<size_t>(beams), Path{{}, -INFINITY});
  paths[0].score = 0;  // all begin alike: only one of them counts at first
  Path best{{}, -INFINITY};
  DecoderCache cache;
  auto word = torch::full({beams}, kBegin, source.options());
  limit = std::min(limit, model->options.context);
  for (int64_t step = 0; step < limit; ++step) {
    const auto odds = torch::log_softmax(model->step(memory, word, cache), -1).cpu();
    std::vector<double> before;
    for (const auto& path : paths) before.push_back(path.score);
    const auto total = odds.to(torch::kDouble) + torch::tensor(before, torch::kDouble).unsqueeze(1);
    const auto [scores, places] = total.flatten().topk(2 * beams);
    std::vector<Path> next;
    std::vector<int64_t> order, words;
    for (int64_t i = 0; i < 2 * beams && std::ssize(next) < beams; ++i) {
      const int64_t place = places[i].item<int64_t>(), from = place / odds.size(1),
                    id = place % odds.size(1);
      const double score = scores[i].item<double>();
      const auto& path = paths[static_cast<size_t>(from)];
      if (id == kEnd) {
        if (scaled(score, path.words.size() + 1) > best.score)
          best = {path.words, scaled(score, path.words.size() + 1)};
        continue;
      }
      next.push_back({path.words, score});
      next.back().words.push_back(static_cast<int32_t>(id));
      order.push_back(from), words.push_back(id);
    }
    paths = std::move(next);
    if (paths.empty() || scaled(paths[0].score, static_cast<size_t>(limit)) < best.score) break;
    cache.select(torch::tensor(order, torch::kLong).to(source.device()));
    word = torch::tensor(words, torch::kLong).to(source.device());
  }
  return best.words.empty() && !paths.empty() ? paths[0].words : best.words;
}

}  // namespace cajal::seq2seq
