#include "cajal/atlas/dissection.h"

#include <algorithm>
#include <bitset>

#include "cajal/core/error.h"

namespace cajal::atlas {
namespace {

using torch::Tensor;
using Kinds = std::bitset<static_cast<size_t>(data::kWorldPixelKinds)>;

Meaning meaning_of(int attribute) {
  if (attribute < kColours) return {.shape = attribute};
  if (attribute < kTextures) return {.colour = attribute - kColours};
  if (attribute < kGrounds) return {.texture = attribute - kTextures};
  if (attribute < kEdge) return {.background = attribute - kGrounds};
  return {.edge = true};
}

const std::vector<Kinds>& concept_kinds() {
  static const auto all = [] {
    std::vector<Meaning> meanings;
    for (int a = 0; a < kAttributes; ++a) meanings.push_back(meaning_of(a));
    const auto table = meaning_table(meanings);
    std::vector<Kinds> out(meanings.size());
    for (size_t a = 0; a < out.size(); ++a)
      for (size_t k = 0; k < out[a].size(); ++k)
        out[a][k] = table[static_cast<int64_t>(a)][static_cast<int64_t>(k)].item<float>() > 0;
    return out;
  }();
  return all;
}

struct Formula {
  Kinds kinds;
  Named named;
};

/// |unit and concept| / |unit or concept| from the counts by kind.
double iou(const double* inside, const double* all, const Kinds& kinds) {
  double both = 0, either = 0;
  for (size_t k = 0; k < kinds.size(); ++k) {
    if (kinds[k]) both += inside[k];
    either += kinds[k] ? all[k] : inside[k];
  }
  return either > 0 ? both / either : 0;
}

Formula single(const double* inside, const double* all, size_t a) {
  const auto& kinds = concept_kinds()[a];
  return {kinds, {{static_cast<int>(a)}, listed_concepts()[a].name, iou(inside, all, kinds)}};
}

bool better(const Formula& a, const Formula& b) { return a.named.iou > b.named.iou; }

void keep_best(std::vector<Formula>& formulas, int beam) {
  std::stable_sort(formulas.begin(), formulas.end(), better);
  if (std::ssize(formulas) > beam) formulas.resize(static_cast<size_t>(beam));
}

Formula joined(const Formula& f, size_t a, int how, const double* inside, const double* all) {
  const auto& kinds = concept_kinds()[a];
  const auto& name = listed_concepts()[a].name;
  Formula out = f;
  if (how < 2) out.named.attributes.insert(static_cast<int>(a));
  out.kinds = how == 0 ? f.kinds & kinds : how == 1 ? f.kinds | kinds : f.kinds & ~kinds;
  out.named.formula = "(" + f.named.formula +
                      (how == 0   ? " AND "
                       : how == 1 ? " OR "
                                  : " AND NOT ") +
                      name + ")";
  out.named.iou = iou(inside, all, out.kinds);
  return out;
}

void check(const Tensor& inside, const Tensor& all) {
  require(inside.dim() == 2 && inside.size(1) == data::kWorldPixelKinds && all.dim() == 1 &&
              all.size(0) == data::kWorldPixelKinds && inside.scalar_type() == torch::kDouble &&
              all.scalar_type() == torch::kDouble,
          "dissection: counts are {} and {}, expected doubles [units, {}] and [{}]",
          shape_text(inside.sizes()), shape_text(all.sizes()), data::kWorldPixelKinds,
          data::kWorldPixelKinds);
}

}  // namespace

const std::vector<ListedConcept>& listed_concepts() {
  static const auto all = [] {
    std::vector<ListedConcept> out;
    for (int a = 0; a < kAttributes; ++a)
      out.push_back({a == kEdge ? "edges" : phrase_of(meaning_of(a)), a});
    return out;
  }();
  return all;
}

std::vector<std::string> phrases_of(const std::vector<Named>& named) {
  std::vector<std::string> out;
  for (const auto& one : named) {
    out.emplace_back();
    for (const int a : one.attributes)
      out.back() +=
          (out.back().empty() ? "" : " ") + listed_concepts()[static_cast<size_t>(a)].name;
  }
  return out;
}

std::vector<Named> dissect(const Tensor& inside, const Tensor& all, double least) {
  check(inside, all);
  const auto counts = inside.contiguous(), total = all.contiguous();
  std::vector<Named> out;
  for (int64_t u = 0; u < inside.size(0); ++u) {
    Named best;
    for (size_t a = 0; a < listed_concepts().size(); ++a) {
      auto one = single(counts[u].data_ptr<double>(), total.data_ptr<double>(), a);
      if (one.named.iou > std::max(best.iou, least)) best = std::move(one.named);
    }
    out.push_back(std::move(best));
  }
  return out;
}

std::vector<Named> explain_by_formulas(const Tensor& inside, const Tensor& all, int length,
                                       int beam) {
  check(inside, all);
  require(length > 0 && beam > 0, "formulas: length {} and beam {} must be positive", length, beam);
  const auto counts = inside.contiguous(), total = all.contiguous();
  const auto concepts = listed_concepts().size();
  std::vector<Named> out;
  for (int64_t u = 0; u < inside.size(0); ++u) {
    const auto* own = counts[u].data_ptr<double>();
    const auto* everywhere = total.data_ptr<double>();
    std::vector<Formula> beams;
    for (size_t a = 0; a < concepts; ++a) beams.push_back(single(own, everywhere, a));
    keep_best(beams, beam);
    for (int joins = 1; joins < length; ++joins) {
      auto next = beams;
      for (const auto& f : beams)
        for (size_t a = 0; a < concepts; ++a)
          for (int how = 0; how < 3; ++how)
            if (auto longer = joined(f, a, how, own, everywhere); longer.kinds != f.kinds)
              next.push_back(std::move(longer));
      keep_best(next, beam);
      beams = std::move(next);
    }
    out.push_back(beams.front().named.iou > 0 ? beams.front().named : Named{});
  }
  return out;
}

}  // namespace cajal::atlas
