#include "cajal/engine/checkpoint.h"

#include <array>
#include <fstream>

#include "cajal/core/error.h"

namespace cajal::lm {
namespace fs = std::filesystem;

bool is_gguf(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return false;
  std::array<char, 4> magic{};
  std::ifstream(path, std::ios::binary).read(magic.data(), magic.size());
  return std::string_view(magic.data(), magic.size()) == "GGUF" || path.extension() == ".gguf";
}

Checkpoint open_checkpoint(const fs::path& path) {
  if (is_gguf(path)) return open_gguf(path);
  Checkpoint out{.path = path, .config = read_config(path), .layout = {}, .file = {}};
  out.layout = read_packed_layout(out.config, (path / "config.json").string());
  out.file = std::make_shared<const TensorFile>(TensorFile::open(path));
  if (out.layout.experts && out.layout.experts->router != RouterKind::oracle) {
    const auto routers = path / "routers.safetensors";
    require(fs::exists(routers), "{}: missing; config.json asks for {} routers", routers.string(),
            to_name(out.layout.experts->router));
    out.routers = std::make_shared<const TensorFile>(TensorFile::open(routers));
  }
  return out;
}

const StoredTensor& router_tensor(const TensorFile& routers, int64_t layer, std::string_view part,
                                  int64_t rows, int64_t width) {
  const auto name = fmt::format("layers.{}.{}", layer, part);
  const auto& stored = routers.at(name);
  require(
      stored.shape == std::vector({rows, width}) &&
          (stored.dtype == Dtype::f32 || stored.dtype == Dtype::f16 || stored.dtype == Dtype::bf16),
      "{}: tensor '{}' is {} {}, expected F32, F16 or BF16 [{}, {}]", routers.path().string(), name,
      dtype_name(stored.dtype), stored.shape, rows, width);
  return stored;
}

fs::path find_model(const std::string& name) {
  if (fs::exists(fs::path(name) / "config.json") || is_gguf(name)) return name;
  const bool plain = !name.empty() && name.find('/') == std::string::npos && name[0] != '.';
  require(plain, "{}: no checkpoint there; expected a folder with config.json, or a GGUF file",
          name);
  // Beside the source when run from a build folder, or where `cmake --install` puts models.
  std::error_code error;
  auto folder = fs::read_symlink("/proc/self/exe", error).parent_path();
  for (int up = 0; up < 4 && !folder.empty(); ++up, folder = folder.parent_path())
    for (const char* models : {"models", "share/cajal/models"})
      if (fs::exists(folder / models / name / "config.json")) return folder / models / name;
  fail("{}: neither a folder with config.json nor the name of an embedded model", name);
}

}  // namespace cajal::lm
