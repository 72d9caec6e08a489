#pragma once
#include <cstdint>

#include "cajal/core/random.h"

/// Product quantisation: a vector is cut into sub-vectors, each named by the nearest of a few
/// codewords. Rows z [rows, spaces x width], codebooks [spaces, codewords, width]; float and
/// double. Source: Jégou et al. 2011 (IEEE TPAMI 33); the L1 distance and the loss as in dossier
/// spt.
namespace cajal::math {

struct Codebooks {
  int64_t spaces, codewords, width;
};

/// The codeword nearest by L1 of each sub-vector, the first of equally near ones: [rows, spaces].
template <class T>
void nearest_codewords(const T* z, int64_t rows, const T* codebooks, const Codebooks& shape,
                       uint8_t* codes);

/// mean (z_w - z_q)² + mean (z - z_q)² over all elements, with z_q the nearest codeword and
/// z_w = Σ p_j C_j, p_j ~ 1 / max(L1 distance, 1e-5). Adds its gradients to grad_z (or not where
/// null) and grad_codebooks.
template <class T>
double quantisation_loss(const T* z, int64_t rows, const T* codebooks, const Codebooks& shape,
                         T* grad_z, T* grad_codebooks);

/// Codebooks from data: sub-vectors drawn at random, then `rounds` of Lloyd's (means of what is
/// nearest by L1; a codeword without any keeps its place). Throws Error without rows.
template <class T>
void fit_codebooks(const T* z, int64_t rows, const Codebooks& shape, int64_t rounds, Random& random,
                   T* codebooks);

}  // namespace cajal::math
