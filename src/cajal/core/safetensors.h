#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cajal/core/tensors.h"

namespace cajal {

/// The tensors of a safetensors file held in `file`; `where` names it in errors. Throws Error
/// unless the header is sound and the tensors cover the data without gap or overlap. Format:
/// https://github.com/huggingface/safetensors
StoredTensors read_safetensors(std::span<const std::byte> file, std::string_view where);

/// What a safetensors file holds before its data: the length of the header and the header, padded
/// to a multiple of 64 bytes. The data are those of `tensors` in that order, without gaps.
std::string safetensors_header(const std::vector<TensorToWrite>& tensors, const Json& metadata,
                               std::string_view where);

}  // namespace cajal
