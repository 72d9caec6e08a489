#include "cajal/core/torch_tensors.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "cajal/core/error.h"

namespace cajal {
namespace {

constexpr std::pair<Dtype, torch::Dtype> kTypes[] = {
    {Dtype::f64, torch::kDouble},    {Dtype::f32, torch::kFloat}, {Dtype::f16, torch::kHalf},
    {Dtype::bf16, torch::kBFloat16}, {Dtype::i64, torch::kLong},  {Dtype::i32, torch::kInt},
    {Dtype::i16, torch::kShort},     {Dtype::i8, torch::kChar},   {Dtype::u8, torch::kByte},
    {Dtype::boolean, torch::kBool},
};

bool is_float8(Dtype dtype) { return dtype == Dtype::f8_e4m3 || dtype == Dtype::f8_e5m2; }

/// The value of an 8-bit float (Micikevicius et al. 2022, arXiv 2209.05433).
float decode_float8(uint8_t code, Dtype dtype) {
  const bool e4m3 = dtype == Dtype::f8_e4m3;
  const int mantissa_bits = e4m3 ? 3 : 2, bias = e4m3 ? 7 : 15;
  const int mantissa = code & ((1 << mantissa_bits) - 1);
  const int exponent = (code & 0x7f) >> mantissa_bits;
  const float sign = code & 0x80 ? -1.0f : 1.0f;
  if (e4m3 && (code & 0x7f) == 0x7f) return std::numeric_limits<float>::quiet_NaN();
  if (!e4m3 && exponent == 31)
    return mantissa ? std::numeric_limits<float>::quiet_NaN()
                    : sign * std::numeric_limits<float>::infinity();
  const int whole = exponent ? (1 << mantissa_bits) + mantissa : mantissa;
  return sign * std::ldexp(static_cast<float>(whole), std::max(exponent, 1) - bias - mantissa_bits);
}

torch::Tensor widen_float8(const StoredTensor& stored) {
  float table[256];
  for (int code = 0; code < 256; ++code)
    table[code] = decode_float8(static_cast<uint8_t>(code), stored.dtype);
  auto out = torch::empty(stored.shape, torch::kFloat);
  auto* values = out.data_ptr<float>();
  for (size_t i = 0; i < stored.bytes.size(); ++i)
    values[i] = table[static_cast<uint8_t>(stored.bytes[i])];
  return out;
}

}  // namespace

torch::Dtype to_torch(Dtype dtype) {
  if (is_float8(dtype)) return torch::kFloat;
  for (const auto& [stored, type] : kTypes)
    if (stored == dtype) return type;
  fail("element type {} has no counterpart in libtorch", dtype_name(dtype));
}

Dtype stored_dtype(torch::Dtype dtype, std::string_view name) {
  for (const auto& [stored, type] : kTypes)
    if (type == dtype) return stored;
  fail("tensor '{}' is {}, which a safetensors file cannot hold", name, c10::toString(dtype));
}

torch::Tensor to_torch(const StoredTensor& stored, std::shared_ptr<const void> owner) {
  // The readers check sizes; this guards against a tensor put together by hand.
  size_t expected = dtype_bytes(stored.dtype);
  for (const auto size : stored.shape) expected *= static_cast<size_t>(size);
  require(stored.bytes.size() == expected, "a tensor of shape {} has {} bytes, expected {}",
          shape_text(stored.shape), stored.bytes.size(), expected);
  if (is_float8(stored.dtype)) return widen_float8(stored);
  const auto type = torch::TensorOptions(to_torch(stored.dtype));
  const bool aligned =
      reinterpret_cast<uintptr_t>(stored.bytes.data()) % dtype_bytes(stored.dtype) == 0;
  if (owner != nullptr && aligned && expected > 0) {
    auto* bytes = const_cast<std::byte*>(stored.bytes.data());  // libtorch knows no const data
    return torch::from_blob(
        bytes, stored.shape, [owner](void*) {}, type);
  }
  auto copy = torch::empty(stored.shape, type);
  if (expected > 0) std::memcpy(copy.data_ptr(), stored.bytes.data(), expected);
  return copy;
}

NamedTensors load_tensors(const std::filesystem::path& path) {
  const auto file = TensorFile::open(path);
  NamedTensors out;
  for (const auto& [name, stored] : file.tensors()) out.emplace(name, to_torch(stored));
  return out;
}

void save_tensors(const std::filesystem::path& path,
                  const std::vector<std::pair<std::string, torch::Tensor>>& tensors,
                  const Json& metadata) {
  std::vector<torch::Tensor> kept;  // the bytes written must outlive this loop
  std::vector<TensorToWrite> rows;
  std::set<std::string_view> names;
  for (const auto& [name, tensor] : tensors) {
    require(tensor.defined(), "{}: tensor '{}' holds nothing", path.string(), name);
    require(names.insert(name).second, "{}: tensor '{}' is given twice", path.string(), name);
    const auto dtype = stored_dtype(tensor.scalar_type(), name);
    const auto& bytes = kept.emplace_back(tensor.detach().to(torch::kCPU).contiguous());
    rows.push_back({name,
                    dtype,
                    bytes.sizes().vec(),
                    {static_cast<const std::byte*>(bytes.data_ptr()), bytes.nbytes()}});
  }
  write_safetensors(path, rows, metadata);
}

void save_tensors(const std::filesystem::path& path, const NamedTensors& tensors,
                  const Json& metadata) {
  const std::vector<std::pair<std::string, torch::Tensor>> rows(tensors.begin(), tensors.end());
  save_tensors(path, rows, metadata);
}

}  // namespace cajal
