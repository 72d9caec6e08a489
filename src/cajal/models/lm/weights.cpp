#include "cajal/models/lm/weights.h"

#include "cajal/core/error.h"

namespace cajal::lm {
namespace {

// What the sizes are called in a family's config.json.
struct SizeNames {
  const char *width, *neurons, *positions;
};

SizeNames size_names(Family family) {
  if (family == Family::gpt2) return {"n_embd", "n_inner", "n_positions"};
  return {"hidden_size", family == Family::opt ? "ffn_dim" : "intermediate_size",
          "max_position_embeddings"};
}

class Walk {
 public:
  Walk(TransformerImpl& model, const NameMap& map, std::string_view prefix)
      : m_(model), c_(model.config), map_(map), prefix_(prefix), layout_(model.layout) {
    const auto names = size_names(c_.family);
    width_ = {c_.width, names.width};
    neurons_ = {c_.neurons, names.neurons};
    vocabulary_ = {c_.vocabulary, "vocab_size"};
    embedding_ = {c_.embedding_width,
                  c_.embedding_width == c_.width ? names.width : "word_embed_proj_dim"};
    positions_ = {c_.context + c_.position_offset, names.positions};
    if (c_.position_offset > 0 && c_.family == Family::opt) positions_.label += " + 2";
    queries_ = {c_.heads * c_.head_width, "heads x head width"};
    keys_ = {c_.kv_heads * c_.head_width, "key-value heads x head width"};
  }

  std::vector<WeightSlot> run() {
    embedding();
    for (int64_t layer = 0; layer < c_.layers; ++layer) block(layer);
    output();
    for (auto& slot : slots_) {
      if (slot.theirs.empty()) slot.theirs = stored_name(map_, prefix_, slot.name);
      if (const auto it = layout_.tensors.find(slot.theirs);
          it != layout_.tensors.end() && !slot.matrices.empty())
        slot.format = it->second;
    }
    return std::move(slots_);
  }

 private:
  void vector(const std::string& name, const Axis& size, torch::Tensor& to) {
    slots_.push_back({.name = name, .axes = {size}, .vectors = {{name, &to}}});
  }
  WeightSlot& matrix(const std::string& name, const Axis& outputs, const Axis& inputs, Matrix& to,
                     Major major = Major::output) {
    const bool turned = major == Major::input;
    slots_.push_back({.name = name,
                      .axes = {turned ? inputs : outputs, turned ? outputs : inputs},
                      .matrices = {{name, &to}},
                      .major = major});
    return slots_.back();
  }
  void linear(const std::string& name, const Axis& outputs, const Axis& inputs, Linear& to,
              bool bias, Major major = Major::output) {
    matrix(name + ".weight", outputs, inputs, to.weight, major);
    if (bias) vector(name + ".bias", outputs, to.bias);
  }
  void norm(const std::string& name, const Axis& size, Norm& to) {
    if (!c_.norm_affine) return;
    vector(name + ".weight", size, to.weight);
    if (c_.norm == NormKind::layer) vector(name + ".bias", size, to.bias);
  }

  void embedding() {
    auto& e = m_.embedding;
    if (c_.vision()) {
      const Axis one{1, "1"}, patch{c_.patch_size, "patch_size"};
      const auto token = [&](const char* name, torch::Tensor& to) {
        slots_.push_back({.name = name, .axes = {one, one, width_}, .vectors = {{name, &to}}});
      };
      token("embedding.class_token", e.class_token);
      if (c_.distillation_token) token("embedding.distillation_token", e.distillation_token);
      matrix("embedding.positions.weight", {c_.image_tokens(), "patches and tokens before them"},
             width_, e.positions)
          .axes.insert(slots_.back().axes.begin(), one);
      matrix("embedding.patch.weight", width_, {c_.channels, "num_channels"}, e.patch.weight)
          .axes.insert(slots_.back().axes.end(), 2, patch);
      vector("embedding.patch.bias", width_, e.patch.bias);
      return;
    }
    matrix("embedding.tokens.weight", vocabulary_, embedding_, e.tokens);
    if (c_.positions == Positions::learned)
      matrix("embedding.positions.weight", positions_, width_, e.positions);
    if (c_.token_types > 0)
      matrix("embedding.token_types.weight", {c_.token_types, "type_vocab_size"}, width_,
             e.token_types);
    if (c_.embedding_norm) norm("embedding.norm", width_, e.norm);
    if (c_.embedding_width != c_.width)
      linear("embedding.project", width_, embedding_, e.project, false);
  }

  void block(int64_t layer) {
    Block& b = m_.blocks[static_cast<size_t>(layer)];
    const auto at = fmt::format("blocks.{}.", layer);
    const bool after = c_.norm_place == NormPlace::both;
    norm(at + "norm1", width_, b.norm1);
    attention(at + "attention.", b.attention);
    if (after) norm(at + "norm1_after", width_, b.norm1_after);
    norm(at + "norm2", width_, b.norm2);
    if (layout_.ffn_owner(layer) != layer) {
      // Its tensors are the owner's.
    } else if (layout_.split.empty()) {
      ffn(at + "ffn.", b.ffn);
    } else {
      split_ffn(layer, at + "ffn.", b.ffn);
    }
    if (after) norm(at + "norm2_after", width_, b.norm2_after);
  }

  void attention(const std::string& at, Attention& a) {
    const Major major = map_.conv1d ? Major::input : Major::output;
    if (has_part(map_, "blocks.*.attention.fused")) {
      a.fused_by_head = map_.fused_by_head;
      const Axis all{queries_.size + 2 * keys_.size, "queries, keys and values"};
      linear(at + "fused", all, width_, a.fused, c_.query_bias, major);
    } else if (has_part(map_, "blocks.*.attention.query_key_value")) {
      const Axis all{3 * queries_.size, "queries, keys and values"};
      Linear* parts[] = {&a.query, &a.key, &a.value};
      const char* names[] = {"query.", "key.", "value."};
      matrix(at + "query_key_value.weight", all, width_, a.query.weight).matrices.clear();
      for (int i = 0; i < 3; ++i)
        slots_.back().matrices.emplace_back(at + names[i] + "weight", &parts[i]->weight);
      if (c_.query_bias) {
        vector(at + "query_key_value.bias", all, a.query.bias);
        slots_.back().vectors.clear();
        for (int i = 0; i < 3; ++i)
          slots_.back().vectors.emplace_back(at + names[i] + "bias", &parts[i]->bias);
      }
    } else {
      linear(at + "query", queries_, width_, a.query, c_.query_bias);
      linear(at + "key", keys_, width_, a.key, c_.query_bias);
      linear(at + "value", keys_, width_, a.value, c_.query_bias);
    }
    linear(at + "output", width_, queries_, a.output, c_.output_bias, major);
    if (!c_.query_key_norm) return;
    norm(at + "query_norm", {c_.head_width, "head_dim"}, a.query_norm);
    norm(at + "key_norm", {c_.head_width, "head_dim"}, a.key_norm);
  }

  void ffn(const std::string& at, FeedForward& f) {
    const Major major = map_.conv1d ? Major::input : Major::output;
    auto& group = f.groups.at(0);
    if (has_part(map_, "blocks.*.ffn.gate_key")) {
      auto& slot = matrix(at + "gate_key.weight",
                          {2 * c_.neurons, std::string("2 ") + neurons_.label}, width_, group.gate);
      slot.matrices = {{at + "gate.weight", &group.gate}, {at + "key.weight", &group.key}};
    } else {
      if (c_.gated) {
        matrix(at + "gate.weight", neurons_, width_, group.gate, major);
        if (c_.ffn_bias) vector(at + "gate.bias", neurons_, group.gate_bias);
      }
      matrix(at + "key.weight", neurons_, width_, group.key, major);
      if (c_.ffn_bias) vector(at + "key.bias", neurons_, group.key_bias);
    }
    matrix(at + "value.weight", width_, neurons_, group.value, major);
    if (c_.ffn_bias) vector(at + "value.bias", width_, f.value_bias);
  }

  void split_ffn(int64_t layer, const std::string& at, FeedForward& f) {
    const auto module = ffn_module(map_, prefix_, layer);
    const auto& groups = layout_.split.at(static_cast<size_t>(layer));
    f.groups.resize(groups.size());
    for (size_t g = 0; g < groups.size(); ++g) {
      auto& group = f.groups[g];
      const Axis neurons{groups[g].neurons, "neurons of the group"};
      const auto rows = [&](const char* name, Matrix& to, Format format, Major major) {
        auto& slot = matrix(fmt::format("{}groups.{}.{}.weight", at, g, name), neurons, width_, to);
        slot.major = major;
        slot.format = format;
        slot.theirs = fmt::format("{}.groups.{}.{}", module, g, name);
      };
      const auto bias = [&](const char* name, torch::Tensor& to) {
        vector(fmt::format("{}groups.{}.{}", at, g, name), neurons, to);
        slots_.back().theirs = fmt::format("{}.groups.{}.{}", module, g, name);
      };
      if (c_.gated) rows("gate", group.gate, groups[g].gate, Major::output);
      rows("key", group.key, groups[g].key, Major::output);
      rows("value", group.value, groups[g].value, Major::input);
      if (c_.gated && c_.ffn_bias) bias("gate_bias", group.gate_bias);
      if (c_.ffn_bias) bias("key_bias", group.key_bias);
    }
    if (c_.ffn_bias) vector(at + "value.bias", width_, f.value_bias);
  }

  void output() {
    auto& o = m_.output;
    if (c_.final_norm) norm("output.norm", width_, o.norm);
    if (c_.embedding_width != c_.width)
      linear("output.project", embedding_, width_, o.project, false);
    if (c_.pooler) {
      const bool of_classes = c_.head == Head::classes && has_part(map_, "output.class_pooler");
      linear(of_classes ? "output.class_pooler" : "output.pooler", width_, width_, o.pooler, true);
    }
    if (c_.next_sentence) linear("output.next_sentence", {2, "2"}, width_, o.next_sentence, true);
    if (c_.head == Head::masked) {
      linear("output.transform", width_, width_, o.transform, true);
      norm("output.transform_norm", width_, o.transform_norm);
      vector("output.vocabulary.bias", vocabulary_, o.vocabulary.bias);
    }
    if (c_.head == Head::masked || c_.head == Head::language)
      matrix("output.vocabulary.weight", vocabulary_, embedding_, o.vocabulary.weight).optional =
          c_.tied;
    if (c_.head == Head::classes) {
      const Axis classes{c_.classes, "classes of id2label"};
      const bool student = c_.distillation_head && has_part(map_, "output.student_classes");
      linear(student ? "output.student_classes" : "output.classes", classes, width_, o.classes,
             true);
      if (c_.distillation_head)
        linear("output.distillation_classes", classes, width_, o.distillation_classes, true);
    }
  }

  TransformerImpl& m_;
  const Config& c_;
  const NameMap& map_;
  std::string_view prefix_;
  const PackedLayout& layout_;
  Axis width_, neurons_, vocabulary_, embedding_, positions_, queries_, keys_;
  std::vector<WeightSlot> slots_;
};

// Puts a tensor under a dotted name, with a module for each part of it.
void register_at(torch::nn::Module& root, std::string_view name, const torch::Tensor& value,
                 bool trainable) {
  torch::nn::Module* at = &root;
  for (auto dot = name.find('.'); dot != std::string_view::npos; dot = name.find('.')) {
    const std::string part(name.substr(0, dot));
    auto children = at->named_children();
    if (const auto* child = children.find(part)) {
      at = child->get();
    } else {
      at = at->register_module(part, std::make_shared<torch::nn::Module>(part)).get();
    }
    name.remove_prefix(dot + 1);
  }
  if (trainable) {
    at->register_parameter(std::string(name), value, true);
  } else {
    at->register_buffer(std::string(name), value);
  }
}

}  // namespace

std::vector<WeightSlot> weight_slots(TransformerImpl& model, const NameMap& map,
                                     std::string_view prefix) {
  return Walk(model, map, prefix).run();
}

void tie_ffns(TransformerImpl& model) {
  for (int64_t layer = 0; layer < std::ssize(model.blocks); ++layer)
    if (const int64_t owner = model.layout.ffn_owner(layer); owner != layer)
      model.blocks[static_cast<size_t>(layer)].ffn = model.blocks[static_cast<size_t>(owner)].ffn;
}

void register_weights(TransformerImpl& model, std::vector<WeightSlot>& slots, bool trainable) {
  for (auto& slot : slots) {
    for (auto& [name, vector] : slot.vectors)
      if (vector->defined()) register_at(model, name, *vector, trainable);
    for (auto& [name, matrix] : slot.matrices)
      if (matrix->defined()) register_at(model, name, matrix->stored(), trainable);
  }
}

}  // namespace cajal::lm
