#include "cajal/math/phrases.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "cajal/core/error.h"

namespace cajal::math {
namespace {

std::map<Phrase, int64_t> grams(const Phrase& phrase, int64_t n) {
  std::map<Phrase, int64_t> out;
  for (int64_t i = 0; i + n <= std::ssize(phrase); ++i)
    ++out[Phrase(phrase.begin() + i, phrase.begin() + i + n)];
  return out;
}

void check(size_t outputs, size_t references) {
  require(outputs > 0 && outputs == references, "phrases: {} outputs for {} sets of references",
          outputs, references);
}

}  // namespace

double bleu(const std::vector<Phrase>& outputs, const std::vector<std::vector<Phrase>>& references,
            int64_t n) {
  check(outputs.size(), references.size());
  require(n >= 1 && n <= 4, "bleu: order {}, expected 1 to 4", n);
  double length = 0, wanted = 0;
  for (size_t i = 0; i < outputs.size(); ++i) {
    require(!references[i].empty(), "bleu: phrase {} has no reference", i);
    const auto own = std::ssize(outputs[i]);
    int64_t nearest = std::ssize(references[i][0]);
    for (const auto& r : references[i]) {
      const auto far = std::abs(std::ssize(r) - own), best = std::abs(nearest - own);
      if (far < best || (far == best && std::ssize(r) < nearest)) nearest = std::ssize(r);
    }
    length += static_cast<double>(own), wanted += static_cast<double>(nearest);
  }
  double logs = 0, smooth = 1;
  bool any = false;
  for (int64_t order = 1; order <= n; ++order) {
    double hits = 0, total = 0;
    for (size_t i = 0; i < outputs.size(); ++i) {
      std::map<Phrase, int64_t> most;
      for (const auto& r : references[i])
        for (const auto& [gram, count] : grams(r, order)) most[gram] = std::max(most[gram], count);
      for (const auto& [gram, count] : grams(outputs[i], order)) {
        total += static_cast<double>(count);
        const auto it = most.find(gram);
        if (it != most.end()) hits += static_cast<double>(std::min(count, it->second));
      }
    }
    if (total == 0) return 0;
    any = any || hits > 0;
    if (hits == 0) smooth *= 2, hits = 1 / smooth;
    logs += std::log(hits / total) / static_cast<double>(n);
  }
  if (!any) return 0;
  return 100 * std::exp(logs + (length >= wanted ? 0 : 1 - wanted / length));
}

double rouge_l(const Phrase& output, const Phrase& reference) {
  if (output.empty() || reference.empty()) return output.empty() && reference.empty() ? 1 : 0;
  std::vector<int64_t> row(reference.size() + 1, 0);
  for (const auto word : output) {
    int64_t diagonal = 0;
    for (size_t j = 1; j < row.size(); ++j) {
      const int64_t above = row[j];
      row[j] = word == reference[j - 1] ? diagonal + 1 : std::max(row[j], row[j - 1]);
      diagonal = above;
    }
  }
  return 2 * static_cast<double>(row.back()) /
         static_cast<double>(output.size() + reference.size());
}

double rouge_l(const std::vector<Phrase>& outputs,
               const std::vector<std::vector<Phrase>>& references) {
  check(outputs.size(), references.size());
  double sum = 0;
  for (size_t i = 0; i < outputs.size(); ++i) {
    double best = 0;
    for (const auto& r : references[i]) best = std::max(best, rouge_l(outputs[i], r));
    sum += best;
  }
  return sum / static_cast<double>(outputs.size());
}

BertScore bert_score(const torch::Tensor& output, const torch::Tensor& reference) {
  require(output.dim() == 2 && reference.dim() == 2 && output.size(0) > 0 &&
              reference.size(0) > 0 && output.size(1) == reference.size(1),
          "bert_score: embeddings are {} and {}, expected [words, width] of one width",
          shape_text(output.sizes()), shape_text(reference.sizes()));
  const auto unit = [](const torch::Tensor& x) { return x / x.norm(2, -1, true).clamp_min(1e-12); };
  const auto cosine = torch::matmul(unit(output), unit(reference).t()).to(torch::kDouble);
  BertScore out;
  out.precision = cosine.amax(1).mean().item<double>();
  out.recall = cosine.amax(0).mean().item<double>();
  const double sum = out.precision + out.recall;
  out.f1 = sum > 0 ? 2 * out.precision * out.recall / sum : 0;
  return out;
}

}  // namespace cajal::math
