#pragma once
#include <string>
#include <vector>

#include "cajal/atlas/findings.h"
#include "cajal/core/json.h"
#include "cajal/study/html.h"
#include "cajal/study/plot.h"

namespace cajal {

/// What a census says of each layer: as a table for people, and as JSON.
std::string layer_table(const atlas::Census& census);
Json layers_json(const atlas::Census& census, const atlas::Findings* findings);
/// The layers and every neuron.
Json report_json(const atlas::Census& census, const atlas::Findings* findings);

/// One neuron: its figures and the words at which it was strongest.
std::string neuron_text(const atlas::Census& census, const atlas::Findings* findings, int64_t layer,
                        int64_t neuron);
Json neuron_json(const atlas::Census& census, const atlas::Findings* findings, int64_t layer,
                 int64_t neuron);

/// What was found about one neuron, or about a layer.
std::string finding_text(const atlas::Census& census, const atlas::Findings& findings,
                         int64_t layer, int64_t neuron);
Json finding_json(const atlas::Census& census, const atlas::Findings& findings, int64_t layer,
                  int64_t neuron);
Json layer_finding_json(const atlas::Findings& findings, int64_t layer);
/// Correlation with other models, a line for every layer.
std::string universal_table(const atlas::Findings& findings);

/// The pictures of a census, each with what it shows and what it means.
struct Picture {
  plot::Chart chart;
  std::string meaning;
};
std::vector<Picture> atlas_pictures(const atlas::Census& census);
std::vector<Picture> finding_pictures(const atlas::Census& census, const atlas::Findings& findings);

/// Adds tables of the heaviest neurons of every layer and their strongest words to a page.
void add_heavy_neurons(html::Page& page, const atlas::Census& census);

/// Adds a table of each layer's neurons that have a name.
void add_findings(html::Page& page, const atlas::Census& census, const atlas::Findings& findings);

/// The whole report as one HTML page.
std::string atlas_page(const atlas::Census& census, const atlas::Findings* findings);

}  // namespace cajal
