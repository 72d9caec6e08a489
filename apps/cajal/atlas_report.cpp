#include "atlas_report.h"

#include <algorithm>
#include <cmath>

#include "cajal/surgery/plan.h"
#include "split_report.h"

namespace cajal {
namespace {

using atlas::Census;
using atlas::Findings;
using atlas::LayerCensus;

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

std::string one_line(std::string text) {
  for (auto& c : text)
    if (c == '\n' || c == '\r' || c == '\t') c = ' ';
  return text;
}

std::string heading(const Census& census) {
  return fmt::format(
      "{} on {}: {} layers of {} neurons, {} tokens{}", census.model, census.text,
      census.layers.size(), grouped(census.layers.front().neurons), grouped(census.tokens()),
      census.complete() ? "" : " (a part of the text; cajal atlas merge joins parts)");
}

bool any_gated(const Census& census) { return census.layers.front().gated; }

// Neurons from the one with the most hits down.
std::vector<int32_t> by_hits(const LayerCensus& layer) {
  return surgery::ranking(layer, surgery::Score::hits, 0);
}

const atlas::Context* context_of(const Census& census, int64_t token) {
  const auto found = census.contexts.find(token);
  return found == census.contexts.end() ? nullptr : &found->second;
}

const LayerCensus& layer_at(const Census& census, int64_t layer) {
  require(layer >= 0 && layer < std::ssize(census.layers), "layer {}: the atlas has layers 0 to {}",
          layer, census.layers.size() - 1);
  return census.layers[static_cast<size_t>(layer)];
}

void check_neuron(const LayerCensus& layer, int64_t index, int64_t neuron) {
  require(neuron >= 0 && neuron < layer.neurons, "neuron {}: layer {} has neurons 0 to {}", neuron,
          index, layer.neurons - 1);
}

std::string layer_name(size_t l) { return fmt::format("layer {}", l); }

}  // namespace

std::string layer_table(const Census& census) {
  std::string out = heading(census) + "\n\n";
  out += fmt::format("{:>5} {:>8} {:>8} {:>8} {:>7}   {:>9} {:>8} {:>8}   {:>9} {:>8}\n", "layer",
                     "neurons", "fires", "silent", "dead", "own 5 %", "10 %", "25 %", "fixed 10 %",
                     "25 %");
  for (size_t l = 0; l < census.layers.size(); ++l) {
    const auto& layer = census.layers[l];
    out += fmt::format("{:>5} {:>8} {:>8} {:>8} {:>7}   {:>9} {:>8} {:>8}   {:>9} {:>8}\n", l,
                       grouped(layer.neurons), percent(layer.positive_share()),
                       percent(layer.zero_share()), grouped(layer.dead_count()),
                       percent(layer.token_curve(2)), percent(layer.token_curve(3)),
                       percent(layer.token_curve(4)), percent(layer.fixed_curve(0.10)),
                       percent(layer.fixed_curve(0.25)));
  }
  out += fmt::format(R"(
fires    share of activations above 0{}
silent   share exactly 0: their value rows need not be read, and nothing is lost
dead     neurons that did nothing in the whole text
own      share of a token's output energy in its own strongest 5, 10, 25 % of neurons
fixed    share of all output energy in the best 10, 25 % chosen once for all tokens
)",
                     any_gated(census) ? " (of gated neurons the sign means little)" : "");
  return out;
}

Json layers_json(const Census& census, const Findings* findings) {
  Json out = {{"model", census.model},
              {"text", census.text},
              {"tokens", census.tokens()},
              {"complete", census.complete()},
              {"layers", Json::array()}};
  for (size_t l = 0; l < census.layers.size(); ++l) {
    const auto& layer = census.layers[l];
    Json curve = Json::array();
    for (size_t p = 0; p < LayerCensus::percents.size(); ++p)
      curve.push_back({{"percent", LayerCensus::percents[p]},
                       {"of_token", layer.token_curve(p)},
                       {"of_best_fixed", layer.fixed_curve(LayerCensus::percents[p] / 100.0)}});
    out["layers"].push_back({{"layer", l},
                             {"neurons", layer.neurons},
                             {"gated", layer.gated},
                             {"firing_share", layer.positive_share()},
                             {"zero_share", layer.zero_share()},
                             {"dead", layer.dead_count()},
                             {"energy", std::move(curve)}});
    if (findings)
      out["layers"].back().update(layer_finding_json(*findings, static_cast<int64_t>(l)));
  }
  return out;
}

std::string neuron_text(const Census& census, const Findings* findings, int64_t index,
                        int64_t neuron) {
  const auto& layer = layer_at(census, index);
  check_neuron(layer, index, neuron);
  const auto order = by_hits(layer);
  const auto rank = std::find(order.begin(), order.end(), neuron) - order.begin() + 1;
  double energy = 0;
  for (int64_t i = 0; i < layer.neurons; ++i) energy += layer.energy(i);
  std::string out = fmt::format(
      "layer {}, neuron {} of {}, on {} tokens of {}{}\n\n"
      "fires          {}\nsilent         {}\n"
      "hits           {}   among the strongest tenth of its layer (rank {} of {})\n"
      "output norm    {:.4g}   mean; holds {} of the layer's output energy\n"
      "mean activation {:.4g}, key length {:.4g}, value length {:.4g}\n\nstrongest at\n",
      index, neuron, grouped(layer.neurons), grouped(layer.tokens), census.text,
      layer.dead(neuron) ? ": dead" : "", percent(layer.firing_share(neuron)),
      percent(static_cast<double>(layer.zero[neuron]) / std::max<double>(1, layer.tokens)),
      percent(layer.hits(neuron)), rank, layer.neurons, layer.mean_norm(neuron),
      percent(energy > 0 ? layer.energy(neuron) / energy : 0), layer.mean(neuron),
      layer.key_norm[neuron], layer.value_norm[neuron]);
  for (int k = 0; k < LayerCensus::peaks_kept; ++k) {
    const auto& peak = layer.peaks[neuron * LayerCensus::peaks_kept + k];
    if (peak.token < 0) continue;
    const auto* words = context_of(census, peak.token);
    out += fmt::format("{:>9.3f}  {}\n", peak.activation,
                       words ? one_line(words->before + "[" + words->token + "]" + words->after)
                             : fmt::format("token {}", peak.token));
  }
  if (findings) out += finding_text(census, *findings, index, neuron);
  return out;
}

Json neuron_json(const Census& census, const Findings* findings, int64_t index, int64_t neuron) {
  const auto& layer = layer_at(census, index);
  check_neuron(layer, index, neuron);
  Json peaks = Json::array();
  for (int k = 0; k < LayerCensus::peaks_kept; ++k) {
    const auto& peak = layer.peaks[neuron * LayerCensus::peaks_kept + k];
    if (peak.token < 0) continue;
    Json one = {{"activation", peak.activation}, {"token", peak.token}};
    if (const auto* words = context_of(census, peak.token))
      one.update({{"before", words->before}, {"word", words->token}, {"after", words->after}});
    peaks.push_back(std::move(one));
  }
  Json out = {{"layer", index},
              {"neuron", neuron},
              {"tokens", layer.tokens},
              {"positive", layer.positive[neuron]},
              {"zero", layer.zero[neuron]},
              {"top", layer.top[neuron]},
              {"dead", layer.dead(neuron)},
              {"firing_share", layer.firing_share(neuron)},
              {"hits", layer.hits(neuron)},
              {"mean", layer.mean(neuron)},
              {"mean_norm", layer.mean_norm(neuron)},
              {"energy", layer.energy(neuron)},
              {"key_norm", layer.key_norm[neuron]},
              {"value_norm", layer.value_norm[neuron]},
              {"peaks", std::move(peaks)}};
  if (findings) out.update(finding_json(census, *findings, index, neuron));
  return out;
}

namespace {

plot::Axis percent_axis(const char* label) {
  plot::Axis axis;
  axis.label = label, axis.low = 0, axis.high = 100;
  return axis;
}

plot::Chart activity_chart(const Census& census) {
  plot::BarChart chart;
  chart.title = "How much of each layer is at work";
  chart.y = percent_axis("%");
  chart.bars = {{"activations that are not 0", {}}, {"neurons that never fired", {}}};
  for (size_t l = 0; l < census.layers.size(); ++l) {
    const auto& layer = census.layers[l];
    chart.groups.push_back(std::to_string(l));
    chart.bars[0].values.push_back(100 * (1 - layer.zero_share()));
    chart.bars[1].values.push_back(100.0 * static_cast<double>(layer.dead_count()) /
                                   static_cast<double>(layer.neurons));
  }
  return chart;
}

plot::Chart energy_chart(const Census& census, bool of_token) {
  plot::Lines chart;
  chart.title = of_token ? "Energy in each token's own strongest neurons"
                         : "Energy in the best neurons chosen once for all tokens";
  chart.x.label = "% of the neurons";
  chart.y = percent_axis("% of the output energy");
  for (size_t l = 0; l < census.layers.size(); ++l) {
    const auto& layer = census.layers[l];
    plot::Series series{.name = layer_name(l), .x = {}, .y = {}};
    for (size_t p = 0; p < LayerCensus::percents.size(); ++p) {
      const double at = LayerCensus::percents[p];
      series.x.push_back(at);
      series.y.push_back(100 * (of_token ? layer.token_curve(p) : layer.fixed_curve(at / 100)));
    }
    chart.series.push_back(std::move(series));
  }
  return chart;
}

plot::Chart hits_chart(const Census& census) {
  constexpr int cells = 64;
  plot::HeatMap chart;
  chart.title = "Heavy hitters: how often each neuron is among the strongest tenth";
  chart.x = "neurons of the layer, the most frequent first";
  chart.unit = "% of tokens";
  for (size_t l = 0; l < census.layers.size(); ++l) {
    const auto& layer = census.layers[l];
    const auto order = by_hits(layer);
    auto& row = chart.values.emplace_back();
    for (int c = 0; c < cells; ++c) {
      const auto begin = layer.neurons * c / cells;
      const auto end = std::max(begin + 1, layer.neurons * (c + 1) / cells);
      double sum = 0;
      for (auto k = begin; k < end; ++k) sum += layer.hits(order[k]);
      row.push_back(100 * sum / static_cast<double>(end - begin));
    }
    chart.rows.push_back(layer_name(l));
  }
  return chart;
}

plot::Chart forecast_chart(const Census& census) {
  plot::Lines chart;
  chart.title = "Is an 8-bit / 4-bit split worth it?";
  chart.x.label = "% of the neurons kept in 8 bits";
  chart.y = percent_axis("% of the output energy they hold");
  chart.series.push_back({.name = "needed", .x = {}, .y = {}});
  const std::vector<double> ratios = {0.05, 0.1, 0.15, 0.25, 0.35, 0.5};
  for (const double r : ratios) {
    chart.series[0].x.push_back(100 * r);
    chart.series[0].y.push_back(100 * (1 - std::exp2(-8 * r)));
  }
  for (size_t l = 0; l < census.layers.size(); ++l) {
    plot::Series series{.name = layer_name(l), .x = {}, .y = {}};
    for (const double r : ratios) {
      const auto at =
          surgery::forecast(census.layers[l], surgery::Score::hits, r, Format::q8_0, Format::q4_0);
      series.x.push_back(100 * at.ratio);
      series.y.push_back(100 * at.share);
    }
    chart.series.push_back(std::move(series));
  }
  return chart;
}

}  // namespace

std::vector<Picture> atlas_pictures(const Census& census) {
  const bool gated = any_gated(census);
  return {
      {activity_chart(census),
       gated
           ? "Gated neurons are never exactly 0, so the first bars are full: no neuron can be "
             "skipped for free here. What can be skipped is in the next picture."
           : "Low first bars are good news: a neuron whose activation is 0 adds nothing, so its "
             "value row need not be read, and the answer stays the same bit for bit. Neurons that "
             "never fired can be left out for texts like this one."},
      {energy_chart(census, true),
       "For each token its own strongest neurons were picked. A curve that rises steeply says that "
       "a few neurons would do, if you knew in time which: that is what routers and predictors "
       "try."},
      {energy_chart(census, false),
       "Here the neurons are picked once for all tokens. The lower this is than the picture above, "
       "the more the right neurons depend on the token, and the less a fixed choice can win."},
      {hits_chart(census),
       "Each row is a layer, its neurons in order. A bright left end is a small club of neurons "
       "that "
       "are strong at almost every token (the heavy hitters); an even row has none."},
      {forecast_chart(census),
       "The test before splitting: where a layer's line lies above the line \"needed\", keeping "
       "that "
       "share of its neurons in 8 bits and the rest in 4 beats one format of the same size; below "
       "it, it does not. Source: the rule 1 - s < 4^(-4r)."},
  };
}

void add_heavy_neurons(html::Page& page, const Census& census) {
  for (size_t l = 0; l < census.layers.size(); ++l) {
    const auto& layer = census.layers[l];
    const auto order = by_hits(layer);
    std::vector<std::vector<std::string>> rows;
    for (size_t k = 0; k < std::min<size_t>(3, order.size()); ++k) {
      const auto i = order[k];
      std::string words;
      for (int p = 0; p < 3; ++p)
        if (const auto* at = context_of(census, layer.peaks[i * LayerCensus::peaks_kept + p].token))
          words += (p > 0 ? " | " : "") + one_line("…" + at->before + "[" + at->token + "]");
      rows.push_back(
          {std::to_string(i), percent(layer.hits(i)), percent(layer.firing_share(i)), words});
    }
    page.heading(layer_name(l), 4);
    page.table({"neuron", "hits", "fires", "strongest at (in brackets)"}, rows);
  }
}

std::string atlas_page(const Census& census, const Findings* findings) {
  html::Page page("Atlas of " + census.model);
  page.paragraph(heading(census) + ".");
  page.paragraph(
      "A neuron reads the stream of one token, answers with one number (its activation) and writes "
      "that number times its value row back. Its output energy is the squared length of what it "
      "writes; shares of it say which neurons the output comes from.");
  std::vector<std::vector<std::string>> rows;
  for (size_t l = 0; l < census.layers.size(); ++l) {
    const auto& layer = census.layers[l];
    rows.push_back({std::to_string(l), grouped(layer.neurons), percent(layer.positive_share()),
                    percent(layer.zero_share()), grouped(layer.dead_count()),
                    percent(layer.token_curve(3)), percent(layer.fixed_curve(0.10)),
                    percent(layer.fixed_curve(0.25))});
  }
  page.table({"layer", "neurons", "fires", "silent", "dead", "energy in each token's own 10 %",
              "in the best fixed 10 %", "25 %"},
             rows);
  for (const auto& [chart, meaning] : atlas_pictures(census)) {
    page.heading(plot::title(chart), 3);
    page.picture(plot::svg(chart), meaning);
  }
  if (findings) {
    for (const auto& [chart, meaning] : finding_pictures(census, *findings)) {
      page.heading(plot::title(chart), 3);
      page.picture(plot::svg(chart), meaning);
    }
    add_findings(page, census, *findings);
  }
  page.heading("The neurons that are strong most often");
  add_heavy_neurons(page, census);
  page.heading("What to try next");
  page.code(
      fmt::format("cajal atlas show A.db --layer 0 --neuron {}\n"
                  "cajal split MODEL --plan heavy=q8_0,rest=q4_0 --atlas A.db --output DIR\n"
                  "cajal split MODEL --budget 30% --atlas A.db --text F --output DIR",
                  by_hits(census.layers.front()).front()));
  return page.html();
}

}  // namespace cajal
