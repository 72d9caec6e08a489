#pragma once
#include "cajal/core/torch.h"

/// How alike two representations of the same inputs are.
namespace cajal::math {

/// Linear CKA, ||Xᵀ Y||² / (||Xᵀ X|| ||Yᵀ Y||) of centred x [rows, width], y [rows, other width]:
/// 1 for y = x R, R orthogonal. Throws Error when the rows differ in number.
/// Source: Kornblith et al. 2019, arXiv 1905.00414.
double linear_cka(const torch::Tensor& x, const torch::Tensor& y);

/// Local neighbourhood similarity: mean Jaccard overlap of the k nearest rows (by cosine) of each
/// row in x and in y. Throws Error when the rows differ in number or are not more than k.
double neighbourhood_similarity(const torch::Tensor& x, const torch::Tensor& y, int64_t k = 5);

}  // namespace cajal::math
