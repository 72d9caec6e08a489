#include "cajal/train/parameters.h"

#include <algorithm>

#include "cajal/core/error.h"
#include "cajal/train/optimizer_cuda.h"

namespace cajal::train {
namespace {

constexpr int64_t kAlignment = 64;  // elements: 128 bytes even in bf16

bool names_a_table(const std::string& name) {
  for (const char* part : {"embed", "vocabulary", "wte", "wpe", "lm_head"})
    if (name.find(part) != std::string::npos) return true;
  return false;
}

}  // namespace

std::vector<Parameter> parameters_of(const torch::nn::Module& module) {
  std::vector<Parameter> out;
  for (const auto& item : module.named_parameters()) {
    if (!item.value().requires_grad()) continue;
    const Role role = item.value().dim() < 2                                ? Role::vector
                      : item.value().dim() > 2 || names_a_table(item.key()) ? Role::table
                                                                            : Role::matrix;
    out.push_back({item.key(), item.value(), role});
  }
  return out;
}

FlatParameters::FlatParameters(std::vector<Parameter> parameters, torch::Dtype work) {
  require(!parameters.empty(), "nothing to train: no parameter requires a gradient");
  std::stable_sort(parameters.begin(), parameters.end(), [](const auto& a, const auto& b) {
    if (a.role != b.role) return a.role < b.role;
    return a.role == Role::matrix &&
           std::lexicographical_compare(a.tensor.sizes().begin(), a.tensor.sizes().end(),
                                        b.tensor.sizes().begin(), b.tensor.sizes().end());
  });
  const auto device = parameters[0].tensor.device();
  int64_t end = 0;
  for (auto& p : parameters) {
    require(p.tensor.is_leaf() && p.tensor.requires_grad() && p.tensor.is_contiguous() &&
                p.tensor.scalar_type() == torch::kFloat &&
                p.tensor.device() == device,
            "parameter '{}': expected a contiguous fp32 leaf that requires a gradient, on {}",
            p.name, device.str());
    auto shape = p.tensor.sizes().vec();
    const int64_t count = p.tensor.numel();
    if (p.role == Role::matrix) matrices_end_ = end + count;
    if (p.role != Role::vector) decayed_end_ = end + count;
    slots_.push_back({std::move(p), std::move(shape), end, count});
    end += (count + kAlignment - 1) / kAlignment * kAlignment;
  }
  const auto aligned = [](int64_t n) { return (n + kAlignment - 1) / kAlignment * kAlignment; };
  matrices_end_ = aligned(matrices_end_);
  decayed_end_ = std::max(matrices_end_, aligned(decayed_end_));

  const torch::NoGradGuard no_gradient;
  const auto options = torch::TensorOptions(device);
  values = torch::zeros({end}, options.dtype(torch::kFloat));
  gradient = torch::zeros({end}, options.dtype(torch::kFloat));
  for (const auto& slot : slots_) part(values, slot).copy_(slot.parameter.tensor);
  if (work != torch::kFloat) working = values.to(work);
  for (const auto& slot : slots_)
    slot.parameter.tensor.set_data(part(copies() ? working : values, slot));
}

torch::Tensor FlatParameters::part(const torch::Tensor& flat, const Slot& slot) {
  return flat.narrow(0, slot.offset, slot.count).view(slot.shape);
}

void FlatParameters::gather(double factor, bool add) {
  const torch::NoGradGuard no_gradient;
  if constexpr (fused::available) {
    if (values.is_cuda()) {
      fused::gather(*this, factor, add);
      return;
    }
  }
  for (const auto& slot : slots_) {
    auto& from = slot.parameter.tensor.mutable_grad();
    auto to = part(gradient, slot);
    if (!add) to.zero_();
    if (from.defined()) to.add_(from, factor);
    from.reset();
  }
}

void FlatParameters::show(const torch::Tensor& flat) {
  const torch::NoGradGuard no_gradient;
  if (copies()) {
    working.copy_(flat);
  } else {
    settle(flat);
  }
}

void FlatParameters::settle(const torch::Tensor& flat) {
  const torch::NoGradGuard no_gradient;
  for (const auto& slot : slots_) slot.parameter.tensor.set_data(part(flat, slot));
}

}  // namespace cajal::train
