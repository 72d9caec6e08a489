#include <cstring>
#include <set>

#include "cajal/core/error.h"
#include "cajal/core/registry.h"
#include "cajal/core/torch_tensors.h"
#include "cajal/engine/checkpoint.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/models/lm/weights.h"

namespace cajal::lm {
namespace {

namespace fs = std::filesystem;

bool ends_with_norm(std::string_view name, std::string_view part) {
  return name.ends_with(part) && name.find("LayerNorm") != std::string_view::npos;
}

/// A checkpoint's tensors as a family names them.
class Reader {
 public:
  Reader(std::shared_ptr<const TensorFile> file, Config& config)
      : file_(std::move(file)), config_(config) {
    naming_ = find_naming(config_, *file_);
    settle_head();
  }

  const NameMap& map() const { return *naming_.map; }
  std::string_view prefix() const { return naming_.prefix; }

  /// The stored tensor of their name, or of the name that old files gave it; nullptr if none.
  const StoredTensor* find(const std::string& name) {
    if (const auto* stored = find_exact(name)) return stored;
    if (ends_with_norm(name, ".weight"))
      return find_exact(name.substr(0, name.size() - 6) + "gamma");
    if (ends_with_norm(name, ".bias")) return find_exact(name.substr(0, name.size() - 4) + "beta");
    return nullptr;
  }

  void fill(WeightSlot& slot, TransformerImpl& model) {
    const StoredTensor* stored = find(slot.theirs);
    if (!stored && slot.optional) return;
    if (!stored) missing(slot.theirs);
    check(slot, *stored);
    remember(slot.name, *stored, model);
    if (!slot.vectors.empty()) {
      // Vectors are small: widened once here rather than at every use.
      const auto all = to_torch(*stored, file_).to(torch::kFloat).reshape({-1});
      const auto parts = all.chunk(static_cast<int64_t>(slot.vectors.size()));
      for (size_t i = 0; i < parts.size(); ++i) *slot.vectors[i].second = parts[i];
      return;
    }
    auto whole = matrix(slot, to_torch(*stored, file_));
    const auto each = whole.rows() / static_cast<int64_t>(slot.matrices.size());
    for (size_t i = 0; i < slot.matrices.size(); ++i)
      *slot.matrices[i].second =
          slot.matrices.size() == 1
              ? whole
              : whole.rows(static_cast<int64_t>(i) * each, static_cast<int64_t>(i + 1) * each);
  }

  void read_order(TransformerImpl& model, int64_t layer) {
    const auto name = ffn_module(map(), prefix(), layer) + ".neuron_order";
    const StoredTensor* stored = find(name);
    if (!stored) return;
    require(stored->dtype == Dtype::i32 && stored->shape == std::vector{config_.neurons},
            "{}: tensor '{}' is {} {}, expected I32 [{}]", path(*stored), name,
            dtype_name(stored->dtype), shape_text(stored->shape), config_.neurons);
    const auto order = to_torch(*stored);
    const auto sorted = std::get<0>(order.sort());
    require(sorted.equal(torch::arange(config_.neurons, torch::kInt)),
            "{}: tensor '{}' is not a permutation of 0 to {}", path(*stored), name,
            config_.neurons - 1);
    model.blocks[static_cast<size_t>(layer)].ffn.order = order;
  }

  /// Whether the vocabulary's own tensor is a copy of the embedding.
  bool same_bytes(const std::string& a, const std::string& b) {
    const auto *x = find(a), *y = find(b);
    return x && y && x->dtype == y->dtype && x->shape == y->shape &&
           (x->bytes.data() == y->bytes.data() ||
            std::memcmp(x->bytes.data(), y->bytes.data(), x->bytes.size()) == 0);
  }

  /// Throws Error for a tensor that was neither used nor is known to be of no use.
  void refuse_rest() const {
    for (const auto& [name, stored] : file_->tensors())
      require(used_.count(name) || is_ignorable(name, config_),
              "{}: tensor '{}' has no place in this {} model of {} layers", path(stored), name,
              to_name(config_.family), config_.layers);
  }

 private:
  // Where config.json does not say what stands on top, the tensors do.
  void settle_head() {
    const auto holds = [&](std::string_view ours) {
      return find_exact(naming_.of(ours)) != nullptr;
    };
    if (!config_.head_named) {
      if (config_.head == Head::masked && !holds("output.transform.weight"))
        config_.head = Head::none;
      if (config_.head == Head::classes && !holds("output.classes.weight"))
        config_.head = Head::none;
      if (config_.head == Head::language && !config_.tied && !holds("output.vocabulary.weight"))
        config_.head = Head::none;
      config_.pooler = config_.head == Head::none;
    }
    if (config_.head == Head::none && config_.pooler)
      config_.pooler = has_part(map(), "output.pooler") && holds("output.pooler.weight");
    used_.clear();
  }

  const StoredTensor* find_exact(const std::string& name) {
    const auto it = file_->tensors().find(name);
    if (it == file_->tensors().end()) return nullptr;
    used_.insert(name);
    return &it->second;
  }

  [[noreturn]] void missing(const std::string& name) const {
    std::vector<std::string_view> rest;
    for (const auto& [other, stored] : file_->tensors())
      if (!used_.count(other)) rest.push_back(other);
    fail("{}: tensor '{}' is missing{}", file_->path().string(), name, did_you_mean(name, rest));
  }

  std::string path(const StoredTensor& stored) const {
    return (stored.file ? stored.file->path() : file_->path()).string();
  }

  void check(const WeightSlot& slot, const StoredTensor& stored) const {
    const bool packed = is_quantised(slot.format);
    std::vector<int64_t> expected;
    std::vector<std::string> labels;
    for (const auto& [size, label] : slot.axes) expected.push_back(size), labels.push_back(label);
    if (packed) {
      require_row(slot.format, expected.back(),
                  fmt::format("{}: tensor '{}'", path(stored), slot.theirs));
      expected.back() = row_bytes(slot.format, expected.back());
      labels.back() = fmt::format("bytes of a row in {}", to_name(slot.format));
    }
    require(stored.shape == expected, "{}: tensor '{}' is {}, expected {} ({} of config.json)",
            path(stored), slot.theirs, shape_text(stored.shape), shape_text(expected),
            fmt::join(labels, " x "));
    const bool right = packed ? stored.dtype == Dtype::u8
                              : stored.dtype < Dtype::i64;  // floating types come first
    require(right, "{}: tensor '{}' is {}, expected {}", path(stored), slot.theirs,
            dtype_name(stored.dtype), packed ? "U8" : "a floating type");
  }

  static Matrix matrix(const WeightSlot& slot, torch::Tensor weight) {
    if (is_quantised(slot.format))
      return Matrix::packed(slot.format, weight, slot.axes.back().size, slot.major);
    if (weight.dim() > 2)  // [1, tokens, width], or [width, channels, patch, patch]
      weight = weight.size(0) == 1 ? weight.squeeze(0) : weight.flatten(1);
    return Matrix::dense(weight, slot.major);
  }

  static void remember(std::string_view name, const StoredTensor& stored, TransformerImpl& model) {
    if (!name.starts_with("blocks.")) return;
    model.mapped.at(std::stoul(std::string(name.substr(7)))).push_back(stored);
  }

  std::shared_ptr<const TensorFile> file_;
  Config& config_;
  Naming naming_;
  std::set<std::string, std::less<>> used_;
};

void read_routers(TransformerImpl& m, const std::shared_ptr<const TensorFile>& routers) {
  if (!m.layout.experts) return;
  const auto& layout = *m.layout.experts;
  for (int64_t layer = 0; layer < m.config.layers; ++layer) {
    auto& ffn = m.blocks[static_cast<size_t>(layer)].ffn;
    require(!ffn.order.defined(), "layer {}: neurons in experts have no order beside it", layer);
    auto experts = std::make_shared<Experts>();
    experts->count = layout.count;
    experts->active = layout.active[static_cast<size_t>(layer)];
    experts->router = layout.router;
    const auto part = [&](const char* name, int64_t width) {
      return to_torch(router_tensor(*routers, layer, name, layout.count, width), routers);
    };
    if (layout.router != RouterKind::oracle) experts->first = part("first", m.config.width);
    if (layout.router == RouterKind::mlp) experts->second = part("second", layout.count);
    ffn.experts = std::move(experts);
  }
}

}  // namespace

Transformer load(const fs::path& path) { return load(open_checkpoint(path)); }

Transformer load(Checkpoint checkpoint) {
  Transformer model(std::move(checkpoint.config));
  auto& m = *model;
  m.file = std::move(checkpoint.file);
  m.mapped.resize(m.blocks.size());
  Reader reader(m.file, m.config);
  m.layout = std::move(checkpoint.layout);
  auto slots = weight_slots(m, reader.map(), reader.prefix());
  for (auto& slot : slots) reader.fill(slot, m);
  if (!m.layout.split.empty())
    for (int64_t layer = 0; layer < m.config.layers; ++layer) reader.read_order(m, layer);
  reader.refuse_rest();
  read_routers(m, checkpoint.routers);

  if (m.config.tied && m.config.vocabulary > 0) {
    // A file may hold the tied matrix twice; where the two differ, both count.
    const auto name = [&](const char* ours) {
      return stored_name(reader.map(), reader.prefix(), ours);
    };
    auto& own = m.output.vocabulary.weight;
    if (!own.defined() ||
        reader.same_bytes(name("output.vocabulary.weight"), name("embedding.tokens.weight"))) {
      own = Matrix();
    } else {
      m.config.tied = false;
    }
  }
  tie_ffns(m);
  register_weights(m, slots, /*trainable=*/false);
  if (m.config.tied) m.output.vocabulary.weight = m.embedding.tokens;
  m.eval();
  return model;
}

}  // namespace cajal::lm
