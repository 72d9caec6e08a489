#pragma once
#include <cstddef>
#include <span>
#include <string_view>

#include "cajal/core/tensors.h"

namespace cajal {

/// The tensors of a state dict that torch.save wrote, held in `file`: a ZIP archive (PyTorch 1.6
/// and later) or the older sequence of pickles. The dict may lie one level down ({"state_dict":
/// {...}}). Nothing in the file is run. What is not a tensor is left out and named in the metadata
/// under "ignored_entries"; tensors that are not row-major are copied. `where` names the file in
/// errors. Throws Error on anything unsound, naming the tensor or the byte.
StoredTensors read_pytorch_bin(std::span<const std::byte> file, std::string_view where);

}  // namespace cajal
