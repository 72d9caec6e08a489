#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// How close translations come to their references.
namespace cajal::math {

/// Corpus BLEU-4 in percent: geometric mean of clipped n-gram precisions, n = 1 to 4, times the
/// brevity penalty; no smoothing, tokens as given. One reference each.
/// Throws Error when there are no sentences, or not as many outputs as references.
/// Source: Papineni et al. 2002.
double bleu(const std::vector<std::vector<int32_t>>& outputs,
            const std::vector<std::vector<int32_t>>& references);

/// chrF in percent: mean over n = 1 to 6 of the F-score (beta 2) of corpus n-grams of bytes, spaces
/// left out. Source: Popović 2015.
double chrf(const std::vector<std::string>& outputs, const std::vector<std::string>& references);

}  // namespace cajal::math
