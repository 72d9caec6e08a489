// One neuron of a Browser: its figures, shape, exemplars and what was found about it.
#include <numeric>

#include "cajal/atlas/browse.h"
#include "cajal/atlas/collectors.h"

namespace cajal::atlas {

Json Browser::neuron(int64_t layer, int64_t neuron) {
  const auto id = id_of(layer, neuron);
  db_.deadline(seconds_);
  Json out = {{"layer", layer},
              {"neuron", neuron},
              {"layers", layers()},
              {"neurons", layer_sizes_[layer]},
              {"kinds", kinds_of(id)}};
  add_figures(out, layer, neuron, id);
  add_shape(out, layer, neuron);
  add_exemplars(out, layer, neuron);
  add_findings(out, layer, neuron);
  return out;
}

void Browser::add_figures(Json& out, int64_t layer, int64_t neuron, int64_t id) {
  Statement row(db_,
                "SELECT l.gated, l.tokens, l.threshold, n.positive, n.zero, n.fired, n.dead, "
                "n.rate, n.hits, n.mean, n.mean_norm, n.energy, n.peak, n.key_norm, n.value_norm, "
                "b.energy FROM neurons n JOIN layers l USING(layer) JOIN browse b ON b.id = ? "
                "WHERE n.layer = ? AND n.neuron = ?");
  row << id << layer << neuron;
  if (!row.next()) db_.damaged(fmt::format("no layer {} neuron {}", layer, neuron));
  int64_t gated = 0, tokens = 0, positive = 0, zero = 0, fired = 0, dead = 0;
  double threshold = 0, rate = 0, hits = 0, mean = 0, mean_norm = 0, energy = 0, peak = 0;
  double key_norm = 0, value_norm = 0, ratio = 0;
  row >> gated >> tokens >> threshold >> positive >> zero >> fired >> dead >> rate >> hits >>
      mean >> mean_norm >> energy >> peak >> key_norm >> value_norm >> ratio;
  const auto rank = [&](const char* query, double value) {
    Statement above(db_, query);
    above << layer << value;
    int64_t count = 0;
    above.next();
    above >> count;
    return count + 1;
  };
  out["gated"] = gated != 0, out["tokens"] = tokens, out["threshold"] = threshold;
  out["dead"] = dead != 0, out["fired"] = fired, out["positive"] = positive, out["zero"] = zero;
  out["rate"] = rate, out["hits"] = hits, out["mean"] = mean, out["mean_norm"] = mean_norm;
  out["energy"] = energy, out["energy_ratio"] = ratio, out["peak"] = peak;
  out["key_norm"] = key_norm, out["value_norm"] = value_norm;
  out["rank"] = {
      {"rate", rank("SELECT count(*) FROM browse WHERE layer = ? AND rate > ?", rate)},
      {"hits", rank("SELECT count(*) FROM browse WHERE layer = ? AND hits > ?", hits)},
      {"energy", rank("SELECT count(*) FROM browse WHERE layer = ? AND energy > ?", ratio)}};
}

void Browser::add_shape(Json& out, int64_t layer, int64_t neuron) {
  Statement row(db_,
                "SELECT input_mean, input_variance, input_skew, input_kurtosis, histogram, "
                "positions FROM counts WHERE layer = ? AND neuron = ?");
  row << layer << neuron;
  if (!row.next()) return;
  double mean = 0, variance = 0, skew = 0, kurtosis = 0;
  row >> mean >> variance >> skew >> kurtosis;
  const auto bins = row.blob(), positions = row.blob();
  if (bins.size() == Histogram::bins * sizeof(uint32_t)) {
    std::vector<uint32_t> count(Histogram::bins);
    std::memcpy(count.data(), bins.data(), bins.size());
    out["input"] = {{"mean", mean}, {"variance", variance}, {"skew", skew}, {"kurtosis", kurtosis}};
    out["histogram"] = Json::array();
    for (int bin = 0; bin < Histogram::bins; ++bin)
      if (count[bin] > 0) out["histogram"].push_back({bin, Histogram::centre(bin), count[bin]});
  }
  if (position_totals_.empty()) return;
  // Fewer tokens in a point than this say little.
  constexpr int64_t tokens_a_point = 64, most_points = 256, fewest_points = 8;
  const auto total = std::accumulate(position_totals_.begin(), position_totals_.end(), int64_t{0});
  const auto points = std::clamp(total / tokens_a_point, fewest_points, most_points);
  const auto width = (positions_ + points - 1) / points;
  std::vector<double> fired(static_cast<size_t>((positions_ + width - 1) / width));
  std::vector<double> seen(fired.size());
  for (int64_t p = 0; p < positions_; ++p)
    seen[p / width] += static_cast<double>(position_totals_[p]);
  try {
    for (const auto& [position, count] : KeyTable(positions_, {positions}).of(0))
      fired[position / width] += static_cast<double>(count);
  } catch (const Error& error) {
    db_.damaged(fmt::format("positions of layer {} neuron {}: {}", layer, neuron, error.what()));
  }
  for (size_t k = 0; k < fired.size(); ++k) fired[k] = seen[k] > 0 ? fired[k] / seen[k] : 0;
  out["positions"] = {{"width", width}, {"rates", fired}};
}

void Browser::add_exemplars(Json& out, int64_t layer, int64_t neuron) {
  out["exemplars"] = Json::array();
  Statement peaks(db_,
                  "SELECT p.activation, p.token, coalesce(c.before, ''), coalesce(c.word, ''), "
                  "coalesce(c.after, '') FROM peaks p LEFT JOIN contexts c USING(token) "
                  "WHERE p.layer = ? AND p.neuron = ? ORDER BY p.rank LIMIT 10");
  peaks << layer << neuron;
  while (peaks.next()) {
    double activation = 0;
    int64_t token = 0;
    std::string before, word, after;
    peaks >> activation >> token >> before >> word >> after;
    out["exemplars"].push_back({{"activation", activation},
                                {"token", token},
                                {"before", before},
                                {"word", word},
                                {"after", after}});
  }
}

void Browser::add_findings(Json& out, int64_t layer, int64_t neuron) {
  Statement row(db_,
                "SELECT trigger_order, rare, pure, covered, selectivity, trigger_counts, triggers, "
                "suppressed, position, information, promoted, lowered, cosine_variance, "
                "cosine_skew, cosine_kurtosis, null_share, unigram_cosine, effect, norm_share, "
                "unigram_share FROM findings WHERE layer = ? AND neuron = ?");
  row << layer << neuron;
  if (row.next()) {
    int64_t order = 0, rare = 0, pure = 0;
    double covered = 0, selectivity = 0, suppressed = 0, information = 0, variance = 0, skew = 0;
    double kurtosis = 0, null_share = 0, unigram_cosine = 0, effect = 0, norm_share = 0;
    double unigram_share = 0;
    std::string counts, triggers, position, promoted, lowered;
    row >> order >> rare >> pure >> covered >> selectivity >> counts >> triggers >> suppressed >>
        position >> information >> promoted >> lowered >> variance >> skew >> kurtosis >>
        null_share >> unigram_cosine >> effect >> norm_share >> unigram_share;
    constexpr size_t most = 50;
    const auto where = db_.name + ": findings";
    std::vector<int64_t> firings;
    options::read(parse_json(counts, where), where, firings);
    firings.resize(std::min(firings.size(), most));
    out["promoted"] = list_text(promoted, most), out["lowered"] = list_text(lowered, most);
    out["found"] = {{"trigger_order", order},
                    {"rare", rare != 0},
                    {"pure", pure != 0},
                    {"covered", covered},
                    {"selectivity", selectivity},
                    {"triggers", list_text(triggers, most)},
                    {"trigger_counts", firings},
                    {"suppressed", suppressed},
                    {"position", position},
                    {"information", information},
                    {"cosine_variance", variance},
                    {"cosine_skew", skew},
                    {"cosine_kurtosis", kurtosis},
                    {"null_share", null_share},
                    {"unigram_cosine", unigram_cosine},
                    {"effect", effect},
                    {"norm_share", norm_share},
                    {"unigram_share", unigram_share}};
  }
  out["matches"] = Json::array();
  Statement matches(db_,
                    "SELECT model, other_layer, other_neuron, rho, turned FROM universal "
                    "WHERE layer = ? AND neuron = ? ORDER BY rho DESC LIMIT 50");
  matches << layer << neuron;
  while (matches.next()) {
    std::string model;
    int64_t other_layer = 0, other_neuron = 0;
    double rho = 0, turned = 0;
    matches >> model >> other_layer >> other_neuron >> rho >> turned;
    out["matches"].push_back({{"model", model},
                              {"layer", other_layer},
                              {"neuron", other_neuron},
                              {"rho", rho},
                              {"turned", turned}});
  }
}

}  // namespace cajal::atlas
