#include "cajal/layers/ops_cuda.h"

#ifdef CAJAL_CUDA
#include "cajal/layers/ops_cuda_binding.h"

namespace cajal::ops::fused {
namespace {

// Where the kernels find heads [batch, heads, tokens, width]; copies only what they cannot read.
cuda::Heads head_layout(Tensor& t) {
  const auto readable = [](const Tensor& x) {
    if (x.stride(3) != 1 || reinterpret_cast<uintptr_t>(x.data_ptr()) % 16 != 0) return false;
    for (int axis = 0; axis < 3; ++axis)
      if (x.stride(axis) % 8 != 0) return false;
    return true;
  };
  if (!readable(t)) t = t.contiguous();
  return {data(t), t.stride(0), t.stride(1), t.stride(2)};
}

Tensor side_by_side(at::TensorList parts) { return parts.size() == 1 ? parts[0] : at::cat(parts); }

struct ProjectHeads : Function<ProjectHeads> {
  static variable_list forward(AutogradContext* ctx, const Tensor& x, at::TensorList weights,
                               at::TensorList biases, int64_t heads, int64_t kv_heads,
                               const Optional& cosine, const Optional& sine) {
    // q, k and v are parts of one matrix; autograd needs no notion of that, nobody writes to them.
    const at::AutoDispatchBelowADInplaceOrView guard;
    const auto flat = rows_of(x), weight = side_by_side(weights);
    const auto joint = biases.empty() ? at::mm(flat, weight.t())
                                      : at::addmm(side_by_side(biases), flat, weight.t());
    const int64_t width = weight.size(0) / (heads + 2 * kv_heads);
    const cuda::HeadShape shape{x.size(0), x.size(1), static_cast<int>(heads),
                                static_cast<int>(kv_heads), static_cast<int>(width)};
    const auto all = joint.view({shape.batch, shape.tokens, heads + 2 * kv_heads, width});
    Tensor q = all.narrow(2, 0, heads), k = all.narrow(2, heads, kv_heads);
    if (cosine) {
      q = at::empty({shape.batch, shape.tokens, heads, width}, x.options());
      k = at::empty({shape.batch, shape.tokens, kv_heads, width}, x.options());
      cuda::rotate_heads(data(joint), shape, floats(*cosine), floats(*sine), data(q), data(k),
                         stream());
    }
    const auto v = all.narrow(2, heads + kv_heads, kv_heads);
    ctx->save_for_backward({flat, weight, or_undefined(cosine), or_undefined(sine)});
    std::vector<int64_t> outputs;
    for (const auto& part : weights) outputs.push_back(part.size(0));
    ctx->saved_data["outputs"] = outputs;
    ctx->saved_data["biases"] = !biases.empty();
    ctx->saved_data["sizes"] = x.sizes().vec();
    ctx->saved_data["heads"] = heads;
    ctx->saved_data["kv_heads"] = kv_heads;
    return {q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)};
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1];
    const auto sizes = ctx->saved_data["sizes"].toIntVector();
    const auto outputs = ctx->saved_data["outputs"].toIntVector();
    const bool biased = ctx->saved_data["biases"].toBool();
    const int64_t heads = ctx->saved_data["heads"].toInt(),
                  kv_heads = ctx->saved_data["kv_heads"].toInt(), columns = weight.size(0);
    const cuda::HeadShape shape{sizes[0], sizes[1], static_cast<int>(heads),
                                static_cast<int>(kv_heads),
                                static_cast<int>(columns / (heads + 2 * kv_heads))};
    const auto joint = at::empty({x.size(0), columns}, x.options());
    const auto d_bias = biased ? at::empty({columns}, x.options()) : Tensor();
    const auto scratch =
        workspace(x, biased ? cuda::column_workspace(x.size(0), static_cast<int>(columns)) : 0);
    cuda::join_heads(head_layout(gradients[0]), head_layout(gradients[1]),
                     head_layout(gradients[2]), shape, floats(saved[2]), floats(saved[3]),
                     data(joint), data(d_bias), floats(scratch), stream());

    variable_list out = {at::mm(joint, weight).view(sizes)};
    const auto split = [&](const Tensor& whole) {
      int64_t begin = 0;
      for (const int64_t count : outputs) {
        out.push_back(outputs.size() == 1 ? whole : whole.narrow(0, begin, count));
        begin += count;
      }
    };
    split(weight_gradient(joint, x, !weight.is_contiguous()));
    if (biased) split(d_bias);
    out.resize(out.size() + 4);  // head counts and tables have no gradient
    return out;
  }
};

}  // namespace

bool fits_heads(const Tensor& x, int64_t width, const Tensor& cosine) {
  return fits_rows(x) && width % 8 == 0 &&
         (!cosine.defined() || (width % 16 == 0 && cosine.size(1) == width / 2));
}

Heads project_heads(const Tensor& x, const std::vector<Tensor>& weights,
                    const std::vector<Tensor>& biases, int64_t heads, int64_t kv_heads,
                    const Tensor& cosine, const Tensor& sine) {
  std::vector<Tensor> weight, bias;
  bool biased = false;
  for (const auto& b : biases) biased = biased || b.defined();
  for (size_t i = 0; i < weights.size(); ++i) {
    weight.push_back(weights[i].to(torch::kBFloat16));
    if (biased)
      bias.push_back(biases[i].defined() ? prepared(biases[i])
                                         : at::zeros({weights[i].size(0)}, x.options()));
  }
  const auto out = ProjectHeads::apply(x, at::TensorList(weight), at::TensorList(bias), heads,
                                       kv_heads, optional(cosine), optional(sine));
  return {out[0], out[1], out[2]};
}

}  // namespace cajal::ops::fused
#endif
