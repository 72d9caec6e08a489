#pragma once
#include <cstdint>

/// What stands between the matrices of a transformer, on rows of floats. Every function computes a
/// row on its own, so that a row's result does not depend on the others; `y` may be `x`.
namespace cajal {

/// y = x / √(mean x² + epsilon) · (weight + offset) along each row; offset 1 is Gemma's form.
/// Shapes: x and y [batch, width]; weight [width], or null for ones.
void rms_norm(const float* x, const float* weight, int64_t batch, int64_t width, float epsilon,
              float* y, float offset = 0);

/// y = (x - mean x) / √(var x + epsilon) · weight + bias along each row.
/// Shapes: x and y [batch, width]; weight and bias [width], or null for ones and zeros.
void layer_norm(const float* x, const float* weight, const float* bias, int64_t batch,
                int64_t width, float epsilon, float* y);

/// y = exp(x - max x) / Σ exp(x - max x) along each row. Shapes: x and y [batch, width].
void softmax(const float* x, int64_t batch, int64_t width, float* y);

/// Which components of a head turn together: i and pairs + i (Llama as Hugging Face stores it,
/// GPT-NeoX), or 2 i and 2 i + 1 (Llama as GGUF stores it, GPT-J).
enum class RotaryLayout { halves, interleaved };

/// cosine and sine of (position · frequency[i]), times `factor`, for `tokens` positions from
/// `first` on. Shapes: frequency [pairs]; cosine and sine [tokens, pairs].
void rotary_angles(const float* frequency, int64_t pairs, int64_t first, int64_t tokens,
                   float factor, float* cosine, float* sine);

/// Turns the first 2 · pairs components of each head in place; token t starts at x + t · stride.
/// Shapes: x [tokens, heads, head_width]; cosine and sine [tokens, pairs].
void rotate(float* x, int64_t tokens, int64_t heads, int64_t head_width, int64_t stride,
            const float* cosine, const float* sine, int64_t pairs, RotaryLayout layout);

}  // namespace cajal
