// The weights of a network, found by their names and checked.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "cajal/core/error.h"
#include "cajal/core/registry.h"
#include "cajal/engine/experts.h"
#include "cajal/engine/names.h"
#include "cajal/engine/network.h"

namespace cajal::engine {

class NetworkLoader {
 public:
  explicit NetworkLoader(Network& network)
      : network_(network),
        checkpoint_(network.checkpoint_),
        c_(checkpoint_.config),
        naming_(lm::find_naming(c_, *checkpoint_.file)) {}

  void run() {
    require(c_.causal && c_.head == lm::Head::language,
            "{}: a {} model of this kind predicts no next token", checkpoint_.path.string(),
            to_name(c_.family));
    network_.tokens_ = matrix("embedding.tokens", c_.vocabulary, c_.embedding_width);
    if (c_.positions == lm::Positions::learned)
      network_.positions_ =
          matrix("embedding.positions", c_.context + c_.position_offset, c_.width);
    if (c_.embedding_width != c_.width) {
      network_.project_in_ = matrix("embedding.project", c_.width, c_.embedding_width);
      network_.project_out_ = matrix("output.project", c_.embedding_width, c_.width);
    }
    for (int64_t i = 0; i < c_.layers; ++i) network_.layers.push_back(layer(i));
    if (c_.final_norm) network_.norm_ = norm("output.norm", c_.width);
    vocabulary();
    refuse_rest();
  }

 private:
  const StoredTensor* find(const std::string& name) {
    const auto it = checkpoint_.file->tensors().find(name);
    if (it == checkpoint_.file->tensors().end()) return nullptr;
    used_.insert(name);
    return &it->second;
  }

  const StoredTensor& need(const std::string& name) {
    if (const auto* stored = find(name)) return *stored;
    std::vector<std::string_view> rest;
    for (const auto& [other, stored] : checkpoint_.file->tensors())
      if (!used_.count(other)) rest.push_back(other);
    fail("{}: tensor '{}' is missing{}", checkpoint_.file->path().string(), name,
         did_you_mean(name, rest));
  }

  void refuse_rest() const {
    for (const auto& [name, stored] : checkpoint_.file->tensors())
      require(used_.count(name) || lm::is_ignorable(name, c_) || name.ends_with(".neuron_order"),
              "{} has no place in this {} model of {} layers", where(name, stored),
              to_name(c_.family), c_.layers);
  }

  std::string where(const std::string& name, const StoredTensor& stored) const {
    return fmt::format("{}: tensor '{}'",
                       (stored.file ? stored.file->path() : checkpoint_.file->path()).string(),
                       name);
  }

  Format format_of(const std::string& name, const StoredTensor& stored) const {
    if (const auto it = checkpoint_.layout.tensors.find(name);
        it != checkpoint_.layout.tensors.end())
      return it->second;
    switch (stored.dtype) {
      case Dtype::f32:
        return Format::f32;
      case Dtype::f16:
        return Format::f16;
      case Dtype::bf16:
        return Format::bf16;
      default:
        fail("{} is {}, expected F32, F16 or BF16", where(name, stored), dtype_name(stored.dtype));
    }
  }

  // The stored tensor, whose rows in `format` must be those of a matrix [rows, width].
  const StoredTensor& checked(const std::string& name, Format format, int64_t rows, int64_t width) {
    const auto& stored = need(name);
    std::vector<int64_t> expected = {rows, width};
    if (is_quantised(format)) {
      require_row(format, width, where(name, stored));
      expected[1] = row_bytes(format, width);
      require(stored.dtype == Dtype::u8, "{} is {}, expected U8", where(name, stored),
              dtype_name(stored.dtype));
    }
    require(stored.shape == expected, "{} is {}, expected {}", where(name, stored), stored.shape,
            expected);
    return stored;
  }

  Linear as_stored(const std::string& name, Format format, int64_t rows, int64_t width) {
    const auto& stored = checked(name, format, rows, width);
    Linear linear;
    const std::byte* data = stored.bytes.data();
    if (!is_aligned(stored)) {
      linear.owned = WeightMemory(stored.bytes.size());
      std::memcpy(linear.owned.data(), data, stored.bytes.size());
      data = linear.owned.data();
    }
    linear.weight = row_matrix(format, data, rows, width, where(name, stored));
    return linear;
  }

  // [inputs, outputs] as GPT-2's files hold it, turned.
  Linear turned(const std::string& name, Format format, int64_t outputs, int64_t inputs) {
    const auto& stored = checked(name, format, inputs, outputs);
    require(!is_quantised(format), "{} is quantised along its outputs, which is not run here",
            where(name, stored));
    const auto size = static_cast<size_t>(block_bytes(format));
    Linear linear;
    linear.owned = WeightMemory(stored.bytes.size());
    for (int64_t out = 0; out < outputs; ++out)
      for (int64_t in = 0; in < inputs; ++in)
        std::memcpy(linear.owned.data() + static_cast<size_t>(out * inputs + in) * size,
                    stored.bytes.data() + static_cast<size_t>(in * outputs + out) * size, size);
    if (stored.file) stored.file->forget(stored.bytes);
    linear.weight = row_matrix(format, linear.owned.data(), outputs, inputs, where(name, stored));
    return linear;
  }

  Linear matrix(const std::string& ours, int64_t outputs, int64_t inputs) {
    const auto name = naming_.of(ours + ".weight");
    const auto format = format_of(name, need(name));
    return naming_.map->conv1d && ours.starts_with("blocks.")
               ? turned(name, format, outputs, inputs)
               : as_stored(name, format, outputs, inputs);
  }

  std::vector<float> stored_vector(const std::string& name, int64_t size) {
    const auto& stored = need(name);
    const auto format = format_of(name, stored);
    require(!is_quantised(format) && stored.shape == std::vector{size}, "{} is {}, expected [{}]",
            where(name, stored), stored.shape, size);
    std::vector<float> values(static_cast<size_t>(size));
    decode_row(format, stored.bytes.data(), size, values.data());
    return values;
  }
  std::vector<float> vector(const std::string& ours, int64_t size) {
    return stored_vector(naming_.of(ours), size);
  }

  Linear linear(const std::string& ours, int64_t outputs, int64_t inputs, bool bias) {
    auto out = matrix(ours, outputs, inputs);
    if (bias) out.bias = vector(ours + ".bias", outputs);
    return out;
  }

  Norm norm(const std::string& ours, int64_t size) {
    Norm out;
    if (!c_.norm_affine) return out;
    out.weight = vector(ours + ".weight", size);
    if (c_.norm == NormKind::layer) out.bias = vector(ours + ".bias", size);
    return out;
  }

  // Some outputs of a linear map.
  static Linear part(const Linear& whole, int64_t begin, int64_t count) {
    Linear out = whole;
    out.weight.data = whole.weight.row(begin);
    out.weight.rows = count;
    if (!whole.bias.empty())
      out.bias.assign(whole.bias.begin() + begin, whole.bias.begin() + begin + count);
    return out;
  }

  Attention attention(const std::string& at) {
    const int64_t queries = c_.heads * c_.head_width, keys = c_.kv_heads * c_.head_width;
    Attention a;
    if (lm::has_part(*naming_.map, "blocks.*.attention.fused")) {
      auto all = linear(at + "fused", queries + 2 * keys, c_.width, c_.query_bias);
      if (naming_.map->fused_by_head) {
        a.fused = std::move(all);
      } else {
        a.query = part(all, 0, queries);
        a.key = part(all, queries, keys);
        a.value = part(all, queries + keys, keys);
      }
    } else {
      a.query = linear(at + "query", queries, c_.width, c_.query_bias);
      a.key = linear(at + "key", keys, c_.width, c_.query_bias);
      a.value = linear(at + "value", keys, c_.width, c_.query_bias);
    }
    a.output = linear(at + "output", c_.width, queries, c_.output_bias);
    if (c_.query_key_norm) {
      a.query_norm = norm(at + "query_norm", c_.head_width);
      a.key_norm = norm(at + "key_norm", c_.head_width);
    }
    return a;
  }

  NeuronGroup whole_group(const std::string& at) {
    NeuronGroup group;
    if (lm::has_part(*naming_.map, "blocks.*.ffn.gate_key")) {
      const auto both = matrix(at + "gate_key", 2 * c_.neurons, c_.width);
      group.gate = part(both, 0, c_.neurons);
      group.key = part(both, c_.neurons, c_.neurons);
    } else {
      if (c_.gated) group.gate = linear(at + "gate", c_.neurons, c_.width, c_.ffn_bias);
      group.key = linear(at + "key", c_.neurons, c_.width, c_.ffn_bias);
    }
    group.value = matrix(at + "value", c_.width, c_.neurons);
    return group;
  }

  NeuronGroup split_group(int64_t layer, size_t index, const lm::GroupLayout& how) {
    const auto module =
        fmt::format("{}.groups.{}", lm::ffn_module(*naming_.map, naming_.prefix, layer), index);
    NeuronGroup group;
    const auto rows = [&](const char* name, Format format) {
      return as_stored(module + name, format, how.neurons, c_.width);
    };
    group.key = rows(".key", how.key);
    if (c_.gated) group.gate = rows(".gate", how.gate);
    const auto values = rows(".value", how.value);
    require(values.owned.size() == 0, "{}: tensor '{}.value' begins at an odd byte",
            checkpoint_.path.string(), module);
    group.values = values.weight;
    if (c_.ffn_bias) {
      group.key.bias = stored_vector(module + ".key_bias", how.neurons);
      if (c_.gated) group.gate.bias = stored_vector(module + ".gate_bias", how.neurons);
    }
    return group;
  }

  std::shared_ptr<StoredFeedForward> feed_forward(int64_t layer) {
    if (const int64_t owner = checkpoint_.layout.ffn_owner(layer); owner != layer)
      return network_.layers[static_cast<size_t>(owner)].stored;
    const auto at = fmt::format("blocks.{}.ffn.", layer);
    auto ffn = std::make_shared<StoredFeedForward>();
    ffn->law = from_name<Law>(to_name(c_.law), checkpoint_.path.string() + ": the law of neurons");
    ffn->gated = c_.gated;
    if (checkpoint_.layout.split.empty()) {
      ffn->groups.push_back(whole_group(at));
    } else {
      const auto& groups = checkpoint_.layout.split[static_cast<size_t>(layer)];
      for (size_t g = 0; g < groups.size(); ++g)
        ffn->groups.push_back(split_group(layer, g, groups[g]));
    }
    if (c_.ffn_bias) ffn->bias = vector(at + "value.bias", c_.width);
    return ffn;
  }

  Layer layer(int64_t index) {
    const auto at = fmt::format("blocks.{}.", index);
    Layer out;
    out.norm1 = norm(at + "norm1", c_.width);
    out.norm2 = norm(at + "norm2", c_.width);
    if (c_.norm_place == lm::NormPlace::both) {
      out.norm1_after = norm(at + "norm1_after", c_.width);
      out.norm2_after = norm(at + "norm2_after", c_.width);
    }
    out.attention = attention(at + "attention.");
    out.stored = feed_forward(index);
    out.ffn_bytes = out.stored->bytes();
    if (checkpoint_.layout.ffn_owner(index) != index) out.unread_ffn_bytes = -out.ffn_bytes;
    if (checkpoint_.layout.experts) use_experts(index, *checkpoint_.layout.experts, out);
    return out;
  }

  RowMatrix router_matrix(int64_t layer, const char* part, int64_t rows, int64_t width) const {
    const auto& stored = lm::router_tensor(*checkpoint_.routers, layer, part, rows, width);
    const auto at =
        fmt::format("{}: layers.{}.{}", checkpoint_.routers->path().string(), layer, part);
    return row_matrix(format_of(at, stored), stored.bytes.data(), rows, width, at);
  }

  void use_experts(int64_t index, const lm::ExpertLayout& layout, Layer& layer) const {
    const int64_t count = layout.count, active = layout.active[static_cast<size_t>(index)];
    const int64_t all = layer.ffn_bytes, keys = layer.stored->groups.front().key.bytes() +
                                                layer.stored->groups.front().gate.bytes();
    layer.ffn_bytes = all * active / count;
    int64_t router_bytes = 0;
    ExpertChoice choice;
    if (layout.router == RouterKind::oracle) {
      choice = oracle_experts(layer.stored, count, active);
      layer.ffn_bytes = keys + (all - keys) * active / count;
    } else {
      Router router{.first = router_matrix(index, "first", count, c_.width)};
      if (layout.router == RouterKind::mlp)
        router.second = router_matrix(index, "second", count, count);
      choice = choose_experts(router, active);
      router_bytes = router.bytes();
    }
    layer.unread_ffn_bytes = all - layer.ffn_bytes;
    layer.ffn_bytes += router_bytes;
    layer.feed_forward = run_experts(layer.stored, choice, count, active);
  }

  // A file may hold a tied matrix twice; where the two differ, both count.
  void vocabulary() {
    const auto name = naming_.of("output.vocabulary.weight");
    const auto* own = find(name);
    if (!own && c_.tied) return;
    const auto& words = need(naming_.of("embedding.tokens.weight"));
    const bool same =
        own && own->dtype == words.dtype && own->shape == words.shape &&
        std::equal(own->bytes.begin(), own->bytes.end(), words.bytes.begin(), words.bytes.end());
    if (c_.tied && same) return;
    network_.vocabulary_ = matrix("output.vocabulary", c_.vocabulary, c_.embedding_width);
  }

  Network& network_;
  const lm::Checkpoint& checkpoint_;
  const lm::Config& c_;
  const lm::Naming naming_;
  std::set<std::string, std::less<>> used_;
};

bool can_run(const lm::Checkpoint& checkpoint) {
  const auto& c = checkpoint.config;
  const auto& laws = EnumNames<Law>::values;
  return c.causal && c.head == lm::Head::language &&
         std::any_of(std::begin(laws), std::end(laws),
                     [&](const auto& law) { return law.second == to_name(c.law); }) &&
         std::all_of(checkpoint.file->tensors().begin(), checkpoint.file->tensors().end(),
                     [](const auto& entry) {
                       const auto type = entry.second.dtype;
                       return type != Dtype::f64 && type != Dtype::f8_e4m3 &&
                              type != Dtype::f8_e5m2;
                     });
}

Network Network::open(lm::Checkpoint checkpoint, const NetworkOptions& options) {
  Network network;
  network.options = options;
  network.checkpoint_ = std::move(checkpoint);
  NetworkLoader(network).run();
  if (options.layout == Layout::packed) {
    ThreadPool threads;
    network.pack(threads);
  }
  return network;
}

void Network::pack(ThreadPool& threads) {
  if (options.arithmetic == Arithmetic::exact) return;
  std::set<const MappedFile*> files;
  for (const auto& [name, tensor] : checkpoint_.file->tensors())
    if (tensor.file) files.insert(tensor.file);
  const auto pack = [&](Linear& map) {
    map.pack(threads, [&](std::span<const std::byte> read) {
      for (const auto* file : files) file->forget(read);
      for (const auto& memory : checkpoint_.memory) memory.forget(read);
    });
  };
  if (vocabulary_) {
    pack(*vocabulary_);  // and the embedding, of which a token reads a row, stays
  } else {
    pack(tokens_);
  }
  pack(project_in_), pack(project_out_);
  for (auto& layer : layers) {
    auto& a = layer.attention;
    for (auto* map : {&a.query, &a.key, &a.value, &a.fused, &a.output}) pack(*map);
    if (layer.feed_forward) continue;
    for (auto& group : layer.stored->groups)
      for (auto* map : {&group.key, &group.gate, &group.value}) pack(*map);
  }
}

Network Network::open(const std::filesystem::path& path, const NetworkOptions& options) {
  return open(lm::open_checkpoint(path), options);
}

}  // namespace cajal::engine
