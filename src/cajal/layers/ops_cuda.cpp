#include "cajal/layers/ops_cuda.h"

#ifdef CAJAL_CUDA
#include <ATen/cuda/CUDAContext.h>

#include <optional>

#include "cajal/core/error.h"
#include "cajal/kernels/cuda/transformer.h"

namespace cajal::ops::fused {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;
using Optional = std::optional<Tensor>;  // libtorch's way to say that a tensor may be absent

cudaStream_t stream() { return at::cuda::getCurrentCUDAStream().stream(); }

cuda::bf16* data(const Tensor& t) {
  return t.defined() ? reinterpret_cast<cuda::bf16*>(t.data_ptr()) : nullptr;
}
cuda::bf16* data(const Optional& t) { return t ? data(*t) : nullptr; }
float* floats(const Tensor& t) { return t.defined() ? t.data_ptr<float>() : nullptr; }

Optional optional(const Tensor& t) { return t.defined() ? Optional(t) : std::nullopt; }
Tensor or_undefined(const Optional& t) { return t ? *t : Tensor(); }

Tensor workspace(const Tensor& like, int64_t count) {
  return at::empty({count}, like.options().dtype(torch::kFloat));
}

// A parameter as the kernels want it: bf16, contiguous, 16-byte aligned.
Tensor prepared(const Tensor& t) {
  if (!t.defined()) return t;
  auto out = t.to(torch::kBFloat16).contiguous();
  return reinterpret_cast<uintptr_t>(out.data_ptr()) % 16 == 0 ? out : out.clone();
}

Tensor rows_of(const Tensor& x) { return x.reshape({-1, x.size(-1)}).contiguous(); }

Tensor with_last(const Tensor& flat, torch::IntArrayRef sizes, int64_t last) {
  auto shape = sizes.vec();
  shape.back() = last;
  return flat.view(shape);
}

cuda::NormKind kernel_kind(NormKind kind) {
  switch (kind) {
    case NormKind::layer:
      return cuda::NormKind::layer;
    case NormKind::rms:
      return cuda::NormKind::rms;
    case NormKind::rms_one_plus:
      return cuda::NormKind::rms_one_plus;
  }
  fail("add_norm: unknown kind of norm");
}

std::optional<cuda::Law> kernel_law(Activation law) {
  switch (law) {
    case Activation::identity:
      return cuda::Law::identity;
    case Activation::relu:
      return cuda::Law::relu;
    case Activation::gelu:
      return cuda::Law::gelu;
    case Activation::gelu_tanh:
      return cuda::Law::gelu_tanh;
    case Activation::silu:
      return cuda::Law::silu;
    default:
      return std::nullopt;
  }
}

struct AddNorm : Function<AddNorm> {
  static variable_list forward(AutogradContext* ctx, const Tensor& x, const Optional& delta,
                               const Optional& delta_bias, const Optional& weight,
                               const Optional& bias, int64_t kind, double epsilon) {
    const int64_t width = x.size(-1), rows = x.numel() / width;
    const auto y = at::empty(x.sizes(), x.options());
    const auto sum = delta ? at::empty(x.sizes(), x.options()) : x;
    const auto stats = workspace(x, 2 * rows);
    cuda::add_norm(data(x), data(delta), data(delta_bias), data(weight), data(bias),
                   static_cast<cuda::NormKind>(kind), static_cast<float>(epsilon), rows,
                   static_cast<int>(width), data(sum), data(y), floats(stats), stream());
    ctx->save_for_backward({sum, stats, or_undefined(weight)});
    ctx->saved_data["kind"] = kind;
    ctx->saved_data["delta"] = delta.has_value();
    ctx->saved_data["delta_bias"] = delta_bias.has_value();
    ctx->saved_data["bias"] = bias.has_value();
    ctx->set_materialize_grads(false);
    return delta ? variable_list{sum, y} : variable_list{y};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &sum = saved[0], &weight = saved[2];
    const bool has_delta = ctx->saved_data["delta"].toBool();
    const int64_t width = sum.size(-1), rows = sum.numel() / width;
    const auto dsum = has_delta && gradients[0].defined() ? gradients[0].contiguous() : Tensor();
    const auto dy =
        gradients.back().defined() ? gradients.back().contiguous() : at::zeros_like(sum);
    const auto row = [&](bool wanted) {
      return wanted ? at::empty({width}, sum.options()) : Tensor();
    };
    const auto dx = at::empty(sum.sizes(), sum.options());
    const auto d_weight = row(weight.defined()), d_bias = row(ctx->saved_data["bias"].toBool()),
               d_delta_bias = row(ctx->saved_data["delta_bias"].toBool());
    const auto scratch = workspace(sum, cuda::norm_workspace(rows, static_cast<int>(width)));
    cuda::add_norm_backward(data(dy), data(dsum), data(sum), floats(saved[1]), data(weight),
                            static_cast<cuda::NormKind>(ctx->saved_data["kind"].toInt()), rows,
                            static_cast<int>(width), data(dx), data(d_weight), data(d_bias),
                            data(d_delta_bias), floats(scratch), stream());
    return {dx, has_delta ? dx : Tensor(), d_delta_bias, d_weight, d_bias, Tensor(), Tensor()};
  }
};

// The gradient of a weight in the layout of the weight, so that autograd keeps it without a copy.
Tensor weight_gradient(const Tensor& dy, const Tensor& x, bool transposed) {
  return transposed ? at::mm(x.t(), dy).t() : at::mm(dy.t(), x);
}

Tensor bias_gradient(const Tensor& dy) {
  const int64_t rows = dy.size(0), columns = dy.size(1);
  const auto sum = at::empty({columns}, dy.options());
  const auto scratch = workspace(dy, cuda::column_workspace(rows, static_cast<int>(columns)));
  cuda::column_sum(data(dy), rows, static_cast<int>(columns), data(sum), floats(scratch), stream());
  return sum;
}

struct LinearFunction : Function<LinearFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight,
                        const Optional& bias) {
    const auto flat = rows_of(x);
    const auto y = bias ? at::addmm(*bias, flat, weight.t()) : at::mm(flat, weight.t());
    ctx->save_for_backward({flat, weight});
    ctx->saved_data["bias"] = bias.has_value();
    ctx->saved_data["sizes"] = x.sizes().vec();
    return with_last(y, x.sizes(), weight.size(0));
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1];
    const auto dy = rows_of(gradients[0]);
    return {at::mm(dy, weight).view(ctx->saved_data["sizes"].toIntVector()),
            weight_gradient(dy, x, !weight.is_contiguous()),
            ctx->saved_data["bias"].toBool() ? bias_gradient(dy) : Tensor()};
  }
};

struct LinearActivate : Function<LinearActivate> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight,
                        const Optional& bias, int64_t law) {
    const auto flat = rows_of(x);
    const bool relu = static_cast<cuda::Law>(law) == cuda::Law::relu;
    Tensor kept, y;  // relu's slope is known from its output, so nothing else is kept
    if (relu) {
      y = kept = bias ? at::_addmm_activation(*bias, flat, weight.t(), 1, 1, /*use_gelu=*/false)
                      : at::mm(flat, weight.t()).relu_();
    } else {
      kept = bias ? at::addmm(*bias, flat, weight.t()) : at::mm(flat, weight.t());
      y = at::empty(kept.sizes(), kept.options());
      cuda::activate(data(kept), nullptr, static_cast<cuda::Law>(law), kept.size(0),
                     static_cast<int>(kept.size(1)), data(y), stream());
    }
    auto out = with_last(y, x.sizes(), weight.size(0));
    ctx->save_for_backward({flat, weight, relu ? out : kept});
    ctx->saved_data["law"] = law;
    ctx->saved_data["bias"] = bias.has_value();
    ctx->saved_data["sizes"] = x.sizes().vec();
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1];
    const auto dy = rows_of(gradients[0]);
    const int64_t rows = dy.size(0), columns = dy.size(1);
    const bool has_bias = ctx->saved_data["bias"].toBool();
    const auto dpre = at::empty(dy.sizes(), dy.options());
    const auto d_bias = has_bias ? at::empty({columns}, dy.options()) : Tensor();
    const auto scratch =
        has_bias ? workspace(dy, cuda::column_workspace(rows, static_cast<int>(columns)))
                 : Tensor();
    cuda::activate_backward(
        data(dy), data(saved[2]), nullptr, static_cast<cuda::Law>(ctx->saved_data["law"].toInt()),
        rows, static_cast<int>(columns), data(dpre), data(d_bias), floats(scratch), stream());
    return {at::mm(dpre, weight).view(ctx->saved_data["sizes"].toIntVector()),
            weight_gradient(dpre, x, !weight.is_contiguous()), d_bias, Tensor()};
  }
};

struct GatedLinear : Function<GatedLinear> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& gate, const Tensor& up,
                        int64_t law) {
    const auto flat = rows_of(x), weight = at::cat({gate, up});
    const int64_t columns = gate.size(0);
    const auto both = at::mm(flat, weight.t());
    const auto y = at::empty({flat.size(0), columns}, x.options());
    cuda::gated(data(both), data(both) + columns, 2 * columns, static_cast<cuda::Law>(law),
                flat.size(0), static_cast<int>(columns), data(y), stream());
    ctx->save_for_backward({flat, weight, both});
    ctx->saved_data["law"] = law;
    ctx->saved_data["sizes"] = x.sizes().vec();
    return with_last(y, x.sizes(), columns);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &both = saved[2];
    const auto dy = rows_of(gradients[0]);
    const int64_t columns = dy.size(1);
    const auto d_both = at::empty(both.sizes(), both.options());
    cuda::gated_backward(data(dy), data(both), data(both) + columns, 2 * columns,
                         static_cast<cuda::Law>(ctx->saved_data["law"].toInt()), dy.size(0),
                         static_cast<int>(columns), data(d_both), data(d_both) + columns,
                         2 * columns, stream());
    const auto d_weight = at::mm(d_both.t(), x);
    return {at::mm(d_both, weight).view(ctx->saved_data["sizes"].toIntVector()),
            d_weight.narrow(0, 0, columns), d_weight.narrow(0, columns, columns), Tensor()};
  }
};

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

struct BiasActivate : Function<BiasActivate> {
  static Tensor forward(AutogradContext* ctx, const Tensor& pre, const Optional& bias,
                        int64_t law) {
    const auto y = at::empty(pre.sizes(), pre.options());
    const int64_t columns = pre.size(-1);
    cuda::activate(data(pre), data(bias), static_cast<cuda::Law>(law), pre.numel() / columns,
                   static_cast<int>(columns), data(y), stream());
    ctx->save_for_backward({pre, or_undefined(bias)});
    ctx->saved_data["law"] = law;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &pre = saved[0], &bias = saved[1];
    const auto dy = gradients[0].contiguous();
    const int64_t columns = pre.size(-1), rows = pre.numel() / columns;
    const auto dpre = at::empty(pre.sizes(), pre.options());
    const auto d_bias = bias.defined() ? at::empty({columns}, pre.options()) : Tensor();
    const auto scratch = workspace(pre, cuda::column_workspace(rows, static_cast<int>(columns)));
    cuda::activate_backward(
        data(dy), data(pre), data(bias), static_cast<cuda::Law>(ctx->saved_data["law"].toInt()),
        rows, static_cast<int>(columns), data(dpre), data(d_bias), floats(scratch), stream());
    return {dpre, d_bias, Tensor()};
  }
};

struct GatedActivate : Function<GatedActivate> {
  static Tensor forward(AutogradContext* ctx, const Tensor& gate, const Tensor& up, int64_t law) {
    const auto y = at::empty(gate.sizes(), gate.options());
    const int64_t columns = gate.size(-1);
    cuda::gated(data(gate), data(up), columns, static_cast<cuda::Law>(law), gate.numel() / columns,
                static_cast<int>(columns), data(y), stream());
    ctx->save_for_backward({gate, up});
    ctx->saved_data["law"] = law;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &gate = saved[0], &up = saved[1];
    const auto dy = gradients[0].contiguous();
    const int64_t columns = gate.size(-1);
    const auto d_gate = at::empty(gate.sizes(), gate.options());
    const auto d_up = at::empty(up.sizes(), up.options());
    cuda::gated_backward(data(dy), data(gate), data(up), columns,
                         static_cast<cuda::Law>(ctx->saved_data["law"].toInt()),
                         gate.numel() / columns, static_cast<int>(columns), data(d_gate),
                         data(d_up), columns, stream());
    return {d_gate, d_up, Tensor()};
  }
};

struct CrossEntropy : Function<CrossEntropy> {
  static Tensor forward(AutogradContext* ctx, const Tensor& logits, const Tensor& targets,
                        bool wants_gradient) {
    const auto loss = at::empty({}, logits.options().dtype(torch::kFloat));
    const auto gradient = wants_gradient ? at::empty(logits.sizes(), logits.options()) : Tensor();
    const auto scratch = workspace(logits, logits.size(0) + 1);
    cuda::cross_entropy(data(logits), targets.data_ptr<int64_t>(), logits.size(0),
                        static_cast<int>(logits.size(1)), floats(loss), data(gradient),
                        floats(scratch), stream());
    ctx->save_for_backward({gradient});
    ctx->saved_data["used"] = false;
    return loss;
  }

  // The gradient was made in the forward pass, while a row was at hand; here it is only scaled, in
  // place, and not even read when the loss itself is what is differentiated.
  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    require(!ctx->saved_data["used"].toBool(),
            "cross_entropy: a second backward pass through the same loss is not possible on CUDA");
    ctx->saved_data["used"] = true;
    const auto gradient = ctx->get_saved_variables()[0];
    const auto factor = gradients[0].to(torch::kFloat).contiguous();
    cuda::scale(data(gradient), gradient.numel(), floats(factor), stream());
    return {gradient, Tensor(), Tensor()};
  }
};

int64_t law_number(Activation law) { return static_cast<int64_t>(kernel_law(law).value()); }

}  // namespace

bool fits_rows(const Tensor& x) {
  return x.is_cuda() && x.scalar_type() == torch::kBFloat16 && x.dim() >= 1 && x.numel() > 0 &&
         x.size(-1) % 8 == 0 && x.is_contiguous() &&
         reinterpret_cast<uintptr_t>(x.data_ptr()) % 16 == 0;
}

bool fits_norm(const Tensor& x) { return fits_rows(x) && x.size(-1) <= cuda::kWidestNorm; }

bool fits_classes(const Tensor& logits) {
  return fits_rows(logits) && logits.size(1) <= cuda::kMostClasses;
}

bool fits_law(Activation law) { return kernel_law(law).has_value(); }

bool fits_heads(const Tensor& x, int64_t width, const Tensor& cosine) {
  return fits_rows(x) && width % 8 == 0 &&
         (!cosine.defined() || (width % 16 == 0 && cosine.size(1) == width / 2));
}

std::pair<Tensor, Tensor> add_norm(const Tensor& x, const Tensor& delta, NormKind kind,
                                   const Tensor& weight, const Tensor& bias, double epsilon,
                                   const Tensor& delta_bias) {
  const auto out = AddNorm::apply(x, optional(prepared(delta)), optional(prepared(delta_bias)),
                                  optional(prepared(weight)), optional(prepared(bias)),
                                  static_cast<int64_t>(kernel_kind(kind)), epsilon);
  return {out.front(), out.back()};
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  return LinearFunction::apply(x, weight.to(torch::kBFloat16), optional(prepared(bias)));
}

Tensor linear_activate(const Tensor& x, const Tensor& weight, const Tensor& bias, Activation law) {
  return LinearActivate::apply(x, weight.to(torch::kBFloat16), optional(prepared(bias)),
                               law_number(law));
}

Tensor gated_linear(const Tensor& x, const Tensor& gate, const Tensor& up, Activation law) {
  return GatedLinear::apply(x, gate.to(torch::kBFloat16), up.to(torch::kBFloat16), law_number(law));
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

Tensor bias_activate(const Tensor& pre, const Tensor& bias, Activation law) {
  return BiasActivate::apply(pre, optional(prepared(bias)), law_number(law));
}

Tensor gated_activate(const Tensor& gate, const Tensor& up, Activation law) {
  return GatedActivate::apply(gate, up, law_number(law));
}

Tensor cross_entropy(const Tensor& logits, const Tensor& targets) {
  return CrossEntropy::apply(logits, targets.contiguous(),
                             torch::GradMode::is_enabled() && logits.requires_grad());
}

}  // namespace cajal::ops::fused
#endif
