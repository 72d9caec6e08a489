#pragma once
#include <cmath>
#include <string>

#include "cajal/core/error.h"
#include "cajal/core/torch.h"

namespace cajal::testing {

/// What `f` throws as an Error, or "no error".
template <class F>
std::string message(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

/// max |a - b|, or infinity where the shapes differ.
inline double difference(const torch::Tensor& a, const torch::Tensor& b) {
  return a.sizes() == b.sizes() ? (a - b).abs().max().item<double>() : INFINITY;
}

}  // namespace cajal::testing
