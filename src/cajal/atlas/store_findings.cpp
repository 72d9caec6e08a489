#include "cajal/atlas/store_tables.h"
#include "cajal/core/error.h"
#include "cajal/core/json.h"

namespace cajal::atlas {

const char* const finding_tables = R"(
CREATE TABLE findings(layer INTEGER NOT NULL, neuron INTEGER NOT NULL, trigger_order INTEGER NOT NULL,
  rare INTEGER NOT NULL, pure INTEGER NOT NULL, covered REAL NOT NULL, selectivity REAL NOT NULL,
  trigger_keys TEXT NOT NULL, trigger_counts TEXT NOT NULL, triggers TEXT NOT NULL,
  suppressed REAL NOT NULL, trigger_rank REAL NOT NULL, position TEXT NOT NULL,
  information REAL NOT NULL, promoted TEXT NOT NULL, lowered TEXT NOT NULL,
  cosine_variance REAL NOT NULL, cosine_skew REAL NOT NULL, cosine_kurtosis REAL NOT NULL,
  null_share REAL NOT NULL, unigram_cosine REAL NOT NULL, effect REAL NOT NULL,
  norm_share REAL NOT NULL, unigram_share REAL NOT NULL, PRIMARY KEY(layer, neuron));
CREATE TABLE universal(layer INTEGER NOT NULL, neuron INTEGER NOT NULL, model TEXT NOT NULL,
  other_layer INTEGER NOT NULL, other_neuron INTEGER NOT NULL, rho REAL NOT NULL,
  turned REAL NOT NULL, PRIMARY KEY(layer, neuron, model));
CREATE TABLE layer_findings(layer INTEGER PRIMARY KEY, detectors INTEGER NOT NULL,
  pure INTEGER NOT NULL, rare INTEGER NOT NULL, lowering INTEGER NOT NULL, grams INTEGER NOT NULL,
  suppressed REAL NOT NULL, shuffled REAL NOT NULL, tokens_covered INTEGER NOT NULL,
  tokens_new INTEGER NOT NULL, positional_range INTEGER NOT NULL, oscillatory INTEGER NOT NULL,
  weak INTEGER NOT NULL, neurons INTEGER NOT NULL);
)";

namespace {

std::string list(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

template <class T>
std::vector<T> list_of(Database& db, const std::string& text) {
  std::vector<T> out;
  options::read(parse_json(text, db.name + ": findings"), db.name + ": findings", out);
  return out;
}

}  // namespace

void save_findings(Database& db, const Findings& findings) {
  Statement layer(db, "INSERT INTO layer_findings VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?)");
  Statement neuron(db,
                   "INSERT INTO findings VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)");
  Statement match(db, "INSERT INTO universal VALUES(?,?,?,?,?,?,?)");
  for (int64_t l = 0; l < std::ssize(findings.layers); ++l) {
    const auto& s = findings.layers[l];
    (layer << l << s.detectors << s.pure << s.rare << s.lowering << s.grams << s.suppressed
           << s.shuffled << s.tokens_covered << s.tokens_new << s.range << s.oscillatory << s.weak
           << std::ssize(findings.neurons[l]))
        .execute();
    for (int64_t i = 0; i < std::ssize(findings.neurons[l]); ++i) {
      const auto& f = findings.neurons[l][i];
      const auto& t = f.triggers;
      (neuron << l << i << int64_t{t.order} << int64_t{t.rare} << int64_t{t.pure} << t.covered
              << t.selectivity << list(t.keys) << list(t.counts) << list(f.trigger_texts)
              << f.suppressed << f.trigger_rank << to_name(f.position) << f.information
              << list(f.promoted) << list(f.lowered) << f.cosine_variance << f.cosine_skew
              << f.cosine_kurtosis << f.null_share << f.unigram_cosine << f.effect << f.norm_share
              << f.unigram_share)
          .execute();
      for (const auto& u : f.universal)
        (match << l << i << u.model << u.layer << u.neuron << u.rho << u.turned).execute();
    }
  }
}

namespace {

Finding read_finding(Database& db, Statement& row) {
  Finding f;
  auto& t = f.triggers;
  int64_t order = 0, rare = 0, pure = 0;
  std::string keys, counts, texts, position, promoted, lowered;
  row >> order >> rare >> pure >> t.covered >> t.selectivity >> keys >> counts >> texts >>
      f.suppressed >> f.trigger_rank >> position >> f.information >> promoted >> lowered >>
      f.cosine_variance >> f.cosine_skew >> f.cosine_kurtosis >> f.null_share >> f.unigram_cosine >>
      f.effect >> f.norm_share >> f.unigram_share;
  if (order < 0 || order > 5) db.damaged(fmt::format("a detector of {}-grams", order));
  t.order = static_cast<int>(order), t.rare = rare != 0, t.pure = pure != 0;
  t.keys = list_of<int64_t>(db, keys), t.counts = list_of<int64_t>(db, counts);
  f.trigger_texts = list_of<std::string>(db, texts);
  f.promoted = list_of<std::string>(db, promoted), f.lowered = list_of<std::string>(db, lowered);
  f.position = from_name<PositionKind>(position, db.name + ": findings.position");
  return f;
}

}  // namespace

std::optional<Findings> read_findings(Database& db) {
  Findings out;
  Statement layers(db,
                   "SELECT detectors, pure, rare, lowering, grams, suppressed, shuffled, "
                   "tokens_covered, tokens_new, positional_range, oscillatory, weak, neurons "
                   "FROM layer_findings ORDER BY layer");
  while (layers.next()) {
    auto& s = out.layers.emplace_back();
    int64_t neurons = 0;
    layers >> s.detectors >> s.pure >> s.rare >> s.lowering >> s.grams >> s.suppressed >>
        s.shuffled >> s.tokens_covered >> s.tokens_new >> s.range >> s.oscillatory >> s.weak >>
        neurons;
    const auto l = std::ssize(out.neurons);
    auto& all = out.neurons.emplace_back();
    Statement row(db,
                  "SELECT trigger_order, rare, pure, covered, selectivity, trigger_keys, "
                  "trigger_counts, triggers, suppressed, trigger_rank, position, information, "
                  "promoted, lowered, cosine_variance, cosine_skew, cosine_kurtosis, null_share, "
                  "unigram_cosine, effect, norm_share, unigram_share FROM findings "
                  "WHERE layer = ? ORDER BY neuron");
    row << l;
    while (row.next()) all.push_back(read_finding(db, row));
    if (std::ssize(all) != neurons)
      db.damaged(
          fmt::format("layer {} has findings of {} neurons, expected {}", l, all.size(), neurons));
  }
  if (out.layers.empty()) return {};
  Statement matches(
      db, "SELECT layer, neuron, model, other_layer, other_neuron, rho, turned FROM universal");
  while (matches.next()) {
    int64_t layer = 0, neuron = 0;
    Universal u;
    matches >> layer >> neuron >> u.model >> u.layer >> u.neuron >> u.rho >> u.turned;
    if (layer < 0 || layer >= std::ssize(out.neurons) || neuron < 0 ||
        neuron >= std::ssize(out.neurons[layer]))
      db.damaged(fmt::format("a match of layer {} neuron {}", layer, neuron));
    out.neurons[layer][neuron].universal.push_back(std::move(u));
  }
  return out;
}

}  // namespace cajal::atlas
