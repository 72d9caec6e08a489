#include "cajal/math/product_quantizer.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cajal/core/error.h"

namespace cajal::math {
namespace {

constexpr double kLeastDistance = 1e-5;

/// Codewords with the features first, [spaces, width, codewords], so that loops over codewords are
/// loops over neighbours.
template <class T>
std::vector<T> turned(const T* codebooks, const Codebooks& shape) {
  std::vector<T> out(static_cast<size_t>(shape.spaces * shape.codewords * shape.width));
  T* to = out.data();
  for (int64_t s = 0; s < shape.spaces; ++s, codebooks += shape.codewords * shape.width)
    for (int64_t t = 0; t < shape.width; ++t)
      for (int64_t j = 0; j < shape.codewords; ++j) *to++ = codebooks[j * shape.width + t];
  return out;
}

// L1 distances of one sub-vector to all codewords (features first); returns the nearest.
template <class T>
int64_t distances(const T* z, const T* by_feature, const Codebooks& shape, T* out) {
  const int64_t count = shape.codewords;
  std::fill_n(out, count, T{0});
  for (int64_t t = 0; t < shape.width; ++t, by_feature += count)
    for (int64_t j = 0; j < count; ++j) out[j] += std::abs(z[t] - by_feature[j]);
  return std::min_element(out, out + count) - out;
}

// One sub-vector's share of the loss and of its gradients; `scale` is 1 / elements.
template <class T>
class SubVector {
 public:
  explicit SubVector(const Codebooks& shape)
      : shape_(shape),
        distance_(static_cast<size_t>(shape.codewords)),
        p_(distance_.size()),
        slope_(distance_.size()),
        mixed_(static_cast<size_t>(shape.width)),
        pull_(mixed_.size()) {}

  double add(const T* z, const T* codewords, const T* by_feature, T scale, T* grad_z,
             T* grad_codewords) {
    const int64_t width = shape_.width;
    const int64_t near = distances(z, by_feature, shape_, distance_.data());
    mix(codewords);
    const T* const quantised = codewords + near * width;
    double loss = 0;
    for (int64_t t = 0; t < width; ++t) {
      const T soft = mixed_[at(t)] - quantised[t], hard = z[t] - quantised[t];
      loss += static_cast<double>(soft * soft + hard * hard) * static_cast<double>(scale);
      pull_[at(t)] = 2 * scale * soft;
      grad_codewords[near * width + t] -= 2 * scale * (soft + hard);
      if (grad_z) grad_z[t] += 2 * scale * hard;
    }
    through_distances(z, codewords, by_feature, grad_z, grad_codewords);
    return loss;
  }

 private:
  static size_t at(int64_t i) { return static_cast<size_t>(i); }

  // p_j ~ 1 / distance_j and the mixture of codewords.
  void mix(const T* codewords) {
    T total = 0;
    for (size_t j = 0; j < p_.size(); ++j)
      total += p_[j] = 1 / std::max(distance_[j], static_cast<T>(kLeastDistance));
    std::fill(mixed_.begin(), mixed_.end(), T{0});
    for (int64_t j = 0; j < shape_.codewords; ++j) {
      p_[at(j)] /= total;
      for (int64_t t = 0; t < shape_.width; ++t)
        mixed_[at(t)] += p_[at(j)] * codewords[j * shape_.width + t];
    }
  }

  void through_distances(const T* z, const T* codewords, const T* by_feature, T* grad_z,
                         T* grad_codewords) {
    const int64_t width = shape_.width, count = shape_.codewords;
    std::fill(slope_.begin(), slope_.end(), T{0});
    for (int64_t t = 0; t < width; ++t)
      for (int64_t j = 0; j < count; ++j) slope_[at(j)] += pull_[at(t)] * by_feature[t * count + j];
    T mean = 0;
    for (int64_t j = 0; j < count; ++j) {
      mean += p_[at(j)] * slope_[at(j)];
      for (int64_t t = 0; t < width; ++t) grad_codewords[j * width + t] += p_[at(j)] * pull_[at(t)];
    }
    // p_j is a softmax of -ln distance_j.
    for (int64_t j = 0; j < shape_.codewords; ++j) {
      if (distance_[at(j)] <= static_cast<T>(kLeastDistance)) continue;
      const T d = -p_[at(j)] * (slope_[at(j)] - mean) / distance_[at(j)];
      for (int64_t t = 0; t < width; ++t) {
        const T difference = z[t] - codewords[j * width + t];
        const T sign = static_cast<T>((difference > 0) - (difference < 0));
        if (grad_z) grad_z[t] += d * sign;
        grad_codewords[j * width + t] -= d * sign;
      }
    }
  }

  Codebooks shape_;
  std::vector<T> distance_, p_, slope_, mixed_, pull_;
};

}  // namespace

template <class T>
void nearest_codewords(const T* z, int64_t rows, const T* codebooks, const Codebooks& shape,
                       uint8_t* codes) {
  std::vector<T> distance(static_cast<size_t>(shape.codewords));
  const auto by_feature = turned(codebooks, shape);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t s = 0; s < shape.spaces; ++s, z += shape.width)
      *codes++ = static_cast<uint8_t>(distances(
          z, by_feature.data() + s * shape.codewords * shape.width, shape, distance.data()));
}

template <class T>
double quantisation_loss(const T* z, int64_t rows, const T* codebooks, const Codebooks& shape,
                         T* grad_z, T* grad_codebooks) {
  SubVector<T> one(shape);
  const T scale = T{1} / static_cast<T>(std::max<int64_t>(1, rows * shape.spaces * shape.width));
  const auto by_feature = turned(codebooks, shape);
  double loss = 0;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t s = 0; s < shape.spaces; ++s) {
      const int64_t book = s * shape.codewords * shape.width;
      const int64_t at = (r * shape.spaces + s) * shape.width;
      loss += one.add(z + at, codebooks + book, by_feature.data() + book, scale,
                      grad_z ? grad_z + at : nullptr, grad_codebooks + book);
    }
  return loss;
}

template <class T>
void fit_codebooks(const T* z, int64_t rows, const Codebooks& shape, int64_t rounds, Random& random,
                   T* codebooks) {
  require(rows > 0, "product quantiser: no rows to fit codebooks to");
  const int64_t width = shape.width, row = shape.spaces * width;
  std::vector<T> distance(static_cast<size_t>(shape.codewords));
  for (int64_t s = 0; s < shape.spaces; ++s) {
    T* const book = codebooks + s * shape.codewords * width;
    const T* const first = z + s * width;
    for (int64_t j = 0; j < shape.codewords; ++j) {
      const auto drawn = static_cast<int64_t>(random.below(static_cast<uint64_t>(rows)));
      std::copy_n(first + drawn * row, width, book + j * width);
    }
    for (int64_t round = 0; round < rounds; ++round) {
      std::vector<double> sum(static_cast<size_t>(shape.codewords * width));
      std::vector<int64_t> number(static_cast<size_t>(shape.codewords));
      const auto by_feature = turned(book, {1, shape.codewords, width});
      for (int64_t r = 0; r < rows; ++r) {
        const T* const one = first + r * row;
        const int64_t near = distances(one, by_feature.data(), shape, distance.data());
        ++number[static_cast<size_t>(near)];
        for (int64_t t = 0; t < width; ++t)
          sum[static_cast<size_t>(near * width + t)] += static_cast<double>(one[t]);
      }
      for (int64_t j = 0; j < shape.codewords * width; ++j)
        if (const int64_t n = number[static_cast<size_t>(j / width)]; n > 0)
          book[j] = static_cast<T>(sum[static_cast<size_t>(j)] / static_cast<double>(n));
    }
  }
}

#define CAJAL_PRODUCT_QUANTIZER(T)                                                             \
  template void nearest_codewords<T>(const T*, int64_t, const T*, const Codebooks&, uint8_t*); \
  template double quantisation_loss<T>(const T*, int64_t, const T*, const Codebooks&, T*, T*); \
  template void fit_codebooks<T>(const T*, int64_t, const Codebooks&, int64_t, Random&, T*);
CAJAL_PRODUCT_QUANTIZER(float)
CAJAL_PRODUCT_QUANTIZER(double)
#undef CAJAL_PRODUCT_QUANTIZER

}  // namespace cajal::math
