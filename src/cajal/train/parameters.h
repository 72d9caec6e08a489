#pragma once
#include <string>
#include <vector>

#include "cajal/core/torch.h"

namespace cajal::train {

/// What a parameter is to the optimiser.
enum class Role {
  matrix,  // a hidden weight matrix: muon applies, weight decay applies
  table,   // embeddings, unembeddings, convolution kernels: weight decay applies
  vector,  // biases, gains: neither
};

struct Parameter {
  std::string name;
  torch::Tensor tensor;  // a leaf that requires a gradient
  Role role = Role::vector;
};

/// The module's trainable parameters; role by shape: two axes make a matrix, unless the name says
/// that it embeds ("embed", "vocabulary", "wte", "wpe", "lm_head"), and more than two a table.
std::vector<Parameter> parameters_of(const torch::nn::Module& module);

/// Parameters laid out in one flat fp32 vector, so that clipping, all-reduce and the optimiser each
/// are one pass. The tensors of the model become views of it; with bf16 work, views of a flat bf16
/// copy. Order: matrices by shape, tables, vectors; every slot begins at a multiple of 64.
class FlatParameters {
 public:
  struct Slot {
    Parameter parameter;
    std::vector<int64_t> shape;
    int64_t offset, count;
  };

  /// Throws Error for parameters that are not fp32, contiguous leaves on one device.
  FlatParameters(std::vector<Parameter> parameters, torch::Dtype working);
  FlatParameters(const FlatParameters&) = delete;
  FlatParameters& operator=(const FlatParameters&) = delete;

  const std::vector<Slot>& slots() const { return slots_; }
  int64_t size() const { return values.numel(); }
  int64_t matrices_end() const { return matrices_end_; }  // [0, this): matrices
  int64_t decayed_end() const { return decayed_end_; }    // [0, this): matrices and tables
  bool copies() const { return working.defined(); }

  /// A parameter's part of a flat vector, in the parameter's shape.
  static torch::Tensor part(const torch::Tensor& flat, const Slot& slot);

  /// gradient = factor x the parameters' gradients, or += with `add`; lets go of those.
  void gather(double factor, bool add);
  /// Makes the model compute with `flat` ([size], fp32): values, or their average.
  void show(const torch::Tensor& flat);
  /// Makes the model's tensors fp32 views of `flat`: the end of training.
  void settle(const torch::Tensor& flat);

  torch::Tensor values, gradient;  // fp32 [size]
  torch::Tensor working;           // bf16 [size]; undefined in fp32

 private:
  std::vector<Slot> slots_;
  int64_t matrices_end_ = 0, decayed_end_ = 0;
};

}  // namespace cajal::train
