#include "cajal/atlas/browse_index.h"

#include <unistd.h>

#include <algorithm>
#include <unordered_map>

#include "cajal/atlas/report.h"
#include "cajal/atlas/store.h"
#include "cajal/text/unicode.h"

namespace cajal::atlas {
namespace {

namespace fs = std::filesystem;

constexpr int64_t index_version = 1;

// `energy` is in units of the layer's mean. Every order in which neurons are listed has an index,
// over all layers and within one.
constexpr const char* browse_tables = R"(
CREATE TABLE browse(id INTEGER PRIMARY KEY, layer INTEGER NOT NULL, neuron INTEGER NOT NULL,
  dead INTEGER NOT NULL, rate REAL NOT NULL, hits REAL NOT NULL, energy REAL NOT NULL,
  peak REAL NOT NULL);
CREATE TABLE browse_layers(layer INTEGER PRIMARY KEY, first INTEGER NOT NULL,
  neurons INTEGER NOT NULL, rate REAL NOT NULL, heavy INTEGER NOT NULL);
CREATE TABLE browse_bins(statistic TEXT NOT NULL, layer INTEGER NOT NULL, bin INTEGER NOT NULL,
  neurons INTEGER NOT NULL, PRIMARY KEY(statistic, layer, bin)) WITHOUT ROWID;
CREATE TABLE browse_kinds(kind TEXT NOT NULL, id INTEGER NOT NULL,
  PRIMARY KEY(kind, id)) WITHOUT ROWID;
CREATE TABLE browse_kind_counts(kind TEXT NOT NULL, layer INTEGER NOT NULL,
  neurons INTEGER NOT NULL, PRIMARY KEY(kind, layer)) WITHOUT ROWID;
CREATE TABLE browse_words(word INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE browse_uses(word INTEGER NOT NULL, role INTEGER NOT NULL, id INTEGER NOT NULL,
  PRIMARY KEY(word, role, id)) WITHOUT ROWID;
)";
constexpr const char* browse_orders = R"(
CREATE INDEX browse_by_rate ON browse(rate);
CREATE INDEX browse_by_hits ON browse(hits);
CREATE INDEX browse_by_energy ON browse(energy);
CREATE INDEX browse_by_peak ON browse(peak);
CREATE INDEX browse_by_layer_rate ON browse(layer, rate);
CREATE INDEX browse_by_layer_hits ON browse(layer, hits);
CREATE INDEX browse_by_layer_energy ON browse(layer, energy);
CREATE INDEX browse_by_layer_peak ON browse(layer, peak);
CREATE INDEX browse_kinds_of ON browse_kinds(id);
)";

int64_t bin_of(std::span<const double> edges, double x) {
  if (!(x > 0)) return 0;
  const auto above = std::upper_bound(edges.begin(), edges.end(), x) - edges.begin();
  return std::min<int64_t>(above, std::ssize(edges) - 1);
}

class IndexWriter {
 public:
  IndexWriter(Database& db, const Census& census, const Findings* findings)
      : db_(db), census_(census), findings_(findings) {}

  void write() {
    int64_t first = 0;
    for (int64_t l = 0; l < std::ssize(census_.layers); ++l) {
      layer(l, first);
      first += census_.layers[l].neurons;
    }
    write_words();
  }

 private:
  void layer(int64_t l, int64_t first) {
    const auto& layer = census_.layers[l];
    double energy = 0, rates = 0;
    for (int64_t i = 0; i < layer.neurons; ++i) energy += layer.energy(i), rates += layer.rate(i);
    const double mean = energy / static_cast<double>(layer.neurons);
    std::vector<int64_t> rate_bins(share_edges.size()), hit_bins(share_edges.size());
    std::vector<int64_t> energy_bins(energy_edges.size());
    std::map<std::string, int64_t> kinds;
    int64_t heavy = 0;

    Statement row(db_, "INSERT INTO browse VALUES(?,?,?,?,?,?,?,?)");
    Statement kind(db_, "INSERT INTO browse_kinds VALUES(?,?)");
    for (int64_t i = 0; i < layer.neurons; ++i) {
      const double ratio = mean > 0 ? layer.energy(i) / mean : 0;
      const auto peak = layer.peaks[i * LayerCensus::peaks_kept].activation;
      (row << first + i << l << i << int64_t{layer.dead(i)} << layer.rate(i) << layer.hits(i)
           << ratio << static_cast<double>(peak))
          .execute();
      ++rate_bins[bin_of(share_edges, layer.rate(i))];
      ++hit_bins[bin_of(share_edges, layer.hits(i))];
      ++energy_bins[bin_of(energy_edges, ratio)];
      heavy += layer.hits(i) >= 0.5;
      for (const auto& name : kinds_of(l, i)) {
        (kind << name << first + i).execute();
        ++kinds[name];
      }
      words_of(l, i, first + i);
    }
    Statement sums(db_, "INSERT INTO browse_layers VALUES(?,?,?,?,?)");
    (sums << l << first << layer.neurons << rates / static_cast<double>(layer.neurons) << heavy)
        .execute();
    bins("rate", l, rate_bins), bins("hits", l, hit_bins), bins("energy", l, energy_bins);
    Statement count(db_, "INSERT INTO browse_kind_counts VALUES(?,?,?)");
    for (const auto& [name, neurons] : kinds) (count << name << l << neurons).execute();
  }

  void bins(std::string_view statistic, int64_t l, const std::vector<int64_t>& counts) {
    Statement insert(db_, "INSERT INTO browse_bins VALUES(?,?,?,?)");
    for (int64_t bin = 0; bin < std::ssize(counts); ++bin)
      (insert << statistic << l << bin << counts[bin]).execute();
  }

  std::vector<std::string> kinds_of(int64_t l, int64_t i) const {
    if (findings_) return labels(census_, *findings_, l, i);
    std::vector<std::string> out;
    if (census_.layers[l].dead(i)) out.push_back("dead");
    if (census_.layers[l].hits(i) >= 0.5) out.push_back("heavy hitter");
    return out;
  }

  void words_of(int64_t l, int64_t i, int64_t id) {
    const auto add = [&](WordRole role, const std::string& word) {
      const auto [known, fresh] =
          words_.try_emplace(folded(word), static_cast<int64_t>(words_.size()));
      uses_.push_back({known->second, role, id});
    };
    if (findings_) {
      const auto& found = findings_->neurons[l][i];
      for (const auto& word : found.promoted) add(WordRole::promoted, word);
      for (const auto& word : found.lowered) add(WordRole::lowered, word);
      for (const auto& word : found.trigger_texts) add(WordRole::trigger, word);
    }
    const auto* peaks = &census_.layers[l].peaks[i * LayerCensus::peaks_kept];
    for (int k = 0; k < LayerCensus::peaks_kept && peaks[k].token >= 0; ++k)
      if (const auto words = census_.contexts.find(peaks[k].token); words != census_.contexts.end())
        add(WordRole::peak, words->second.token);
  }

  // In the order of the key, which is the quickest to write and to read.
  void write_words() {
    Statement word(db_, "INSERT INTO browse_words VALUES(?,?)");
    for (const auto& [text, number] : words_) (word << number << text).execute();
    std::sort(uses_.begin(), uses_.end());
    uses_.erase(std::unique(uses_.begin(), uses_.end()), uses_.end());
    Statement use(db_, "INSERT INTO browse_uses VALUES(?,?,?)");
    for (const auto& one : uses_)
      (use << one.word << static_cast<int64_t>(one.role) << one.id).execute();
  }

  struct Use {
    int64_t word;
    WordRole role;
    int64_t id;
    auto operator<=>(const Use&) const = default;
  };

  Database& db_;
  const Census& census_;
  const Findings* findings_;
  std::unordered_map<std::string, int64_t> words_;
  std::vector<Use> uses_;
};

bool has_index(const fs::path& path) {
  Database db(path, Database::Access::read);
  return db.integer("SELECT count(*) FROM sqlite_master WHERE name = 'browse'") == 1;
}

// What tells one state of a file from another.
std::string state_of(const fs::path& path) {
  return fmt::format("{} {} {} {}", fs::absolute(path).lexically_normal().string(),
                     fs::file_size(path), fs::last_write_time(path).time_since_epoch().count(),
                     index_version);
}

}  // namespace

std::string folded(std::string_view word) {
  std::string buffer;
  const auto text = text::repair_utf8(word, buffer);
  const auto begin = text.find_first_not_of(" \t\r\n");
  if (begin == text.npos) return std::string(text);
  return text::lower_case(text.substr(begin, text.find_last_not_of(" \t\r\n") + 1 - begin));
}

void save_browse(Database& db, const Census& census, const Findings* findings) {
  for (size_t l = 0; findings && l < census.layers.size(); ++l)
    require(findings->neurons.size() == census.layers.size() &&
                std::ssize(findings->neurons[l]) == census.layers[l].neurons,
            "{}: the findings are not of these layers", db.name);
  db.run(browse_tables);
  IndexWriter(db, census, findings).write();
  db.run(browse_orders);
}

fs::path index_beside(const fs::path& path, const fs::path& folder) {
  if (has_index(path)) return path;
  const auto state = state_of(path);
  const auto hash = hash_bytes(std::as_bytes(std::span(state)));
  const auto place = folder / fmt::format("index-{:016x}.db", hash);
  if (fs::exists(place)) return place;
  const auto census = load(path, Parts::sums);
  const auto findings = load_findings(path);
  std::error_code error;
  fs::create_directories(folder, error);
  require(!error, "{}: cannot be made: {}", folder.string(), error.message());
  const fs::path beside = place.string() + fmt::format(".{}.part", ::getpid());
  fs::remove(beside, error);
  {
    Database db(beside, Database::Access::create);
    db.run("PRAGMA journal_mode = OFF");
    db.run("BEGIN");
    db.run(fmt::format("PRAGMA user_version = {}", index_version).c_str());
    save_browse(db, census, findings ? &*findings : nullptr);
    db.run("COMMIT");
  }
  fs::rename(beside, place, error);
  require(!error, "{}: cannot be put in place: {}", place.string(), error.message());
  return place;
}

}  // namespace cajal::atlas
