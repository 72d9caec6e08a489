#include "cajal/surgery/write.h"

#include "cajal/core/error.h"
#include "cajal/core/files.h"
#include "cajal/core/torch_tensors.h"
#include "cajal/engine/checkpoint.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/models/lm/weights.h"
#include "cajal/surgery/split.h"
#include "cajal/text/gguf_tokenizer.h"

namespace cajal::surgery {
namespace {

namespace fs = std::filesystem;

// The names that a model is written under: its family's own, or those of the other layout (GPT-2
// from a GGUF file) that its matrices came in.
lm::Naming naming_of(const lm::Transformer& model) {
  const auto& own = lm::name_maps(model->config.family)[0];
  if (model->file)
    if (const auto found = lm::find_naming(model->config, *model->file);
        found.map->conv1d != own.conv1d)
      return found;
  return {&own, lm::written_prefix(own, model->config)};
}

// What the parts of a slot hold, one behind the other.
torch::Tensor value_of(const lm::WeightSlot& slot) {
  std::vector<torch::Tensor> parts;
  for (const auto& [name, vector] : slot.vectors) parts.push_back(*vector);
  for (const auto& [name, matrix] : slot.matrices) parts.push_back(matrix->stored());
  for (const auto& part : parts)
    if (!part.defined()) return {};
  return parts.size() == 1 ? parts.front() : torch::cat(parts);
}

// The tensor of the source file that a slot was read from, if any.
const StoredTensor* source_of(const lm::Transformer& model, const lm::WeightSlot& slot) {
  if (!model->file) return nullptr;
  for (const auto& map : lm::name_maps(model->config.family))
    for (const auto prefix : map.prefixes) {
      const auto it = model->file->tensors().find(lm::stored_name(map, prefix, slot.name));
      if (it != model->file->tensors().end()) return &it->second;
    }
  return nullptr;
}

// Vectors are widened when they are loaded: those that still hold what the file holds are written
// in its type.
torch::Tensor as_in_source(const lm::Transformer& model, const lm::WeightSlot& slot,
                           torch::Tensor value) {
  const auto* stored = slot.vectors.empty() ? nullptr : source_of(model, slot);
  if (!stored) return value;
  const auto original = to_torch(*stored);
  const bool same = original.numel() == value.numel() &&
                    original.to(torch::kFloat).flatten().equal(value.to(torch::kFloat).flatten());
  return same ? original : value;
}

std::vector<int64_t> shape_of(const lm::WeightSlot& slot, const torch::Tensor& value) {
  if (value.scalar_type() == torch::kByte) return value.sizes().vec();
  std::vector<int64_t> shape;
  for (const auto& axis : slot.axes) shape.push_back(axis.size);
  return shape;
}

void copy_companions(const fs::path& source, const fs::path& folder) {
  if (lm::is_gguf(source)) {
    const auto settings = text::tokenizer_settings(Gguf::open(source));
    if (!settings.empty()) write_gguf(folder / "tokenizer.gguf", settings, {});
    return;
  }
  for (const auto& entry : fs::directory_iterator(source)) {
    const auto name = entry.path().filename().string();
    const auto is = [&](const char* ending) { return name.ends_with(ending); };
    const bool weights = is(".safetensors") || is(".bin") || is(".index.json") ||
                         (is(".gguf") && name != "tokenizer.gguf") || name == "config.json" ||
                         name == "plan.json";
    if (entry.is_regular_file() && !weights) fs::copy_file(entry.path(), folder / name);
  }
}

}  // namespace

void requantise(lm::Transformer& model, const WriteOptions& options) {
  torch::NoGradGuard no_grad;
  const auto [map, prefix] = naming_of(model);
  for (auto& slot : lm::weight_slots(*model, *map, prefix)) {
    const bool attention = slot.name.find(".attention.") != std::string::npos;
    const bool words = slot.name == "embedding.tokens.weight" ||
                       (slot.name == "output.vocabulary.weight" && !model->config.tied);
    const auto format = attention ? options.attention
                        : words   ? options.embedding
                                  : std::optional<Format>();
    if (!format) continue;
    for (auto& [name, matrix] : slot.matrices) {
      const auto rows = matrix->decoded();
      require_row(*format, rows.size(1), fmt::format("tensor '{}'", slot.theirs));
      const auto stored = encode(*format, rows);
      *matrix = is_quantised(*format)
                    ? Matrix::packed(*format, stored, rows.size(1), matrix->major())
                    : Matrix::dense(stored, matrix->major());
      model->layout.tensors.erase(slot.theirs);
      if (is_quantised(*format)) model->layout.tensors[slot.theirs] = *format;
    }
  }
  if (model->config.tied) model->output.vocabulary.weight = model->embedding.tokens;
}

void write(lm::Transformer& model, const fs::path& source, const fs::path& output) {
  torch::NoGradGuard no_grad;
  AtomicDirectory folder(output);
  const auto [map, prefix] = naming_of(model);
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  for (const auto& slot : lm::weight_slots(*model, *map, prefix)) {
    if (slot.optional && model->config.tied) continue;
    auto value = value_of(slot);
    require(value.defined(), "{}: the model has no '{}' to write", output.string(), slot.name);
    value = as_in_source(model, slot, value);
    tensors.emplace_back(slot.theirs,
                         value.detach().cpu().reshape(shape_of(slot, value)).contiguous());
  }
  for (size_t l = 0; l < model->blocks.size(); ++l)
    if (const auto& order = model->blocks[l].ffn.order; order.defined())
      tensors.emplace_back(lm::ffn_module(*map, prefix, static_cast<int64_t>(l)) + ".neuron_order",
                           order);
  save_tensors(folder.path() / "model.safetensors", tensors, {{"format", "pt"}});

  auto json = model->config.source;
  const auto original = lm::config_from_json(json, "config.json");
  if (original.neurons != model->config.neurons || original.ffn_bias != model->config.ffn_bias ||
      original.law != model->config.law)
    json = lm::config_to_json(model->config);
  json.erase("cajal");
  if (!model->layout.empty()) json["cajal"] = lm::packed_layout_to_json(model->layout);
  write_json(folder.path() / "config.json", json);
  lm::save_routers(model, folder.path());
  copy_companions(source, folder.path());
  folder.commit();
}

}  // namespace cajal::surgery
