#include "cajal/data/polarity.h"

#include <algorithm>
#include <utility>

#include "cajal/core/error.h"
#include "cajal/core/gzip.h"
#include "cajal/core/random.h"
#include "cajal/data/catalogue.h"

namespace cajal::data {
namespace {

constexpr size_t kLines = 5331, kTrainLines = 4265, kValidLines = 533;

std::vector<std::string> read_class(const std::string& name) {
  const auto path = find_file("sentence-polarity",
                              {name + ".gz", "sentence_polarity/sentence_polarity/" + name, name});
  const auto text = read_compressed(path, size_t{16} << 20);
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  require(lines.size() == kLines, "{}: {} lines, expected {}", path.string(), lines.size(), kLines);
  return lines;
}

}  // namespace

SentencePolarity read_sentence_polarity(uint64_t seed) {
  auto blame = read_class("rt-polarity.neg"), praise = read_class("rt-polarity.pos");
  Random random(seed);
  shuffle(blame, random);
  shuffle(praise, random);
  SentencePolarity out;
  for (size_t i = 0; i < kLines; ++i) {
    auto& part = i < kTrainLines ? out.train : i < kTrainLines + kValidLines ? out.valid : out.test;
    part.texts.push_back(std::move(blame[i]));
    part.labels.push_back(0);
    part.texts.push_back(std::move(praise[i]));
    part.labels.push_back(1);
  }
  return out;
}

}  // namespace cajal::data
