#include "cajal/atlas/browse.h"

#include <charconv>

#include "cajal/atlas/store_tables.h"

namespace cajal::atlas {
namespace {

constexpr int64_t most_layers = 1 << 16, most_page = 1 << 30;
constexpr size_t most_words = 12;

template <class T>
T number(const Database& db, std::string_view key, const std::string& text, int base = 10) {
  T value{};
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (code != std::errc() || end != text.data() + text.size())
    db.damaged(fmt::format("meta '{}' is '{}', expected a number", key, text));
  return value;
}

// What a query asks for, as SQL whose values are all bound.
struct Where {
  std::string sql;
  std::vector<std::function<void(Statement&)>> bind;

  template <class T>
  void add(const std::string& condition, T value) {
    sql += (sql.empty() ? " WHERE " : " AND ") + condition;
    bind.push_back([value](Statement& s) { s << value; });
  }
  void bounds(const std::string& column, const Bounds& b) {
    if (b.min) add(column + " >= ?", *b.min);
    if (b.max) add(column + " <= ?", *b.max);
    if (b.above) add(column + " > ?", *b.above);
    if (b.below) add(column + " < ?", *b.below);
  }
  void word(const NeuronQuery& query) {
    const bool prefix = query.word.ends_with('*') && query.word.size() > 1;
    const auto word = folded(prefix ? query.word.substr(0, query.word.size() - 1) : query.word);
    const std::string uses = query.role ? " AND role = ?)" : ")";
    add("id IN (SELECT id FROM browse_uses WHERE word IN (SELECT word FROM browse_words WHERE " +
            std::string(prefix ? "text >= ? AND text < ?)" : "text = ?)") + uses,
        word);
    if (prefix) bind.push_back([end = word + "\xff"](Statement& s) { s << end; });
    if (query.role)
      bind.push_back([role = static_cast<int64_t>(*query.role)](Statement& s) { s << role; });
  }
  void apply(Statement& statement) const {
    for (const auto& one : bind) one(statement);
  }
};

Where where(const NeuronQuery& query) {
  Where out;
  if (query.layer) out.add("layer = ?", *query.layer);
  out.bounds("rate", query.rate), out.bounds("hits", query.hits);
  out.bounds("energy", query.energy);
  for (const auto& kind : query.kinds)
    out.add("id IN (SELECT id FROM browse_kinds WHERE kind = ?)", std::string(kind));
  if (!query.word.empty()) out.word(query);
  return out;
}

std::string order(const NeuronQuery& query) {
  const std::string way = query.descending ? " DESC" : "";
  if (query.order == NeuronOrder::place) return " ORDER BY id" + way;
  // The number of the neuron settles ties in the order of the index, which is then walked as it is.
  return " ORDER BY " + to_name(query.order) + way + ", id" + way;
}

}  // namespace

Browser::Browser(const std::filesystem::path& atlas, const std::filesystem::path& index)
    : db_(atlas, Database::Access::read) {
  check_atlas(db_);
  if (index != atlas) (Statement(db_, "ATTACH ? AS browse_index") << index.string()).execute();
  db_.deadline(seconds_);
  model_ = meta("model");
  model_hash_ = number<uint64_t>(db_, "model_hash", meta("model_hash"), 16);
  const auto where = db_.name + ": collectors";
  Collectors kind;
  read_options(parse_json(meta("collectors"), where), where, kind);
  positions_ = kind.positions;

  Statement layers(db_, "SELECT layer, first, neurons FROM browse_layers ORDER BY layer");
  while (layers.next()) {
    int64_t layer = 0, first = 0, neurons = 0;
    layers >> layer >> first >> neurons;
    if (layer != std::ssize(layer_sizes_) || first != neurons_ || neurons <= 0 ||
        neurons > int64_t{1} << 40 || layer >= most_layers)
      db_.damaged(fmt::format("layer {} has {} neurons from {} on", layer, neurons, first));
    layer_firsts_.push_back(first), layer_sizes_.push_back(neurons);
    neurons_ += neurons;
  }
  if (layer_sizes_.empty()) db_.damaged("no layers");
  Statement totals(db_, "SELECT counts FROM totals WHERE kind = 'positions'");
  if (!totals.next()) return;
  const auto blob = totals.blob();
  if (blob.size() / sizeof(int64_t) != static_cast<size_t>(positions_)) return;
  position_totals_.resize(static_cast<size_t>(positions_));
  if (positions_ > 0) std::memcpy(position_totals_.data(), blob.data(), blob.size());
}

std::string Browser::meta(std::string_view key) {
  Statement select(db_, "SELECT value FROM meta WHERE key = ?");
  select << key;
  if (!select.next()) db_.damaged(fmt::format("no '{}' in table meta", key));
  std::string value;
  select >> value;
  return value;
}

Json Browser::layer_rows() {
  Json out = Json::array();
  Statement layers(db_,
                   "SELECT l.layer, l.gated, l.tokens, l.firing_share, l.zero_share, l.dead, "
                   "b.neurons, b.rate, b.heavy, own.of_token, own.of_best_fixed "
                   "FROM layers l JOIN browse_layers b USING(layer) "
                   "JOIN energy own ON own.layer = l.layer AND own.percent = 10 ORDER BY l.layer");
  while (layers.next()) {
    int64_t layer = 0, gated = 0, tokens = 0, dead = 0, neurons = 0, heavy = 0;
    double firing = 0, zero = 0, rate = 0, of_token = 0, of_fixed = 0;
    layers >> layer >> gated >> tokens >> firing >> zero >> dead >> neurons >> rate >> heavy >>
        of_token >> of_fixed;
    const auto share = [&](int64_t count) {
      return static_cast<double>(count) / static_cast<double>(std::max<int64_t>(1, neurons));
    };
    out.push_back({{"layer", layer},
                   {"neurons", neurons},
                   {"gated", gated != 0},
                   {"tokens", tokens},
                   {"rate", rate},
                   {"silent_share", zero},
                   {"dead", dead},
                   {"dead_share", share(dead)},
                   {"heavy", heavy},
                   {"heavy_share", share(heavy)},
                   {"energy_of_token", of_token},
                   {"energy_of_fixed", of_fixed}});
  }
  return out;
}

Json Browser::overview() {
  db_.deadline(seconds_);
  Json out = {{"model", model_}, {"text", meta("text")}, {"neurons", neurons_}};
  out["layers"] = layer_rows();
  const auto add = [&](const char* name, std::span<const double> edges) {
    std::vector<std::vector<int64_t>> counts(layer_sizes_.size(),
                                             std::vector<int64_t>(edges.size()));
    Statement bins(db_, "SELECT layer, bin, neurons FROM browse_bins WHERE statistic = ?");
    bins << std::string_view(name);
    while (bins.next()) {
      int64_t layer = 0, bin = 0, neurons = 0;
      bins >> layer >> bin >> neurons;
      if (layer < 0 || layer >= layers() || bin < 0 || bin >= std::ssize(edges))
        db_.damaged(fmt::format("bin {} of layer {}", bin, layer));
      counts[layer][bin] = neurons;
    }
    out["spread"][name] = {{"edges", edges}, {"counts", counts}};
  };
  add("rate", share_edges), add("hits", share_edges), add("energy", energy_edges);
  Json kinds = Json::object();
  Statement kind(db_, "SELECT kind, layer, neurons FROM browse_kind_counts ORDER BY kind, layer");
  while (kind.next()) {
    std::string name;
    int64_t layer = 0, neurons = 0;
    kind >> name >> layer >> neurons;
    if (layer < 0 || layer >= layers()) db_.damaged(fmt::format("kinds of layer {}", layer));
    auto& counts = kinds[name];
    if (counts.is_null()) counts = std::vector<int64_t>(layer_sizes_.size());
    counts[layer] = neurons;
  }
  out["kinds"] = std::move(kinds);
  out["findings"] = db_.integer("SELECT count(*) FROM layer_findings") > 0;
  Statement models(db_, "SELECT DISTINCT model FROM universal ORDER BY model LIMIT 50");
  out["compared_with"] = Json::array();
  while (models.next()) {
    std::string name;
    models >> name;
    out["compared_with"].push_back(name);
  }
  return out;
}

Json Browser::kinds_of(int64_t id) {
  Json out = Json::array();
  Statement kinds(db_, "SELECT kind FROM browse_kinds WHERE id = ?");
  kinds << id;
  while (kinds.next()) {
    std::string name;
    kinds >> name;
    out.push_back(name);
  }
  return out;
}

Json Browser::list_text(const std::string& json, size_t most) {
  const auto where = db_.name + ": findings";
  std::vector<std::string> all;
  options::read(parse_json(json, where), where, all);
  if (all.size() > most) all.resize(most);
  return all;
}

int64_t Browser::id_of(int64_t layer, int64_t neuron) const {
  require(layer >= 0 && layer < layers(), "layer {}: the atlas has layers 0 to {}", layer,
          layers() - 1);
  require(neuron >= 0 && neuron < layer_sizes_[layer], "neuron {}: layer {} has neurons 0 to {}",
          neuron, layer, layer_sizes_[layer] - 1);
  return layer_firsts_[layer] + neuron;
}

Json Browser::row(int64_t id) {
  Statement select(db_,
                   "SELECT layer, neuron, dead, rate, hits, energy, peak FROM browse WHERE id = ?");
  select << id;
  if (!select.next()) db_.damaged(fmt::format("no row of neuron {} in table browse", id));
  int64_t layer = 0, neuron = 0, dead = 0;
  double rate = 0, hits = 0, energy = 0, peak = 0;
  select >> layer >> neuron >> dead >> rate >> hits >> energy >> peak;
  Json out = {{"layer", layer}, {"neuron", neuron}, {"dead", dead != 0}, {"rate", rate},
              {"hits", hits},   {"energy", energy}, {"peak", peak},      {"kinds", kinds_of(id)}};
  constexpr size_t shown = 5;
  Statement writes(db_, "SELECT promoted FROM findings WHERE layer = ? AND neuron = ?");
  writes << layer << neuron;
  std::string promoted;
  if (writes.next()) {
    writes >> promoted;
    out["promoted"] = list_text(promoted, shown);
  }
  Statement words(db_,
                  "SELECT c.word FROM peaks p JOIN contexts c USING(token) WHERE p.layer = ? AND "
                  "p.neuron = ? ORDER BY p.rank LIMIT 10");
  words << layer << neuron;
  auto& strongest = out["strongest"] = Json::array();
  while (words.next() && strongest.size() < shown) {
    std::string word;
    words >> word;
    if (std::find(strongest.begin(), strongest.end(), Json(word)) == strongest.end())
      strongest.push_back(word);
  }
  return out;
}

Json Browser::list(const NeuronQuery& query) {
  require(query.page_size >= 1 && query.page_size <= NeuronQuery::most_page_size,
          "page_size {}: expected 1 to {}", query.page_size, NeuronQuery::most_page_size);
  require(query.page >= 0 && query.page < most_page, "page {}: expected 0 to {}", query.page,
          most_page - 1);
  if (query.layer) id_of(*query.layer, 0);
  db_.deadline(seconds_);
  const auto conditions = where(query);
  Statement count(db_, ("SELECT count(*) FROM browse" + conditions.sql).c_str());
  conditions.apply(count);
  int64_t total = neurons_;
  if (!conditions.sql.empty() && count.next()) count >> total;
  Statement ids(
      db_, ("SELECT id FROM browse" + conditions.sql + order(query) + " LIMIT ? OFFSET ?").c_str());
  conditions.apply(ids);
  ids << query.page_size << query.page * query.page_size;
  Json out = {{"total", total},
              {"page", query.page},
              {"page_size", query.page_size},
              {"neurons", Json::array()}};
  while (ids.next()) {
    int64_t id = 0;
    ids >> id;
    out["neurons"].push_back(row(id));
  }
  return out;
}

Json Browser::brief(std::span<const std::pair<int64_t, int64_t>> neurons) {
  require(neurons.size() <= NeuronQuery::most_page_size, "{} neurons: expected {} at most",
          neurons.size(), NeuronQuery::most_page_size);
  db_.deadline(seconds_);
  Json out = {{"neurons", Json::array()}};
  for (const auto& [layer, neuron] : neurons) out["neurons"].push_back(row(id_of(layer, neuron)));
  return out;
}

Json Browser::words(std::string_view prefix) {
  db_.deadline(seconds_);
  Json out = {{"words", Json::array()}};
  const auto begin = folded(prefix);
  Statement select(
      db_,
      "SELECT text, (SELECT count(DISTINCT id) FROM browse_uses u WHERE u.word = "
      "w.word) FROM browse_words w WHERE text >= ? AND text < ? ORDER BY text LIMIT ?");
  select << begin << begin + "\xff" << static_cast<int64_t>(most_words);
  while (select.next()) {
    std::string text;
    int64_t neurons = 0;
    select >> text >> neurons;
    out["words"].push_back({{"text", text}, {"neurons", neurons}});
  }
  return out;
}

}  // namespace cajal::atlas
