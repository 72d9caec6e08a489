#pragma once
#include <filesystem>
#include <string>

#include "cajal/engine/checkpoint.h"
#include "cajal/models/lm/transformer.h"

namespace cajal::lm {

/// Opens a checkpoint folder in Hugging Face layout (config.json, safetensors or pytorch_model.bin)
/// or one that `cajal split` wrote, or a GGUF file. Weights stay mapped in the dtype of the file,
/// read-only: change a copy, never a loaded tensor in place. Every tensor of the file is used or
/// known to be a buffer; Error names one that is missing, extra or of the wrong shape
/// ("models/x/model.safetensors: tensor 'a.b' is [160, 60], expected [160, 64] (intermediate_size x
/// hidden_size of config.json)").
Transformer load(const std::filesystem::path& path);
Transformer load(Checkpoint checkpoint);

/// A model with fresh fp32 weights as trainable parameters: N(0, deviation), residual outputs
/// scaled by 1/sqrt(2 layers), norms one, biases zero.
Transformer initialise(const Config& config, uint64_t seed, double deviation = 0.02);

/// The same weights as trainable fp32 parameters (to go on training a loaded checkpoint).
void make_trainable(Transformer& model);

/// Writes config.json and model.safetensors (in `dtype`: f32, f16 or bf16) into `folder`, in the
/// family's Hugging Face layout, each file beside its place and renamed there. The groups of a
/// split model become one matrix again, in their stored order.
void save(Transformer& model, const std::filesystem::path& folder, Dtype dtype);

/// Writes the routers of a model with experts, if it has some, as `folder`/routers.safetensors.
void save_routers(const Transformer& model, const std::filesystem::path& folder);

}  // namespace cajal::lm
