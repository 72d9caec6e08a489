#include "columns.cuh"
#include "transformer.h"

namespace cajal::cuda {
namespace {

constexpr float kRootHalf = 0.70710678118654752f;       // 1/√2
constexpr float kRootTwoOverPi = 0.79788456080286536f;  // √(2/π)
constexpr float kInverseRootTwoPi = 0.39894228040143268f;
constexpr float kCubic = 0.044715f;

template <Law law>
__device__ float value_of(float x) {
  if constexpr (law == Law::relu) return fmaxf(x, 0.f);
  if constexpr (law == Law::gelu) return 0.5f * x * (1 + erff(x * kRootHalf));
  if constexpr (law == Law::gelu_tanh)
    return 0.5f * x * (1 + tanhf(kRootTwoOverPi * (x + kCubic * x * x * x)));
  if constexpr (law == Law::silu) return x / (1 + __expf(-x));
  return x;
}

template <Law law>
__device__ float slope_of(float x) {
  if constexpr (law == Law::relu) return x > 0 ? 1.f : 0.f;
  if constexpr (law == Law::gelu)
    return 0.5f * (1 + erff(x * kRootHalf)) + x * kInverseRootTwoPi * __expf(-0.5f * x * x);
  if constexpr (law == Law::gelu_tanh) {
    const float t = tanhf(kRootTwoOverPi * (x + kCubic * x * x * x));
    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * kRootTwoOverPi * (1 + 3 * kCubic * x * x);
  }
  if constexpr (law == Law::silu) {
    const float s = 1 / (1 + __expf(-x));
    return s * (1 + x * (1 - s));
  }
  return 1;
}

// Calls body.operator()<law>().
template <class Body>
void dispatch_law(Law law, const Body& body) {
  switch (law) {
    case Law::identity:
      return body.template operator()<Law::identity>();
    case Law::relu:
      return body.template operator()<Law::relu>();
    case Law::gelu:
      return body.template operator()<Law::gelu>();
    case Law::gelu_tanh:
      return body.template operator()<Law::gelu_tanh>();
    case Law::silu:
      return body.template operator()<Law::silu>();
  }
}

struct Plain {
  const bf16* x;
  int columns;
  __device__ void read(int64_t row, int column, float (&out)[kPack]) const {
    load(x + row * columns + column, out);
  }
};

template <Law law>
struct Activated {
  const bf16 *pre, *bias;
  int columns;
  __device__ void read(int64_t row, int column, float (&out)[kPack]) const {
    load(pre + row * columns + column, out);
    float shift[kPack] = {};
    if (bias != nullptr) load(bias + column, shift);
#pragma unroll
    for (int i = 0; i < kPack; ++i) out[i] = value_of<law>(out[i] + shift[i]);
  }
};

template <Law law>
struct ActivationGradient {
  const bf16 *dy, *pre, *bias;
  int columns;
  __device__ void read(int64_t row, int column, float (&out)[kPack]) const {
    float x[kPack], shift[kPack] = {};
    load(dy + row * columns + column, out);
    load(pre + row * columns + column, x);
    if (bias != nullptr) load(bias + column, shift);
#pragma unroll
    for (int i = 0; i < kPack; ++i) out[i] *= slope_of<law>(x[i] + shift[i]);
  }
};

// q, k and v gradients seen as the columns of their joint projection, turned back by RoPE.
struct JoinedHeads {
  Heads q, k, v;
  HeadShape shape;
  const float *cosine, *sine;

  __device__ void read(int64_t row, int column, float (&out)[kPack]) const {
    const int64_t batch = row / shape.tokens, token = row - batch * shape.tokens;
    int head = column / shape.width;
    const int inside = column - head * shape.width;
    const bool turned = cosine != nullptr && head < shape.heads + shape.kv_heads;
    const Heads& source = head < shape.heads ? q : head < shape.heads + shape.kv_heads ? k : v;
    head -= head < shape.heads                    ? 0
            : head < shape.heads + shape.kv_heads ? shape.heads
                                                  : shape.heads + shape.kv_heads;
    const bf16* from =
        source.data + batch * source.batch + head * source.head + token * source.token;
    load(from + inside, out);
    if (!turned) return;
    const int half = shape.width / 2, pair = inside < half ? inside : inside - half;
    float other[kPack];
    load(from + (inside < half ? inside + half : pair), other);
    const float sign = inside < half ? 1.f : -1.f;
    const int64_t angle = token * half + pair;
#pragma unroll
    for (int i = 0; i < kPack; ++i)
      out[i] = out[i] * cosine[angle + i] + sign * other[i] * sine[angle + i];
  }
};

// q and k columns of the joint projection, turned by RoPE; a "row" is a token, a column one of q|k.
__global__ void rotate_kernel(const bf16* qkv, const HeadShape shape, const float* cosine,
                              const float* sine, bf16* q, bf16* k, int64_t count) {
  const int half = shape.width / 2, packs = half / kPack;  // packs of one half-head
  const int turned = shape.heads + shape.kv_heads;
  const int columns = (turned + shape.kv_heads) * shape.width;
  for (int64_t at = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; at < count;
       at += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    const int pair = static_cast<int>(at % packs) * kPack;
    const int head = static_cast<int>(at / packs % turned);
    const int64_t row = at / packs / turned, token = row % shape.tokens;
    const bf16* from = qkv + row * columns + head * shape.width + pair;
    bf16* to = head < shape.heads
                   ? q + (row * shape.heads + head) * shape.width + pair
                   : k + (row * shape.kv_heads + head - shape.heads) * shape.width + pair;
    float low[kPack], high[kPack], new_low[kPack], new_high[kPack];
    load(from, low);
    load(from + half, high);
    const int64_t angle = token * half + pair;
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      const float c = cosine[angle + i], s = sine[angle + i];
      new_low[i] = low[i] * c - high[i] * s;
      new_high[i] = high[i] * c + low[i] * s;
    }
    store(to, new_low);
    store(to + half, new_high);
  }
}

struct GatedShape {
  int64_t stride, d_stride, count;  // count: packs in all
  int packs;                        // of one row
};

template <Law law>
__global__ void gated_kernel(const bf16* gate, const bf16* up, GatedShape shape, bf16* y) {
  for (int64_t at = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; at < shape.count;
       at += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    const int64_t row = at / shape.packs, column = (at - row * shape.packs) * kPack;
    float g[kPack], u[kPack];
    load(gate + row * shape.stride + column, g);
    load(up + row * shape.stride + column, u);
#pragma unroll
    for (int i = 0; i < kPack; ++i) u[i] *= value_of<law>(g[i]);
    store(y + at * kPack, u);
  }
}

template <Law law>
__global__ void gated_backward_kernel(const bf16* dy, const bf16* gate, const bf16* up,
                                      GatedShape shape, bf16* d_gate, bf16* d_up) {
  for (int64_t at = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; at < shape.count;
       at += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    const int64_t row = at / shape.packs, column = (at - row * shape.packs) * kPack;
    float d[kPack], g[kPack], u[kPack];
    load(dy + at * kPack, d);
    load(gate + row * shape.stride + column, g);
    load(up + row * shape.stride + column, u);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      u[i] *= d[i] * slope_of<law>(g[i]);
      d[i] *= value_of<law>(g[i]);
    }
    store(d_gate + row * shape.d_stride + column, u);
    store(d_up + row * shape.d_stride + column, d);
  }
}

__global__ void finish_kernel(const float* partial, int splits, int columns, int width,
                              ColumnSums sums) {
  __shared__ float tile[8][33];
  const int column = blockIdx.x * 32 + threadIdx.x;
  float total = 0;
  if (column < columns && sums.out[column / width] != nullptr) {
#pragma unroll 4
    for (int split = threadIdx.y; split < splits; split += 8)
      total += partial[static_cast<int64_t>(split) * columns + column];
  }
  tile[threadIdx.y][threadIdx.x] = total;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns || sums.out[column / width] == nullptr) return;
#pragma unroll
  for (int y = 1; y < 8; ++y) total += tile[y][threadIdx.x];
  sums.out[column / width][column % width] = __float2bfloat16_rn(total);
}

unsigned grid_for(int64_t count) {
  const int64_t blocks = divide_up(count, 256), most = multiprocessors() * 16;
  return static_cast<unsigned>(blocks < most ? blocks : most);
}

struct RunActivate {
  const bf16 *pre, *bias;
  int64_t rows;
  int columns;
  bf16* y;
  cudaStream_t stream;
  template <Law law>
  void operator()() const {
    column_pass(Activated<law>{pre, bias, columns}, rows, columns, y, nullptr, nullptr, stream);
  }
};

struct RunActivateBackward {
  const bf16 *dy, *pre, *bias;
  int64_t rows;
  int columns;
  bf16 *dpre, *d_bias;
  float* workspace;
  cudaStream_t stream;
  template <Law law>
  void operator()() const {
    column_pass(ActivationGradient<law>{dy, pre, bias, columns}, rows, columns, dpre, d_bias,
                workspace, stream);
  }
};

struct RunGated {
  const bf16 *dy, *gate, *up;
  GatedShape shape;
  bf16 *y, *d_gate, *d_up;  // dy null: forward
  cudaStream_t stream;
  template <Law law>
  void operator()() const {
    const unsigned blocks = grid_for(shape.count);
    if (dy == nullptr)
      gated_kernel<law><<<blocks, 256, 0, stream>>>(gate, up, shape, y);
    else
      gated_backward_kernel<law><<<blocks, 256, 0, stream>>>(dy, gate, up, shape, d_gate, d_up);
    check_launch("gated");
  }
};

}  // namespace

void finish_columns(const float* partial, int splits, int columns, int width, ColumnSums sums,
                    cudaStream_t stream) {
  finish_kernel<<<static_cast<unsigned>(divide_up(columns, 32)), dim3(32, 8), 0, stream>>>(
      partial, splits, columns, width, sums);
  check_launch("finish_columns");
}

int64_t column_workspace(int64_t rows, int columns) {
  return rows == 0 ? 0 : static_cast<int64_t>(ColumnGrid(rows, columns).splits) * columns;
}

void column_sum(const bf16* x, int64_t rows, int columns, bf16* sum, float* workspace,
                cudaStream_t stream) {
  column_pass(Plain{x, columns}, rows, columns, nullptr, sum, workspace, stream);
}

void activate(const bf16* pre, const bf16* bias, Law law, int64_t rows, int columns, bf16* y,
              cudaStream_t stream) {
  dispatch_law(law, RunActivate{pre, bias, rows, columns, y, stream});
}

void activate_backward(const bf16* dy, const bf16* pre, const bf16* bias, Law law, int64_t rows,
                       int columns, bf16* dpre, bf16* d_bias, float* workspace,
                       cudaStream_t stream) {
  dispatch_law(law,
               RunActivateBackward{dy, pre, bias, rows, columns, dpre, d_bias, workspace, stream});
}

void gated(const bf16* gate, const bf16* up, int64_t stride, Law law, int64_t rows, int columns,
           bf16* y, cudaStream_t stream) {
  if (rows == 0) return;
  const int packs = columns / kPack;
  dispatch_law(
      law,
      RunGated{nullptr, gate, up, {stride, 0, rows * packs, packs}, y, nullptr, nullptr, stream});
}

void gated_backward(const bf16* dy, const bf16* gate, const bf16* up, int64_t stride, Law law,
                    int64_t rows, int columns, bf16* d_gate, bf16* d_up, int64_t d_stride,
                    cudaStream_t stream) {
  if (rows == 0) return;
  const int packs = columns / kPack;
  dispatch_law(
      law,
      RunGated{
          dy, gate, up, {stride, d_stride, rows * packs, packs}, nullptr, d_gate, d_up, stream});
}

void rotate_heads(const bf16* qkv, const HeadShape& shape, const float* cosine, const float* sine,
                  bf16* q, bf16* k, cudaStream_t stream) {
  const int64_t count =
      shape.batch * shape.tokens * (shape.heads + shape.kv_heads) * (shape.width / 2 / kPack);
  if (count == 0) return;
  rotate_kernel<<<grid_for(count), 256, 0, stream>>>(qkv, shape, cosine, sine, q, k, count);
  check_launch("rotate_heads");
}

void join_heads(const Heads& dq, const Heads& dk, const Heads& dv, const HeadShape& shape,
                const float* cosine, const float* sine, bf16* d_qkv, bf16* d_bias, float* workspace,
                cudaStream_t stream) {
  const int columns = (shape.heads + 2 * shape.kv_heads) * shape.width;
  column_pass(JoinedHeads{dq, dk, dv, shape, cosine, sine}, shape.batch * shape.tokens, columns,
              d_qkv, d_bias, workspace, stream);
}

}  // namespace cajal::cuda
