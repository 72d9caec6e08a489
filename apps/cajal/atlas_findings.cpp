// What was found about the neurons, for people: text, JSON, pictures and tables.
#include <algorithm>
#include <cmath>

#include "atlas_report.h"
#include "cajal/atlas/report.h"
#include "split_report.h"

namespace cajal {
namespace {

using atlas::Census;
using atlas::Finding;
using atlas::Findings;

std::string percent(double share) { return share < 0 ? "-" : fmt::format("{:.1f} %", 100 * share); }

std::string quoted(const std::vector<std::string>& words, size_t most) {
  std::string out;
  for (size_t k = 0; k < std::min(most, words.size()); ++k) {
    std::string word = words[k];
    for (auto& c : word)
      if (c == '\n' || c == '\r' || c == '\t') c = ' ';
    out += (k > 0 ? " " : "") + fmt::format("'{}'", word);
  }
  return out;
}

std::string joined(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, ", "));
}

}  // namespace

Json finding_json(const Census& census, const Findings& findings, int64_t l, int64_t i) {
  const auto& f = findings.neurons[l][i];
  const auto& layer = census.layers[l];
  const auto shape = layer.tables.moments.shape(i, layer.tokens);
  Json universal = Json::array();
  for (const auto& u : f.universal)
    universal.push_back({{"model", u.model},
                         {"layer", u.layer},
                         {"neuron", u.neuron},
                         {"correlation", u.rho},
                         {"turned_basis", u.turned}});
  return {
      {"labels", atlas::labels(census, findings, l, i)},
      {"rate", layer.rate(i)},
      {"input",
       {{"mean", shape.mean},
        {"variance", shape.variance},
        {"skew", shape.skew},
        {"kurtosis", shape.kurtosis}}},
      {"triggers",
       {{"order", f.triggers.order},
        {"rare", f.triggers.rare},
        {"pure", f.triggers.pure},
        {"covered", f.triggers.covered},
        {"selectivity", f.triggers.selectivity},
        {"count", f.triggers.keys.size()},
        {"texts", f.trigger_texts},
        {"lowered", f.suppressed},
        {"rank", f.trigger_rank}}},
      {"position", {{"kind", to_name(f.position)}, {"information", f.information}}},
      {"writes",
       {{"promoted", f.promoted},
        {"lowered", f.lowered},
        {"cosine_variance", f.cosine_variance},
        {"cosine_skew", f.cosine_skew},
        {"cosine_kurtosis", f.cosine_kurtosis},
        {"null_share", f.null_share},
        {"unigram_cosine", f.unigram_cosine}}},
      {"ablation",
       {{"effect", f.effect}, {"norm_share", f.norm_share}, {"unigram_share", f.unigram_share}}},
      {"excess", atlas::excess(f)},
      {"universal", std::move(universal)}};
}

Json layer_finding_json(const Findings& findings, int64_t l) {
  const auto& s = findings.layers[l];
  int64_t universal = 0;
  for (const auto& f : findings.neurons[l]) universal += atlas::excess(f) > 0.5;
  return {{"token_detectors", s.detectors},
          {"pure_token_detectors", s.pure},
          {"ngram_detectors", s.grams},
          {"rare", s.rare},
          {"suppress_their_triggers", s.lowering},
          {"triggers_lowered", s.suppressed},
          {"triggers_lowered_shuffled", s.shuffled},
          {"tokens_covered", s.tokens_covered},
          {"tokens_new", s.tokens_new},
          {"positional", {{"range", s.range}, {"oscillatory", s.oscillatory}, {"weak", s.weak}}},
          {"universal", universal}};
}

Json report_json(const Census& census, const Findings* findings) {
  auto out = layers_json(census, findings);
  for (int64_t l = 0; l < std::ssize(census.layers); ++l) {
    auto& neurons = out["layers"][l]["per_neuron"] = Json::array();
    for (int64_t i = 0; i < census.layers[l].neurons; ++i)
      neurons.push_back(neuron_json(census, findings, l, i));
  }
  return out;
}

std::string finding_text(const Census& census, const Findings& findings, int64_t l, int64_t i) {
  const auto& f = findings.neurons[l][i];
  const auto labels = atlas::labels(census, findings, l, i);
  std::string out = "\nfound\n";
  out += fmt::format("labels          {}\n", labels.empty() ? "none" : joined(labels));
  if (f.triggers.order > 0)
    out += fmt::format(
        "triggers        {} of {} token{}, {} of its firings{}: {}\n"
        "it lowers       {} of its triggers\n",
        f.triggers.keys.size(), f.triggers.order, f.triggers.order > 1 ? "s" : "",
        percent(f.triggers.covered),
        f.triggers.selectivity < 0
            ? ""
            : fmt::format(", which fire it {} of the time", percent(f.triggers.selectivity)),
        quoted(f.trigger_texts, 8), percent(f.suppressed));
  out += fmt::format("position        {}, {:.3f} nats\n", to_name(f.position), f.information);
  if (!f.promoted.empty())
    out += fmt::format("raises          {}\nlowers          {}\n", quoted(f.promoted, 10),
                       quoted(f.lowered, 10));
  out += fmt::format(
      "output          {} of its length unseen by the vocabulary, cosine with unigram {:.3f}\n",
      percent(f.null_share), f.unigram_cosine);
  if (f.effect >= 0)
    out += fmt::format(
        "ablated         loss moves by {:.2g}; {} through the norm, {} through the "
        "unigram direction\n",
        f.effect, percent(f.norm_share), percent(f.unigram_share));
  for (const auto& u : f.universal)
    out += fmt::format("like            {} layer {} neuron {}: {:.3f} (turned basis {:.3f})\n",
                       u.model, u.layer, u.neuron, u.rho, u.turned);
  return out;
}

std::string universal_table(const Findings& findings) {
  std::string out = fmt::format("{:>5} {:>14} {:>14} {:>10} {:>10}\n", "layer", "best rho",
                                "turned basis", "excess", "> 0.5");
  for (size_t l = 0; l < findings.neurons.size(); ++l) {
    double rho = 0, turned = 0, pairs = 0, excess = 0;
    int64_t universal = 0;
    for (const auto& f : findings.neurons[l]) {
      for (const auto& u : f.universal) rho += u.rho, turned += u.turned, pairs += 1;
      const double e = atlas::excess(f);
      excess += e, universal += e > 0.5;
    }
    pairs = std::max(pairs, 1.0);
    const auto n = static_cast<double>(std::max<size_t>(1, findings.neurons[l].size()));
    out += fmt::format("{:>5} {:>14.3f} {:>14.3f} {:>10.3f} {:>9.2f}%\n", l, rho / pairs,
                       turned / pairs, excess / n, 100 * static_cast<double>(universal) / n);
  }
  return out;
}

namespace {

plot::Chart bars(const char* title, const char* unit, const Findings& findings,
                 std::vector<std::pair<const char*, std::function<double(size_t)>>> kinds) {
  plot::BarChart chart;
  chart.title = title;
  chart.y.label = unit;
  for (size_t l = 0; l < findings.layers.size(); ++l) chart.groups.push_back(std::to_string(l));
  for (const auto& [name, value] : kinds) {
    auto& bar = chart.bars.emplace_back(plot::Bars{name, {}});
    for (size_t l = 0; l < findings.layers.size(); ++l) bar.values.push_back(value(l));
  }
  return chart;
}

plot::Chart rates(const Census& census) {
  plot::HeatMap chart;
  chart.title = "How often neurons fire";
  chart.x = "share of tokens, as a power of 2";
  chart.unit = "% of the layer";
  constexpr int low = -14;
  chart.columns.push_back("dead");
  for (int k = low; k < 0; ++k) chart.columns.push_back(std::to_string(k));
  for (size_t l = 0; l < census.layers.size(); ++l) {
    const auto& layer = census.layers[l];
    std::vector<double> row(chart.columns.size());
    for (int64_t i = 0; i < layer.neurons; ++i) {
      const double rate = layer.rate(i);
      const int place =
          rate > 0 ? 1 + std::clamp(static_cast<int>(std::floor(std::log2(rate))), low, -1) - low
                   : 0;
      row[static_cast<size_t>(place)] += 100.0 / static_cast<double>(layer.neurons);
    }
    chart.values.push_back(std::move(row));
    chart.rows.push_back(fmt::format("layer {}", l));
  }
  return chart;
}

plot::Chart last_layer(const Findings& findings) {
  plot::Lines chart;
  chart.title = "Last layer: what the vocabulary cannot see acts through the norm";
  chart.x.label = "% of the output's length in the null space";
  chart.y.label = "% of the ablation's effect through the norm";
  chart.y.low = -50, chart.y.high = 100;
  plot::Series points{.name = "neurons", .x = {}, .y = {}, .points_only = true};
  for (const auto& f : findings.neurons.back())
    if (f.effect > 0)
      points.x.push_back(100 * f.null_share), points.y.push_back(100 * f.norm_share);
  chart.series.push_back(std::move(points));
  return chart;
}

bool any_ablated(const Findings& findings) {
  return std::any_of(findings.neurons.back().begin(), findings.neurons.back().end(),
                     [](const Finding& f) { return f.effect > 0; });
}

plot::Chart excesses(const Findings& findings) {
  plot::Lines chart;
  chart.title = "Universality: correlation beyond a turned basis";
  chart.x.label = "excess correlation at least";
  chart.y.label = "% of the layer";
  for (size_t l = 0; l < findings.neurons.size(); ++l) {
    plot::Series series{.name = fmt::format("layer {}", l), .x = {}, .y = {}};
    for (int k = 0; k <= 20; ++k) {
      const double at = k / 20.0;
      int64_t more = 0;
      for (const auto& f : findings.neurons[l]) more += atlas::excess(f) >= at;
      series.x.push_back(at);
      series.y.push_back(100.0 * static_cast<double>(more) /
                         static_cast<double>(findings.neurons[l].size()));
    }
    chart.series.push_back(std::move(series));
  }
  return chart;
}

}  // namespace

std::vector<Picture> finding_pictures(const Census& census, const Findings& f) {
  const auto count = [](int64_t x) { return static_cast<double>(x); };
  std::vector<Picture> out = {
      {rates(census),
       "Neurons that fire at every second token stand right, specialists left, those that never "
       "fired in the first column."},
      {bars("Detectors", "neurons", f,
            {{"of tokens", [&](size_t l) { return count(f.layers[l].detectors); }},
             {"pure", [&](size_t l) { return count(f.layers[l].pure); }},
             {"of n-grams", [&](size_t l) { return count(f.layers[l].grams); }}}),
       "A detector fires on at most 50 tokens (or n-grams) in 95 % of the cases; a pure one fires "
       "at nearly every occurrence of them."},
      {bars("Triggers that their detector lowers", "%", f,
            {{"its own", [&](size_t l) { return 100 * f.layers[l].suppressed; }},
             {"of another", [&](size_t l) { return 100 * f.layers[l].shuffled; }}}),
       "Detectors take the token that they saw out of the running: their own triggers are lowered "
       "more often than those of other detectors of the layer."},
      {bars("Neurons of positions", "neurons", f,
            {{"range", [&](size_t l) { return count(f.layers[l].range); }},
             {"oscillatory", [&](size_t l) { return count(f.layers[l].oscillatory); }},
             {"weak", [&](size_t l) { return count(f.layers[l].weak); }}}),
       "Their firing tells more than 0.05 nats about the position in the window."}};
  if (any_ablated(f))
    out.push_back({last_layer(f),
                   "Entropy neurons stand upper right: they write where no token reads, and change "
                   "how sure the model is through the scale of the last norm."});
  if (!f.neurons.front().empty() && !f.neurons.front().front().universal.empty())
    out.push_back({excesses(f),
                   "Neurons that other models have too, beyond what a turned basis of the same "
                   "activations offers by chance; above 0.5 they count as universal."});
  return out;
}

void add_findings(html::Page& page, const Census& census, const Findings& findings) {
  constexpr size_t most = 150;
  page.heading("The neurons that stand out");
  page.note(
      fmt::format("Up to {} neurons of a layer, those with most to say first. cajal atlas "
                  "report A.db --json gives every neuron.",
                  most));
  for (int64_t l = 0; l < std::ssize(findings.neurons); ++l) {
    const auto& layer = census.layers[l];
    std::vector<std::pair<size_t, int64_t>> order;
    std::vector<std::vector<std::string>> labels;
    for (int64_t i = 0; i < layer.neurons; ++i) {
      labels.push_back(atlas::labels(census, findings, l, i));
      if (!labels.back().empty()) order.emplace_back(labels.back().size(), i);
    }
    std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
      return a.first != b.first ? a.first > b.first : a.second < b.second;
    });
    const auto named = order.size();
    order.resize(std::min(order.size(), most));
    std::vector<std::vector<std::string>> rows;
    for (const auto& [count, i] : order) {
      const auto& f = findings.neurons[l][i];
      std::string at;
      for (int k = 0; k < 2; ++k) {
        const auto found =
            census.contexts.find(layer.peaks[i * atlas::LayerCensus::peaks_kept + k].token);
        if (found != census.contexts.end())
          at += (k > 0 ? " | " : "") + found->second.before + "[" + found->second.token + "]";
      }
      rows.push_back({std::to_string(i), joined(labels[i]), percent(layer.rate(i)),
                      percent(layer.hits(i)), quoted(f.trigger_texts, 4), quoted(f.promoted, 4),
                      quoted(f.lowered, 4),
                      f.universal.empty() ? "-" : fmt::format("{:.2f}", atlas::excess(f)), at});
    }
    page.raw(fmt::format("<details{}><summary>layer {}: {} of {} neurons have a name</summary>",
                         l == 0 ? " open" : "", l, grouped(static_cast<int64_t>(named)),
                         grouped(layer.neurons)));
    page.table({"neuron", "what it is", "fires", "hits", "triggers", "raises", "lowers", "excess",
                "strongest at"},
               rows);
    page.raw("</details>");
  }
}

}  // namespace cajal
