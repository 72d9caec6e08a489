#include "cajal/surgery/moments.h"

#include "cajal/core/error.h"
#include "cajal/surgery/inputs.h"
#include "cajal/surgery/split.h"

namespace cajal::surgery {

std::vector<Moments> measure_moments(lm::Transformer& model, std::span<const int32_t> ids,
                                     int64_t tokens) {
  const torch::NoGradGuard no_grad;
  std::vector<Moments> out(model->blocks.size());
  const auto moment = [](const torch::Tensor& t) {
    return t.t().mm(t) / static_cast<double>(t.size(0));
  };
  visit_inputs(model, ids, tokens, [&](size_t l, const torch::Tensor& x) {
    out[l] = {moment(x), moment(activations(model->config, neuron_rows(model->blocks[l].ffn), x))};
  });
  return out;
}

Factors low_rank(const torch::Tensor& matrix, int64_t rank, const torch::Tensor& moment) {
  require(rank >= 1 && rank <= std::min(matrix.size(0), matrix.size(1)),
          "low rank: rank {} of a matrix {}", rank, shape_text(matrix.sizes()));
  const torch::NoGradGuard no_grad;
  auto seen = matrix.to(torch::kFloat);
  torch::Tensor whitening;  // lower L with L Lᵀ = the moment
  if (moment.defined()) {
    require(
        moment.dim() == 2 && moment.size(0) == matrix.size(1) && moment.size(1) == matrix.size(1),
        "low rank: moment {} of a matrix {}", shape_text(moment.sizes()),
        shape_text(matrix.sizes()));
    // Features that hardly occur stay invertible.
    const double little = 1e-4 * moment.diagonal().mean().item<double>() + 1e-12;
    whitening = torch::linalg_cholesky(moment + little * torch::eye(moment.size(0)));
    seen = seen.mm(whitening);
  }
  const auto [u, s, v] = torch::linalg_svd(seen, /*full_matrices=*/false);
  // Half the root of each singular value goes to each factor, so that neither rounds badly.
  const auto root = s.slice(0, 0, rank).sqrt();
  auto right = root.unsqueeze(1) * v.slice(0, 0, rank);
  if (whitening.defined())  // right L⁻¹
    right = torch::linalg_solve(whitening.t(), right.t()).t();
  return {u.slice(1, 0, rank) * root, right.contiguous()};
}

}  // namespace cajal::surgery
