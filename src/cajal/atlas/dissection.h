#pragma once
#include <string>
#include <vector>

#include "cajal/atlas/world_phrases.h"

/// Units named from a fixed list, the rivals of free description: network dissection (the concept
/// with the largest IoU) and compositional explanations (the formula of concepts with it).
/// Sources: Bau et al. 2017, arXiv 1704.05796; Mu, Andreas 2020, arXiv 2006.14032; dossier milan.
namespace cajal::atlas {

/// A concept of the list: which kinds of pixels are of it.
struct ListedConcept {
  std::string name;
  int attribute;  // in the numbering of Attributes
};
/// The 16 attributes of objects and backgrounds, and edges.
const std::vector<ListedConcept>& listed_concepts();

/// What a unit was called: attributes named without NOT, the formula, its IoU over all pictures.
struct Named {
  Attributes attributes;
  std::string formula;
  double iou = 0;
};

/// The attributes in words.
std::vector<std::string> phrases_of(const std::vector<Named>& named);

/// inside f64 [units, kinds]: pixels by kind under each unit's thresholded map over the whole probe
/// set; all f64 [kinds]: pixels by kind. Units whose best IoU is not above `least` stay unnamed.
std::vector<Named> dissect(const torch::Tensor& inside, const torch::Tensor& all,
                           double least = 0.04);

/// Formulas of up to `length` concepts joined by AND, OR, AND NOT, by beam search.
std::vector<Named> explain_by_formulas(const torch::Tensor& inside, const torch::Tensor& all,
                                       int length = 3, int beam = 10);

}  // namespace cajal::atlas
