#include "cajal/surgery/write.h"

#include "cajal/core/error.h"
#include "cajal/core/files.h"
#include "cajal/core/torch_tensors.h"
#include "cajal/models/lm/weights.h"
#include "cajal/surgery/split.h"

namespace cajal::surgery {
namespace {

namespace fs = std::filesystem;

const lm::NameMap& map_of(const lm::Config& config) { return lm::name_maps(config.family)[0]; }

bool packed(const lm::FeedForward& ffn) {
  if (ffn.groups.size() != 1 || ffn.order.defined()) return true;
  const auto& group = ffn.groups.front();
  return is_quantised(group.key.format()) || is_quantised(group.value.format());
}

// A single group of floats in the layout of the family's own files.
lm::FeedForward plain(const lm::FeedForward& ffn, bool conv1d) {
  const auto turned = [](const Matrix& matrix, Major major) {
    if (!matrix.defined() || matrix.major() == major) return matrix;
    return Matrix::dense(matrix.stored().t().contiguous(), major);
  };
  auto out = ffn;
  auto& group = out.groups.front();
  const auto major = conv1d ? Major::input : Major::output;
  group.key = turned(group.key, major), group.gate = turned(group.gate, major);
  group.value = turned(group.value, major);
  return out;
}

// The same neurons with one row each, as split models keep them.
lm::FeedForward by_rows(const lm::FeedForward& ffn) {
  const auto turned = [](const Matrix& matrix, Major major) {
    if (!matrix.defined() || matrix.major() == major) return matrix;
    require(!is_quantised(matrix.format()), "quantised rows that do not belong to neurons");
    return Matrix::dense(matrix.stored().t().contiguous(), major);
  };
  auto out = ffn;
  for (auto& group : out.groups) {
    group.key = turned(group.key, Major::output), group.gate = turned(group.gate, Major::output);
    group.value = turned(group.value, Major::input);
  }
  return out;
}

std::vector<lm::GroupLayout> layout_of(const lm::FeedForward& ffn) {
  std::vector<lm::GroupLayout> out;
  for (const auto& group : ffn.groups)
    out.push_back({group.neurons(), group.key.format(),
                   group.gate.defined() ? group.gate.format() : Format::f32, group.value.format()});
  return out;
}

// A copy that shares the weights, its FFNs in the form in which they are written.
struct Written {
  lm::Transformer model;
  lm::PackedLayout layout;
  std::vector<lm::WeightSlot> slots;
};

Written prepare(lm::Transformer& model) {
  const auto& map = map_of(model->config);
  Written out{lm::Transformer(model->config), {}, {}};
  out.model->embedding = model->embedding;
  out.model->output = model->output;
  bool any = false;
  for (const auto& block : model->blocks) any = any || packed(block.ffn);
  out.model->blocks = model->blocks;
  for (auto& block : out.model->blocks) {
    block.ffn = any ? by_rows(block.ffn) : plain(block.ffn, map.conv1d);
    if (any) out.layout.split.push_back(layout_of(block.ffn));
  }
  const auto prefix = lm::written_prefix(map, model->config);
  out.slots = lm::weight_slots(*out.model, map, prefix, out.layout);
  if (model->config.tied)
    std::erase_if(out.slots, [](const lm::WeightSlot& slot) { return slot.optional; });
  for (const auto& slot : out.slots) {
    if (slot.matrices.empty() || slot.name.find(".groups.") != std::string::npos) continue;
    const auto format = slot.matrices.front().second->format();
    if (is_quantised(format)) out.layout.tensors[slot.theirs] = format;
  }
  return out;
}

torch::Tensor value_of(const lm::WeightSlot& slot) {
  if (slot.vector) return *slot.vector;
  std::vector<torch::Tensor> parts;
  for (const auto& [name, matrix] : slot.matrices) parts.push_back(matrix->stored());
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
  const auto* stored = slot.vector ? source_of(model, slot) : nullptr;
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
  for (const auto& entry : fs::directory_iterator(source)) {
    const auto name = entry.path().filename().string();
    const auto is = [&](const char* ending) { return name.ends_with(ending); };
    const bool weights = is(".safetensors") || is(".bin") || is(".index.json") || is(".gguf") ||
                         name == "config.json" || name == "plan.json";
    if (entry.is_regular_file() && !weights) fs::copy_file(entry.path(), folder / name);
  }
}

int64_t bytes_of(const lm::WeightSlot& slot) {
  int64_t bytes = slot.vector ? static_cast<int64_t>(slot.vector->nbytes()) : 0;
  for (const auto& [name, matrix] : slot.matrices) bytes += matrix->stored_bytes();
  return bytes;
}

}  // namespace

Sizes sizes(lm::Transformer& model) {
  Sizes out;
  const auto written = prepare(model);
  for (const auto& slot : written.slots) {
    const auto bytes = bytes_of(slot);
    out.stored += bytes;
    const bool matrix = !slot.matrices.empty();
    if (matrix && slot.name.find(".ffn.") != std::string::npos) out.ffn += bytes;
    const bool table = matrix && slot.name.starts_with("embedding.") &&
                       slot.name != "embedding.project.weight" &&
                       slot.name != "embedding.patch.weight";
    out.read_per_token += table ? bytes / slot.matrices.front().second->rows() : bytes;
  }
  if (model->config.tied) out.read_per_token += model->output.vocabulary.weight.stored_bytes();
  return out;
}

void requantise(lm::Transformer& model, const WriteOptions& options) {
  const auto change = [](Matrix& matrix, Format format) {
    if (!matrix.defined()) return;
    const auto rows = matrix.decoded();
    const auto stored = encode(format, rows);
    matrix = is_quantised(format) ? Matrix::packed(format, stored, rows.size(1), matrix.major())
                                  : Matrix::dense(stored, matrix.major());
  };
  if (options.attention)
    for (auto& block : model->blocks) {
      auto& a = block.attention;
      for (auto* linear : {&a.query, &a.key, &a.value, &a.fused, &a.output})
        change(linear->weight, *options.attention);
    }
  if (options.embedding) {
    change(model->embedding.tokens, *options.embedding);
    if (model->config.tied)
      model->output.vocabulary.weight = model->embedding.tokens;
    else
      change(model->output.vocabulary.weight, *options.embedding);
  }
}

void write(lm::Transformer& model, const fs::path& source, const fs::path& output) {
  torch::NoGradGuard no_grad;
  AtomicDirectory folder(output);
  const auto written = prepare(model);
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  for (const auto& slot : written.slots) {
    const auto value = as_in_source(model, slot, value_of(slot));
    require(value.defined(), "{}: the model has no '{}' to write", output.string(), slot.name);
    tensors.emplace_back(slot.theirs,
                         value.detach().cpu().reshape(shape_of(slot, value)).contiguous());
  }
  const auto& map = map_of(model->config);
  const auto prefix = lm::written_prefix(map, model->config);
  for (size_t l = 0; l < model->blocks.size(); ++l)
    if (const auto& order = model->blocks[l].ffn.order; order.defined())
      tensors.emplace_back(lm::ffn_module(map, prefix, static_cast<int64_t>(l)) + ".neuron_order",
                           order);
  save_tensors(folder.path() / "model.safetensors", tensors, {{"format", "pt"}});

  auto json = model->config.source;
  const auto original = lm::config_from_json(json, "config.json");
  if (original.neurons != model->config.neurons || original.ffn_bias != model->config.ffn_bias)
    json = lm::config_to_json(model->config);
  json.erase("cajal");
  if (!written.layout.empty()) json["cajal"] = lm::packed_layout_to_json(written.layout);
  write_json(folder.path() / "config.json", json);
  copy_companions(source, folder.path());
  folder.commit();
}

}  // namespace cajal::surgery
