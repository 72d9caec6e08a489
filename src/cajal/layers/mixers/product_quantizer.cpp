#include "cajal/layers/mixers/product_quantizer.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <mutex>

#include "cajal/layers/layer.h"
#include "cajal/math/product_quantizer.h"

namespace cajal {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

constexpr int64_t kRows = 1024;  // of one thread at a time

math::Codebooks shape_of(const torch::Tensor& codebooks) {
  return {codebooks.size(0), codebooks.size(1), codebooks.size(2)};
}

/// The loss with the gradients that it finds on its way.
struct Loss : Function<Loss> {
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& z,
                               const torch::Tensor& codebooks, bool to_z) {
    const int64_t rows = z.size(0);
    auto dz = to_z ? torch::zeros_like(z) : torch::Tensor();
    auto dc = torch::zeros_like(codebooks);
    double loss = 0;
    AT_DISPATCH_FLOATING_TYPES(z.scalar_type(), "product_quantizer", [&] {
      std::mutex mutex;
      at::parallel_for(0, rows, kRows, [&](int64_t begin, int64_t end) {
        // A part's mean counts by its share of the rows.
        const auto part = static_cast<double>(end - begin) / static_cast<double>(rows);
        auto own = torch::zeros_like(dc);
        auto* const to = to_z ? dz.data_ptr<scalar_t>() + begin * z.size(1) : nullptr;
        const double mean = math::quantisation_loss<scalar_t>(
            z.data_ptr<scalar_t>() + begin * z.size(1), end - begin, codebooks.data_ptr<scalar_t>(),
            shape_of(codebooks), to, own.data_ptr<scalar_t>());
        if (to_z) dz.narrow(0, begin, end - begin).mul_(part);
        const std::lock_guard lock(mutex);
        loss += mean * part;
        dc.add_(own, part);
      });
    });
    context->save_for_backward({dz, dc});
    return torch::full({}, loss, z.options());
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    return {saved[0].defined() ? saved[0] * gradients[0] : torch::Tensor(),
            saved[1] * gradients[0],
            {}};
  }
};

}  // namespace

ProductQuantizerImpl::ProductQuantizerImpl(const ProductQuantizerOptions& o) : options(o) {
  require(o.width > 0 && o.code_width > 0 && o.width % o.code_width == 0,
          "product_quantizer: width {} does not divide into sub-spaces of {}", o.width,
          o.code_width);
  require(o.codewords > 0 && o.codewords <= 256,
          "product_quantizer: {} codewords, expected 1 to 256", o.codewords);
  require(o.width / o.code_width <= 250, "product_quantizer: {} sub-spaces, expected at most 250",
          o.width / o.code_width);
  codebooks = register_parameter("codebooks", torch::randn({spaces(), o.codewords, o.code_width}));
}

torch::Tensor ProductQuantizerImpl::rows_of(const torch::Tensor& z) const {
  require(z.dim() > 0 && z.size(-1) == options.width,
          "product_quantizer: z is {}, expected [..., width] with width = {}",
          shape_text(z.sizes()), options.width);
  require(z.device().is_cpu() && z.scalar_type() == codebooks.scalar_type(),
          "product_quantizer: z must be on the CPU and of the codebooks' type");
  return z.reshape({-1, options.width}).contiguous();
}

torch::Tensor ProductQuantizerImpl::codes(const torch::Tensor& z) const {
  const torch::NoGradGuard no_grad;
  const auto rows = rows_of(z);
  auto out = torch::empty({rows.size(0), spaces()}, torch::kByte);
  const auto books = codebooks.contiguous();
  AT_DISPATCH_FLOATING_TYPES(rows.scalar_type(), "product_quantizer", [&] {
    at::parallel_for(0, rows.size(0), kRows, [&](int64_t begin, int64_t end) {
      math::nearest_codewords<scalar_t>(rows.data_ptr<scalar_t>() + begin * rows.size(1),
                                        end - begin, books.data_ptr<scalar_t>(), shape_of(books),
                                        out.data_ptr<uint8_t>() + begin * spaces());
    });
  });
  auto shape = z.sizes().vec();
  shape.back() = spaces();
  return out.view(shape);
}

torch::Tensor ProductQuantizerImpl::loss(const torch::Tensor& z) const {
  return Loss::apply(rows_of(z), codebooks, !options.stop_gradient);
}

void ProductQuantizerImpl::fit(const torch::Tensor& z, int64_t rounds, uint64_t seed) {
  const torch::NoGradGuard no_grad;
  const auto rows = rows_of(z);
  Random random(seed);
  AT_DISPATCH_FLOATING_TYPES(rows.scalar_type(), "product_quantizer", [&] {
    math::fit_codebooks<scalar_t>(rows.data_ptr<scalar_t>(), rows.size(0), shape_of(codebooks),
                                  rounds, random, codebooks.data_ptr<scalar_t>());
  });
}

std::tuple<torch::Tensor, torch::Tensor, torch::Tensor> ProductQuantizerImpl::forward(
    const torch::Tensor& z) const {
  const auto all = codes(z).to(torch::kLong);
  const auto flat = all.view({-1, spaces()}) + torch::arange(spaces()) * options.codewords;
  const auto y = codebooks.view({-1, options.code_width}).index_select(0, flat.flatten());
  return {y.view(z.sizes()), loss(z), all};
}

namespace {
const auto registered_product_quantizer = layers::add<ProductQuantizer>(
    "product_quantizer", "nearest codewords of sub-vectors, and the loss that trains them (SPT)",
    {.example = {.width = 16, .codewords = 4},
     .inputs = {{"z", "[..., width]"}},
     .outputs = {{"y", "[..., width]"},
                 {"loss", "[]"},
                 {.name = "codes", .shape = "[..., spaces]", .below = "codewords"}},
     .axes = {.sizes = {{"spaces", 2}}, .rest = {}}});
}  // namespace
}  // namespace cajal
