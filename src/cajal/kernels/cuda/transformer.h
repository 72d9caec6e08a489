#pragma once
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

// The fused steps of a transformer on the GPU, forward and backward. Matrices are row-major bf16,
// contiguous unless a stride is given, 16-byte aligned; arithmetic is fp32; sums have a fixed
// order, so every result repeats bit for bit. Nothing here waits for the GPU or allocates.
namespace cajal::cuda {

using bf16 = __nv_bfloat16;

enum class NormKind { layer, rms, rms_one_plus };
enum class Law { identity, relu, gelu, gelu_tanh, silu };

constexpr int kWidestNorm = 8192;        // features of a row that add_norm takes, a multiple of 8
constexpr int kMostClasses = 16 * 4096;  // classes that cross_entropy takes, a multiple of 8

/// sum = x + delta + delta_bias, y = norm(sum) * weight + bias; stats [rows, 2] = mean,
/// 1/deviation. delta, delta_bias, weight and bias may be null; without delta nothing is written to
/// `sum`.
void add_norm(const bf16* x, const bf16* delta, const bf16* delta_bias, const bf16* weight,
              const bf16* bias, NormKind kind, float epsilon, int64_t rows, int width, bf16* sum,
              bf16* y, float* stats, cudaStream_t stream);

/// Floats of workspace that add_norm_backward wants.
int64_t norm_workspace(int64_t rows, int width);

/// dx = gradient of x (and of delta) given dy and dsum (null: zero), all [rows, width];
/// d_delta_bias, d_weight, d_bias [width], null where not wanted.
void add_norm_backward(const bf16* dy, const bf16* dsum, const bf16* sum, const float* stats,
                       const bf16* weight, NormKind kind, int64_t rows, int width, bf16* dx,
                       bf16* d_weight, bf16* d_bias, bf16* d_delta_bias, float* workspace,
                       cudaStream_t stream);

/// Floats of workspace for the column sums below.
int64_t column_workspace(int64_t rows, int columns);

/// sum[c] = sum over rows of x[., c].
void column_sum(const bf16* x, int64_t rows, int columns, bf16* sum, float* workspace,
                cudaStream_t stream);

/// y = law(pre + bias); bias may be null.
void activate(const bf16* pre, const bf16* bias, Law law, int64_t rows, int columns, bf16* y,
              cudaStream_t stream);

/// dpre = dy law'(pre + bias) and its column sums d_bias (null: not wanted). For relu `pre` may be
/// the output instead, without bias.
void activate_backward(const bf16* dy, const bf16* pre, const bf16* bias, Law law, int64_t rows,
                       int columns, bf16* dpre, bf16* d_bias, float* workspace,
                       cudaStream_t stream);

/// y = law(gate) up; gate and up have rows `stride` apart (halves of one matrix, or two).
void gated(const bf16* gate, const bf16* up, int64_t stride, Law law, int64_t rows, int columns,
           bf16* y, cudaStream_t stream);
void gated_backward(const bf16* dy, const bf16* gate, const bf16* up, int64_t stride, Law law,
                    int64_t rows, int columns, bf16* d_gate, bf16* d_up, int64_t d_stride,
                    cudaStream_t stream);

/// Where the heads of q, k or v lie: element (b, h, t, i) at data + b batch + h head + t token + i.
struct Heads {
  const bf16* data;
  int64_t batch, head, token;
};

/// How query, key and value heads share the columns of one projection: heads of q, then of k, then
/// of v, each `width` wide (a multiple of 8; of 16 with RoPE).
struct HeadShape {
  int64_t batch, tokens;
  int heads, kv_heads, width;
};

/// q [batch, tokens, heads, width] and k [batch, tokens, kv_heads, width] from the columns of
/// qkv [batch, tokens, (heads + 2 kv_heads) width], turned by RoPE over the whole head (half-split
/// pairs); cosine and sine are fp32 [tokens, width / 2].
void rotate_heads(const bf16* qkv, const HeadShape& shape, const float* cosine, const float* sine,
                  bf16* q, bf16* k, cudaStream_t stream);

/// The gradient of qkv from those of q, k and v, turned back where cosine is not null, and its
/// column sums d_bias (null: not wanted).
void join_heads(const Heads& dq, const Heads& dk, const Heads& dv, const HeadShape& shape,
                const float* cosine, const float* sine, bf16* d_qkv, bf16* d_bias, float* workspace,
                cudaStream_t stream);

/// Mean cross entropy over rows whose target is not -100. loss [1] fp32; gradient [rows, classes]
/// (null: not wanted) is that of the mean; workspace holds rows + 1 floats.
/// A target out of range gives a loss that is not a number.
void cross_entropy(const bf16* logits, const int64_t* targets, int64_t rows, int classes,
                   float* loss, bf16* gradient, float* workspace, cudaStream_t stream);

/// x *= *factor, reading and writing nothing when it is 1.
void scale(bf16* x, int64_t count, const float* factor, cudaStream_t stream);

}  // namespace cajal::cuda
