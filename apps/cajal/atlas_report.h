#pragma once
#include <string>
#include <vector>

#include "cajal/atlas/census.h"
#include "cajal/core/json.h"
#include "cajal/study/html.h"
#include "cajal/study/plot.h"

namespace cajal {

/// What a census says of each layer: as a table for people, and as JSON.
std::string layer_table(const atlas::Census& census);
Json layers_json(const atlas::Census& census);

/// One neuron: its figures and the words at which it was strongest.
std::string neuron_text(const atlas::Census& census, int64_t layer, int64_t neuron);
Json neuron_json(const atlas::Census& census, int64_t layer, int64_t neuron);

/// The pictures of a census, each with what it shows and what it means.
struct Picture {
  plot::Chart chart;
  std::string meaning;
};
std::vector<Picture> atlas_pictures(const atlas::Census& census);

/// Adds tables of the heaviest neurons of every layer and their strongest words to a page.
void add_heavy_neurons(html::Page& page, const atlas::Census& census);

/// The whole report as one HTML page.
std::string atlas_page(const atlas::Census& census);

}  // namespace cajal
