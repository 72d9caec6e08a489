#include "cajal/atlas/world_phrases.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <sstream>

#include "cajal/core/error.h"
#include "cajal/models/caption/captioner.h"

namespace cajal::atlas {
namespace {

using torch::Tensor;
constexpr int64_t kKinds = data::kWorldKinds;

// Each attribute's words, the usual one first.
const std::vector<std::vector<std::string>>& words() {
  static const std::vector<std::vector<std::string>> all = {{"circles", "discs"},
                                                            {"squares", "boxes"},
                                                            {"triangles", "wedges"},
                                                            {"crosses", "pluses"},
                                                            {"letters", "glyphs"},
                                                            {"red", "crimson"},
                                                            {"green", "lime"},
                                                            {"blue", "navy"},
                                                            {"yellow", "golden"},
                                                            {"purple", "violet"},
                                                            {"cyan", "turquoise"},
                                                            {"plain", "solid"},
                                                            {"striped", "stripy"},
                                                            {"dotted", "spotted"},
                                                            {"dark background", "dark ground"},
                                                            {"light background", "light ground"},
                                                            {"edges of", "borders of"}};
  return all;
}

bool fits(const Meaning& m, int64_t kind) {
  if (kind >= 3 * kKinds) return m.background == kind - 3 * kKinds;
  if (m.background >= 0) return false;
  const int64_t place = kind / kKinds, object = kind % kKinds;
  if (m.edge ? place == 0 : place == 2) return false;
  const auto matches = [](int wanted, int64_t is) { return wanted < 0 || wanted == is; };
  return matches(m.shape, object / 18) && matches(m.colour, object / 3 % 6) &&
         matches(m.texture, object % 3);
}

int first_of(int attribute) {
  return attribute < kColours    ? kShapes
         : attribute < kTextures ? kColours
         : attribute < kGrounds  ? kTextures
                                 : kGrounds;
}
int count_of(int first) {
  return first == kShapes ? 5 : first == kColours ? 6 : first == kTextures ? 3 : 2;
}

std::string write(const Attributes& attributes, const std::function<size_t(int)>& pick) {
  const auto word = [&](int a) { return words()[static_cast<size_t>(a)][pick(a)]; };
  std::string out = attributes.contains(kEdge) ? word(kEdge) + " " : "";
  std::string noun = "things", adjectives;
  for (const int sort : {kTextures, kColours})
    for (int a = sort; a < sort + count_of(sort); ++a)
      if (attributes.contains(a)) adjectives += word(a) + " ";
  for (int a = kShapes; a < kColours; ++a)
    if (attributes.contains(a)) noun = word(a);
  for (int a = kGrounds; a < kEdge; ++a)
    if (attributes.contains(a)) noun = word(a);
  return out + adjectives + noun;
}

}  // namespace

Attributes attributes_of(const Meaning& m) {
  Attributes out;
  if (m.shape >= 0) out.insert(kShapes + m.shape);
  if (m.colour >= 0) out.insert(kColours + m.colour);
  if (m.texture >= 0) out.insert(kTextures + m.texture);
  if (m.background >= 0) out.insert(kGrounds + m.background);
  if (m.edge) out.insert(kEdge);
  return out;
}

const std::vector<Meaning>& all_meanings() {
  static const auto all = [] {
    std::vector<Meaning> out;
    for (const bool edge : {false, true})
      for (int shape = -1; shape < 5; ++shape)
        for (int colour = -1; colour < 6; ++colour)
          for (int texture = -1; texture < 3; ++texture)
            out.push_back({shape, colour, texture, -1, edge});
    for (int ground = 0; ground < 2; ++ground) out.push_back({-1, -1, -1, ground, false});
    return out;
  }();
  return all;
}

Tensor meaning_table(const std::vector<Meaning>& meanings) {
  auto out = torch::zeros({std::ssize(meanings), data::kWorldPixelKinds});
  auto* at = out.data_ptr<float>();
  for (const auto& meaning : meanings)
    for (int64_t kind = 0; kind < data::kWorldPixelKinds; ++kind)
      *at++ = fits(meaning, kind) ? 1.0f : 0.0f;
  return out;
}

Tensor count_kinds(const Tensor& masks, const Tensor& kinds) {
  require(
      masks.dim() == 4 && kinds.dim() == 4 && masks.scalar_type() == torch::kBool &&
          kinds.scalar_type() == torch::kShort && kinds.sizes().slice(1) == masks.sizes().slice(1),
      "count kinds: masks {} and kinds {}", shape_text(masks.sizes()), shape_text(kinds.sizes()));
  const int64_t units = masks.size(0), pixels = masks[0].numel();
  const auto on = masks.contiguous(), of = kinds.contiguous();
  auto out = torch::zeros({units, data::kWorldPixelKinds}, torch::kDouble);
  for (int64_t u = 0; u < units; ++u) {
    const bool* mask = on.data_ptr<bool>() + u * pixels;
    const int16_t* kind = of.data_ptr<int16_t>() + (of.size(0) == 1 ? 0 : u * pixels);
    double* count = out.data_ptr<double>() + u * data::kWorldPixelKinds;
    for (int64_t p = 0; p < pixels; ++p)
      if (mask[p]) ++count[kind[p]];
  }
  return out;
}

std::vector<Truth> find_meanings(const Tensor& inside, const Tensor& outside) {
  static const auto table = meaning_table(all_meanings()).to(torch::kDouble).t().contiguous();
  const auto share = [](const Tensor& counts) {
    return torch::matmul(counts / counts.sum(1, true).clamp_min(1), table);
  };
  const auto p = share(inside).clamp_min(1e-9), q = share(outside) + 1e-3;
  const auto [gain, best] = (p * (p / q).log()).max(1);
  std::vector<Truth> out;
  for (int64_t u = 0; u < inside.size(0); ++u) {
    const auto m = best[u].item<int64_t>();
    out.push_back({all_meanings()[static_cast<size_t>(m)], p[u][m].item<double>(),
                   q[u][m].item<double>(), inside[u].sum().item<double>() == 0});
  }
  return out;
}

std::string phrase_of(const Meaning& meaning) {
  return write(attributes_of(meaning), [](int) { return size_t{0}; });
}

std::vector<std::string> annotate(const Meaning& meaning, const AnnotatorOptions& o,
                                  Random& random) {
  std::vector<std::string> out;
  for (int annotator = 0; annotator < o.annotators; ++annotator) {
    Attributes said;
    for (int a : attributes_of(meaning)) {
      if (random.uniform() < o.dropped) continue;
      if (a != kEdge && random.uniform() < o.wrong) {
        const int first = first_of(a), count = count_of(first);
        const auto other = 1 + random.below(static_cast<uint64_t>(count - 1));
        a = first + (a - first + static_cast<int>(other)) % count;
      }
      said.insert(a);
    }
    out.push_back(write(said, [&](int a) {
      const auto others = words()[static_cast<size_t>(a)].size() - 1;
      return random.uniform() < o.synonym ? 1 + random.below(others) : 0;
    }));
  }
  return out;
}

Attributes read_phrase(const std::string& phrase) {
  static const auto known = [] {
    std::map<std::string, int> out;
    for (int a = 0; a < kAttributes; ++a) {
      if (a >= kGrounds && a < kEdge) continue;
      for (const auto& word : words()[static_cast<size_t>(a)])
        out[caption::lemma(word.substr(0, word.find(' ')))] = a;
    }
    out["dark"] = kGrounds, out["light"] = kGrounds + 1;
    return out;
  }();
  std::istringstream stream(phrase);
  Attributes out;
  for (std::string word; stream >> word;)
    if (const auto it = known.find(caption::lemma(word)); it != known.end()) out.insert(it->second);
  return out;
}

double attribute_f1(const Attributes& a, const Attributes& b) {
  if (a.empty() && b.empty()) return 1;
  const auto both = std::count_if(a.begin(), a.end(), [&](int x) { return b.contains(x); });
  return 2 * static_cast<double>(both) / static_cast<double>(a.size() + b.size());
}

}  // namespace cajal::atlas
