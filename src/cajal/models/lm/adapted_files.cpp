#include "cajal/core/error.h"
#include "cajal/core/torch_tensors.h"
#include "cajal/engine/checkpoint.h"
#include "cajal/layers/layer.h"
#include "cajal/models/lm/adapted.h"
#include "cajal/models/lm/checkpoint.h"

namespace cajal::lm {
namespace {

namespace fs = std::filesystem;
constexpr const char* kFile = "adapters.safetensors";

}  // namespace

void save_adapters(const Adapted& adapted, const fs::path& folder) {
  NamedTensors tensors;
  for (const auto& item : adapted->named_parameters())
    tensors[item.key()] = item.value().detach().cpu().contiguous();
  save_tensors(folder / kFile, tensors, {{"adapters", options::write(adapted->options).dump()}});
  auto json = read_json(folder / "config.json");
  json["cajal"]["adapters"] = kFile;
  write_json(folder / "config.json", json);
}

bool has_adapters(const fs::path& folder) { return fs::exists(folder / kFile); }

Adapted load_adapted(const fs::path& folder) {
  const auto path = folder / kFile;
  const auto file = TensorFile::open(path);
  require(file.metadata().contains("adapters"), "{}: no 'adapters' among its metadata",
          path.string());
  const auto settings = options::parse<AdapterOptions>(
      parse_json(file.metadata().at("adapters").get<std::string>(), path.string()),
      path.string() + ": adapters");
  const auto where = (folder / "config.json").string();
  auto json = read_json(folder / "config.json");
  if (json.contains("cajal") && json["cajal"].is_object()) json["cajal"].erase("adapters");
  Checkpoint checkpoint{
      .path = folder, .config = config_from_json(json, where), .layout = {}, .file = {}};
  checkpoint.layout = read_packed_layout(checkpoint.config, where);
  checkpoint.file =
      std::make_shared<const TensorFile>(TensorFile::open(folder / "model.safetensors"));
  auto model = load(std::move(checkpoint));
  make_trainable(model);
  Adapted out(model, settings, 0);
  layers::load_weights({.name = "adapters",
                        .options = {},
                        .module = out.ptr(),
                        .inputs = {},
                        .outputs = {},
                        .call = {}},
                       load_tensors(path), path.string());
  out->eval();
  return out;
}

}  // namespace cajal::lm
