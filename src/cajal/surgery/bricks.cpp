#include "cajal/surgery/bricks.h"

#include <algorithm>
#include <set>

#include "cajal/core/error.h"
#include "cajal/core/registry.h"
#include "cajal/surgery/brick_parts.h"

namespace cajal::surgery {
namespace {

// Ids become parts of tensor names.
void check_id(const std::string& id) {
  require(!id.empty() && id.size() <= 200, "brick: an id of {} characters, expected 1 to 200",
          id.size());
  for (const char c : id)
    require(
        std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == ':' || c == '/',
        "brick '{}': ids are written with letters, digits and - _ : /", id);
}

void check_index(const Brick& brick, int64_t below) {
  const auto& id = brick.card.id;
  const auto found = brick.tensors.find("index");
  require(found != brick.tensors.end(), "brick '{}': tensor 'index' is missing", id);
  const auto& index = found->second;
  require(index.dim() == 1 && index.scalar_type() == torch::kLong && index.numel() > 0,
          "brick '{}': index is {}, expected i64 [n] with n > 0", id, shape_text(index.sizes()));
  require(index.min().item<int64_t>() >= 0 && index.max().item<int64_t>() < below,
          "brick '{}': index reaches {}, expected 0 to {}", id, index.max().item<int64_t>(),
          below - 1);
  const auto sorted = std::get<0>(index.sort());
  require(index.numel() == 1 || sorted.slice(0, 1).ne(sorted.slice(0, 0, -1)).all().item<bool>(),
          "brick '{}': index names something twice", id);
}

void check_tensor(const Brick& brick, const char* name, std::vector<int64_t> expected) {
  const auto found = brick.tensors.find(name);
  require(found != brick.tensors.end(), "brick '{}': tensor '{}' is missing", brick.card.id, name);
  const auto& t = found->second;
  bool fits = t.dim() == std::ssize(expected) && t.is_floating_point();
  for (int64_t i = 0; fits && i < t.dim(); ++i)
    fits = expected[static_cast<size_t>(i)] < 0 || t.size(i) == expected[static_cast<size_t>(i)];
  require(fits, "brick '{}': tensor '{}' is {}, expected {} (-1: any)", brick.card.id, name,
          shape_text(t.sizes()), shape_text(expected));
}

void check_tensors_known(const Brick& brick, const std::set<std::string>& known) {
  for (const auto& [name, tensor] : brick.tensors)
    require(known.contains(name) || name == "embedding", "brick '{}': a {} has no tensor '{}'",
            brick.card.id, to_name(brick.card.kind), name);
}

void check_key_value(const Brick& brick, const lm::Transformer& model) {
  const auto& c = model->config;
  const auto& group = model->blocks[static_cast<size_t>(brick.card.layer)].ffn.groups.at(0);
  check_tensor(brick, "key", {-1, c.width});
  const int64_t n = brick.tensors.at("key").size(0);
  check_tensor(brick, "value", {n, c.width});
  if (c.gated) check_tensor(brick, "gate", {n, c.width});
  if (group.key_bias.defined()) check_tensor(brick, "key_bias", {n});
  check_tensors_known(brick, c.gated ? std::set<std::string>{"key", "value", "gate", "key_bias"}
                                     : std::set<std::string>{"key", "value", "key_bias"});
}

void check_low_rank(const Brick& brick, const lm::Transformer& model) {
  auto copy = model;  // the handle, to name a matrix of it
  const Matrix& matrix = matrix_at(copy, brick.card.layer, brick.card.module);
  check_tensor(brick, "left", {matrix.inputs(), -1});
  check_tensor(brick, "right", {matrix.outputs(), brick.tensors.at("left").size(1)});
  check_tensors_known(brick, {"left", "right"});
}

void check_task_vector(const Brick& brick, const lm::Transformer& model) {
  auto copy = model;
  const auto parts = float_parts(copy);
  for (const auto& [name, delta] : brick.tensors) {
    if (name == "embedding") continue;
    const auto found = parts.find(name);
    require(found != parts.end(), "brick '{}': the model has no '{}'{}", brick.card.id, name, "");
    require(found->second.sizes() == delta.sizes(), "brick '{}': '{}' is {}, expected {}",
            brick.card.id, name, shape_text(delta.sizes()), shape_text(found->second.sizes()));
  }
}

}  // namespace

bool Brick::emergent() const { return card.kind <= BrickKind::layer; }

void check(const Brick& brick, const lm::Transformer& model, const std::string& hash) {
  const auto& card = brick.card;
  const auto& c = model->config;
  check_id(card.id);
  require(card.base.empty() || card.base == hash,
          "brick '{}' belongs to another model (content {}, this one is {})", card.id, card.base,
          hash);
  for (const auto& [name, tensor] : brick.tensors)
    require(!tensor.is_floating_point() || torch::isfinite(tensor).all().item<bool>(),
            "brick '{}': tensor '{}' holds values that are not finite", card.id, name);
  if (brick.tensors.contains("embedding")) check_tensor(brick, "embedding", {c.width});
  if (card.kind == BrickKind::task_vector) return check_task_vector(brick, model);
  require(card.layer >= 0 && card.layer < c.layers, "brick '{}': layer {}, expected 0 to {}",
          card.id, card.layer, c.layers - 1);
  switch (card.kind) {
    case BrickKind::neurons:
    case BrickKind::expert:
      return check_index(brick, c.neurons);
    case BrickKind::head:
      return check_index(brick, c.heads);
    case BrickKind::layer:
      return check_tensors_known(brick, {});
    case BrickKind::low_rank:
      return check_low_rank(brick, model);
    case BrickKind::adapter:
      check_tensor(brick, "down", {-1, c.width});
      return check_tensor(brick, "up", {c.width, brick.tensors.at("down").size(0)});
    default:
      return check_key_value(brick, model);
  }
}

BrickCost cost_of(const Brick& brick, const lm::Transformer& model) {
  const auto& c = model->config;
  BrickCost out;
  if (!brick.emergent()) {
    for (const auto& [name, tensor] : brick.tensors) {
      if (name == "embedding") continue;
      out.parameters += tensor.numel(), out.bytes += static_cast<int64_t>(tensor.nbytes());
    }
    // A change of weights that are there costs nothing once it is folded in.
    const bool folded =
        brick.card.kind == BrickKind::task_vector || brick.card.kind == BrickKind::low_rank;
    out.multiply_adds = folded ? 0 : out.parameters;
    return out;
  }
  const auto& block = model->blocks[static_cast<size_t>(brick.card.layer)];
  const auto per_value = [](const Matrix& m) {
    return m.defined()
               ? static_cast<double>(m.stored_bytes()) / static_cast<double>(m.rows() * m.columns())
               : 0.0;
  };
  const int64_t neuron = (c.gated ? 3 : 2) * c.width;
  const int64_t head = 4 * c.head_width * c.width;  // with its share of keys and values
  const int64_t parts = brick.card.kind == BrickKind::layer
                            ? c.neurons * neuron + c.heads * head
                            : brick.tensors.at("index").numel() *
                                  (brick.card.kind == BrickKind::head ? head : neuron);
  out.parameters = out.multiply_adds = parts;
  out.bytes =
      static_cast<int64_t>(static_cast<double>(parts) * per_value(block.ffn.groups.at(0).key));
  return out;
}

size_t BrickRegistry::place(const std::string& id) const {
  std::vector<std::string_view> names;
  for (size_t i = 0; i < bricks_.size(); ++i) {
    if (bricks_[i].card.id == id) return i;
    names.push_back(bricks_[i].card.id);
  }
  fail("no brick '{}'{}", id, did_you_mean(id, names));
}

bool BrickRegistry::has(const std::string& id) const {
  return std::any_of(bricks_.begin(), bricks_.end(),
                     [&](const Brick& brick) { return brick.card.id == id; });
}

void BrickRegistry::add(Brick brick) {
  check_id(brick.card.id);
  require(!has(brick.card.id), "brick '{}': there is one of that id", brick.card.id);
  bricks_.push_back(std::move(brick));
}

void BrickRegistry::update(Brick brick) {
  auto& now = bricks_[place(brick.card.id)];
  older_[brick.card.id].push_back(std::move(now));
  now = std::move(brick);
}

void BrickRegistry::revert(const std::string& id) {
  auto& now = bricks_[place(id)];
  const auto found = older_.find(id);
  require(found != older_.end(), "brick '{}': there is no version before this one", id);
  now = std::move(found->second.back());
  found->second.pop_back();
  if (found->second.empty()) older_.erase(found);
}

void BrickRegistry::remove(const std::string& id) {
  bricks_.erase(bricks_.begin() + static_cast<std::ptrdiff_t>(place(id)));
  older_.erase(id);
}

const Brick& BrickRegistry::at(const std::string& id) const { return bricks_[place(id)]; }

int64_t BrickRegistry::versions(const std::string& id) const {
  place(id);
  const auto found = older_.find(id);
  return 1 + (found == older_.end() ? 0 : std::ssize(found->second));
}

void BrickRegistry::save(const std::filesystem::path& path) const {
  NamedTensors tensors;
  Json cards = Json::array();
  const auto put = [&](const Brick& brick, const std::string& as) {
    auto card = options::write(brick.card);
    card["as"] = as;
    Json names = Json::array();
    for (const auto& [name, tensor] : brick.tensors) {
      tensors[as + "." + name] = tensor.detach().cpu().contiguous();
      names.push_back(name);
    }
    card["tensors"] = names;
    cards.push_back(card);
  };
  for (const auto& brick : bricks_) {
    if (const auto found = older_.find(brick.card.id); found != older_.end())
      for (size_t v = 0; v < found->second.size(); ++v)
        put(found->second[v], fmt::format("{}@{}", brick.card.id, v));
    put(brick, brick.card.id);
  }
  save_tensors(path, tensors, {{"bricks", cards.dump()}});
}

BrickRegistry BrickRegistry::load(const std::filesystem::path& path) {
  const auto where = path.string();
  const auto file = TensorFile::open(path);
  require(file.metadata().contains("bricks"), "{}: no 'bricks' among its metadata", where);
  const auto cards = parse_json(file.metadata().at("bricks").get<std::string>(), where);
  require(cards.is_array(), "{}: bricks: expected an array", where);
  const auto stored = load_tensors(path);
  BrickRegistry out;
  std::set<std::string> used;
  for (size_t i = 0; i < cards.size(); ++i) {
    const auto at = fmt::format("{}: bricks[{}]", where, i);
    auto json = cards[i];
    options::require_object(json, at);
    std::string as;
    std::vector<std::string> names;
    require(json.contains("as") && json.contains("tensors"), "{}: 'as' or 'tensors' is missing",
            at);
    options::read(json.at("as"), at + ".as", as);
    options::read(json.at("tensors"), at + ".tensors", names);
    json.erase("as"), json.erase("tensors");
    Brick brick{.card = options::parse<BrickCard>(json, at), .tensors = {}};
    check_id(brick.card.id);
    for (const auto& name : names) {
      const auto found = stored.find(as + "." + name);
      require(found != stored.end(), "{}: tensor '{}.{}' is missing", where, as, name);
      require(used.insert(found->first).second, "{}: tensor '{}' is used twice", where,
              found->first);
      brick.tensors[name] = found->second;
    }
    const auto id = brick.card.id;
    const bool older = as != id;
    require(!older || as == fmt::format("{}@{}", id, out.older_[id].size()),
            "{}.as: '{}' is no version of '{}'", at, as, id);
    if (older) {
      out.older_[id].push_back(std::move(brick));
    } else {
      out.add(std::move(brick));
    }
  }
  for (const auto& [id, versions] : out.older_)
    require(versions.empty() || out.has(id), "{}: brick '{}' has only older versions", where, id);
  std::erase_if(out.older_, [](const auto& item) { return item.second.empty(); });
  for (const auto& [name, tensor] : stored)
    require(used.contains(name), "{}: tensor '{}' belongs to no brick", where, name);
  return out;
}

}  // namespace cajal::surgery
