#include "cajal/atlas/store.h"

#include <unistd.h>

#include <charconv>

#include "cajal/atlas/browse_index.h"
#include "cajal/atlas/sqlite.h"
#include "cajal/atlas/store_tables.h"
#include "cajal/core/error.h"

namespace cajal::atlas {
namespace {

namespace fs = std::filesystem;

constexpr int64_t application_id = 0x63616a6c;  // "cajl", in SQLite's header
constexpr int64_t most_layers = 1 << 16, most_neurons = 1 << 26, most_samples = 1 << 20;
constexpr int64_t most_keys = 1 << 24;

// The derived columns (shares, means) are there for people who query the file; `load` reads the
// counts and exact sums that they follow from.
constexpr const char* tables = R"(
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE covered(first_unit INTEGER NOT NULL, end_unit INTEGER NOT NULL);
CREATE TABLE layers(layer INTEGER PRIMARY KEY, neurons INTEGER NOT NULL, gated INTEGER NOT NULL,
  tokens INTEGER NOT NULL, live_tokens INTEGER NOT NULL, firing_share REAL, zero_share REAL,
  dead INTEGER, threshold REAL NOT NULL, token_shares BLOB NOT NULL);
CREATE TABLE energy(layer INTEGER NOT NULL, percent INTEGER NOT NULL, of_token REAL,
  of_best_fixed REAL, PRIMARY KEY(layer, percent));
CREATE TABLE neurons(layer INTEGER NOT NULL, neuron INTEGER NOT NULL, positive INTEGER NOT NULL,
  zero INTEGER NOT NULL, top INTEGER NOT NULL, fired INTEGER NOT NULL, dead INTEGER,
  firing_share REAL, rate REAL, hits REAL,
  mean REAL, mean_norm REAL, energy REAL, peak REAL, key_norm REAL NOT NULL,
  value_norm REAL NOT NULL, sums BLOB NOT NULL, samples BLOB NOT NULL,
  PRIMARY KEY(layer, neuron)) WITHOUT ROWID;
CREATE TABLE peaks(layer INTEGER NOT NULL, neuron INTEGER NOT NULL, rank INTEGER NOT NULL,
  activation REAL NOT NULL, token INTEGER NOT NULL, PRIMARY KEY(layer, neuron, rank)) WITHOUT ROWID;
CREATE TABLE samples(row INTEGER PRIMARY KEY, token INTEGER NOT NULL);
CREATE TABLE contexts(token INTEGER PRIMARY KEY, before TEXT NOT NULL, word TEXT NOT NULL,
  after TEXT NOT NULL);
)";

std::string hex(uint64_t value) { return fmt::format("{:016x}", value); }

Collectors kind_of(const Census& census) {
  return census.layers.empty() ? Collectors() : census.layers[0].tables.kind;
}

void save_meta(Database& db, const Census& census) {
  Statement insert(db, "INSERT INTO meta VALUES(?, ?)");
  const auto put = [&](std::string_view key, std::string_view value) {
    (insert << key << value).execute();
  };
  put("model", census.model);
  put("text", census.text);
  put("model_hash", hex(census.model_hash));
  put("text_hash", hex(census.text_hash));
  put("text_tokens", std::to_string(census.text_tokens));
  put("context", std::to_string(census.context));
  put("batch", std::to_string(census.batch));
  put("units", std::to_string(census.units));
  put("seed", std::to_string(census.seed));
  put("collectors", options::write(kind_of(census)).dump());

  Statement range(db, "INSERT INTO covered VALUES(?, ?)");
  for (const auto& [begin, end] : census.covered) (range << begin << end).execute();
  Statement sample(db, "INSERT INTO samples VALUES(?, ?)");
  for (size_t row = 0; row < census.sample_tokens.size(); ++row)
    (sample << static_cast<int64_t>(row) << census.sample_tokens[row]).execute();
  Statement context(db, "INSERT INTO contexts VALUES(?, ?, ?, ?)");
  for (const auto& [token, words] : census.contexts)
    (context << token << words.before << words.token << words.after).execute();
}

void save_layer(Database& db, int64_t index, const LayerCensus& layer, size_t sampled) {
  std::array<StoredSum, LayerCensus::percents.size()> shares;
  Statement curve(db, "INSERT INTO energy VALUES(?, ?, ?, ?)");
  for (size_t p = 0; p < shares.size(); ++p) {
    shares[p] = stored(layer.token_share[p]);
    const int percent = LayerCensus::percents[p];
    (curve << index << int64_t{percent} << layer.token_curve(p)
           << layer.fixed_curve(percent / 100.0))
        .execute();
  }
  Statement insert(db, "INSERT INTO layers VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
  (insert << index << layer.neurons << int64_t{layer.gated} << layer.tokens << layer.live_tokens
          << layer.positive_share() << layer.zero_share() << layer.dead_count() << layer.threshold
          << std::as_bytes(std::span(shares)))
      .execute();

  Statement neuron(db, "INSERT INTO neurons VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)");
  Statement peak(db, "INSERT INTO peaks VALUES(?, ?, ?, ?, ?)");
  std::vector<float> samples(sampled);
  for (int64_t i = 0; i < layer.neurons; ++i) {
    const std::array<StoredSum, 3> sums = {stored(layer.sum[i]), stored(layer.absolute[i]),
                                           stored(layer.square[i])};
    for (size_t row = 0; row < sampled; ++row)
      samples[row] = layer.samples[row * static_cast<size_t>(layer.neurons) + i];
    const Peak* peaks = &layer.peaks[i * LayerCensus::peaks_kept];
    (neuron << index << i << layer.positive[i] << layer.zero[i] << layer.top[i] << layer.fired[i]
            << int64_t{layer.dead(i)} << layer.firing_share(i) << layer.rate(i) << layer.hits(i)
            << layer.mean(i) << layer.mean_norm(i) << layer.energy(i)
            << static_cast<double>(peaks[0].activation) << static_cast<double>(layer.key_norm[i])
            << static_cast<double>(layer.value_norm[i]) << std::as_bytes(std::span(sums))
            << std::as_bytes(std::span(samples)))
        .execute();
    for (int64_t k = 0; k < LayerCensus::peaks_kept; ++k)
      if (peaks[k].token >= 0)
        (peak << index << i << k << static_cast<double>(peaks[k].activation) << peaks[k].token)
            .execute();
  }
}

std::string meta(Database& db, std::string_view key) {
  Statement select(db, "SELECT value FROM meta WHERE key = ?");
  select << key;
  if (!select.next()) db.damaged(fmt::format("no '{}' in table meta", key));
  std::string value;
  select >> value;
  return value;
}

template <class T>
T number(Database& db, std::string_view key, int base = 10) {
  const auto text = meta(db, key);
  T value{};
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (code != std::errc() || end != text.data() + text.size())
    db.damaged(fmt::format("meta '{}' is '{}', expected a number", key, text));
  return value;
}

void load_meta(Database& db, Census& census) {
  census.model = meta(db, "model");
  census.text = meta(db, "text");
  census.model_hash = number<uint64_t>(db, "model_hash", 16);
  census.text_hash = number<uint64_t>(db, "text_hash", 16);
  census.text_tokens = number<int64_t>(db, "text_tokens");
  census.context = number<int64_t>(db, "context");
  census.batch = number<int64_t>(db, "batch");
  census.units = number<int64_t>(db, "units");
  census.seed = number<uint64_t>(db, "seed");

  load_totals(db, census);
  Statement covered(db, "SELECT first_unit, end_unit FROM covered ORDER BY first_unit");
  while (covered.next()) {
    auto& range = census.covered.emplace_back();
    covered >> range.first >> range.second;
    const int64_t before =
        census.covered.size() > 1 ? census.covered[census.covered.size() - 2].second : 0;
    if (range.first < before || range.second <= range.first || range.second > census.units)
      db.damaged(fmt::format("table covered has the range {} to {}", range.first, range.second));
  }
  Statement samples(db, "SELECT token FROM samples ORDER BY row");
  while (samples.next()) {
    samples >> census.sample_tokens.emplace_back();
    if (census.sample_tokens.size() > most_samples) db.damaged("too many samples");
  }
  Statement contexts(db, "SELECT token, before, word, after FROM contexts");
  while (contexts.next()) {
    int64_t token = 0;
    Context words;
    contexts >> token >> words.before >> words.token >> words.after;
    census.contexts.emplace(token, std::move(words));
  }
}

void load_neurons(Database& db, int64_t index, LayerCensus& layer, size_t sampled) {
  Statement row(db,
                "SELECT neuron, positive, zero, top, fired, key_norm, value_norm, sums, samples "
                "FROM neurons WHERE layer = ? ORDER BY neuron");
  row << index;
  std::vector<float> samples(sampled);
  int64_t i = 0;
  for (; row.next(); ++i) {
    int64_t neuron = 0;
    double key_norm = 0, value_norm = 0;
    std::array<StoredSum, 3> sums;
    row >> neuron;
    if (neuron != i || i >= layer.neurons)
      db.damaged(fmt::format("layer {} has a row for neuron {}, expected 0 to {}", index, neuron,
                             layer.neurons - 1));
    row >> layer.positive[i] >> layer.zero[i] >> layer.top[i] >> layer.fired[i] >> key_norm >>
        value_norm;
    row.read_blob(std::as_writable_bytes(std::span(sums)));
    row.read_blob(std::as_writable_bytes(std::span(samples)));
    for (const auto count : {layer.positive[i], layer.zero[i], layer.top[i], layer.fired[i]})
      if (count < 0 || count > layer.tokens)
        db.damaged(fmt::format("layer {} neuron {} has a count of {} in {} tokens", index, i, count,
                               layer.tokens));
    layer.key_norm[i] = static_cast<float>(key_norm);
    layer.value_norm[i] = static_cast<float>(value_norm);
    layer.sum[i] = restored(sums[0]), layer.absolute[i] = restored(sums[1]);
    layer.square[i] = restored(sums[2]);
    for (size_t s = 0; s < sampled; ++s)
      layer.samples[s * static_cast<size_t>(layer.neurons) + i] = samples[s];
  }
  if (i != layer.neurons)
    db.damaged(fmt::format("layer {} has {} neurons, expected {}", index, i, layer.neurons));

  Statement peaks(db, "SELECT neuron, rank, activation, token FROM peaks WHERE layer = ?");
  peaks << index;
  while (peaks.next()) {
    int64_t neuron = 0, rank = 0, token = 0;
    double activation = 0;
    peaks >> neuron >> rank >> activation >> token;
    if (neuron < 0 || neuron >= layer.neurons || rank < 0 || rank >= LayerCensus::peaks_kept ||
        token < 0)
      db.damaged(fmt::format("layer {} has a peak for neuron {}, rank {}, token {}", index, neuron,
                             rank, token));
    layer.peaks[neuron * LayerCensus::peaks_kept + rank] = {static_cast<float>(activation), token};
  }
}

LayerCensus load_layer(Database& db, int64_t index, size_t sampled, const Collectors& kind) {
  Statement row(db,
                "SELECT neurons, gated, tokens, live_tokens, threshold, token_shares FROM layers "
                "WHERE layer = ?");
  row << index;
  if (!row.next()) db.damaged(fmt::format("no layer {}", index));
  int64_t neurons = 0, gated = 0, tokens = 0, live = 0;
  double threshold = 0;
  row >> neurons >> gated >> tokens >> live >> threshold;
  if (neurons <= 0 || neurons > most_neurons || tokens < 0 || live < 0 || live > tokens ||
      tokens > int64_t{1} << 48)
    db.damaged(fmt::format("layer {} has {} neurons, {} tokens, {} of them live", index, neurons,
                           tokens, live));
  // The rows must be there before memory is taken for them.
  Statement count(db, "SELECT count(*) FROM neurons WHERE layer = ?");
  count << index;
  int64_t there = 0;
  count.next();
  count >> there;
  if (there != neurons)
    db.damaged(fmt::format("layer {} has {} neurons, expected {}", index, there, neurons));

  const std::vector<float> none(static_cast<size_t>(neurons));
  LayerCensus layer(none, none, gated != 0, kind, threshold);
  layer.tokens = tokens, layer.live_tokens = live;
  std::array<StoredSum, LayerCensus::percents.size()> shares;
  row.read_blob(std::as_writable_bytes(std::span(shares)));
  for (size_t p = 0; p < shares.size(); ++p) layer.token_share[p] = restored(shares[p]);
  layer.samples.resize(sampled * static_cast<size_t>(neurons));
  load_neurons(db, index, layer, sampled);
  load_tables(db, index, layer);
  return layer;
}

}  // namespace

void save(const Census& census, const fs::path& path, const Findings* findings) {
  require(!fs::is_directory(path), "{}: is a folder, expected a file to write", path.string());
  const fs::path beside = path.string() + fmt::format(".{}.part", ::getpid());
  struct Removal {
    const fs::path& path;
    ~Removal() {
      std::error_code ignored;
      fs::remove(path, ignored);
      fs::remove(path.string() + "-journal", ignored);
    }
  } removal{beside};
  {
    Database db(beside, Database::Access::create);
    db.run("BEGIN");
    db.run(fmt::format("PRAGMA application_id = {}", application_id).c_str());
    db.run(fmt::format("PRAGMA user_version = {}", Census::schema).c_str());
    db.run(tables);
    db.run(collector_tables);
    save_meta(db, census);
    save_totals(db, census);
    for (int64_t l = 0; l < std::ssize(census.layers); ++l) {
      save_layer(db, l, census.layers[l], census.sample_tokens.size());
      save_tables(db, l, census.layers[l]);
    }
    db.run(finding_tables);
    if (findings) save_findings(db, *findings);
    if (census.complete()) save_browse(db, census, findings);
    db.run("COMMIT");
  }
  std::error_code error;
  fs::rename(beside, path, error);
  require(!error, "{}: cannot be put in place: {}", path.string(), error.message());
}

namespace {

// Which collectors the file holds; without `wanted` ones as if it held none.
Collectors read_kind(Database& db, Parts parts) {
  Collectors kind;
  const auto where = db.name + ": collectors";
  read_options(parse_json(meta(db, "collectors"), where), where, kind);
  const bool sound = kind.positions >= 0 && kind.positions <= most_keys && kind.vocabulary >= 0 &&
                     kind.vocabulary <= most_keys && kind.orders >= 1 && kind.orders <= 5 &&
                     kind.gram_limit >= 1;
  if (!sound) db.damaged("collectors out of range");
  return parts == Parts::all ? kind : Collectors();
}

}  // namespace

void check_atlas(Database& db) {
  require(db.integer("PRAGMA application_id") == application_id,
          "{}: an SQLite file, but not an atlas (cajal atlas build writes one)", db.name);
  const auto schema = db.integer("PRAGMA user_version");
  require(schema == Census::schema, "{}: atlas of schema {}, this build reads {}", db.name, schema,
          Census::schema);
}

std::optional<Findings> load_findings(const fs::path& path) {
  Database db(path, Database::Access::read);
  check_atlas(db);
  db.run("BEGIN");  // one state of the file, should someone write to it
  return read_findings(db);
}

Census load(const fs::path& path, Parts parts) {
  Database db(path, Database::Access::read);
  check_atlas(db);
  db.run("BEGIN");  // one state of the file, should someone write to it
  Census census;
  load_meta(db, census);
  const auto kind = read_kind(db, parts);
  const auto layers = db.integer("SELECT count(*) FROM layers");
  if (layers <= 0 || layers > most_layers) db.damaged(fmt::format("{} layers", layers));
  for (int64_t l = 0; l < layers; ++l)
    census.layers.push_back(load_layer(db, l, census.sample_tokens.size(), kind));
  return census;
}

}  // namespace cajal::atlas
