#pragma once
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cajal/atlas/browse_index.h"
#include "cajal/core/json.h"

namespace cajal::atlas {

/// Bounds of a figure; those not given do not bound.
struct Bounds {
  std::optional<double> min = {}, max = {};      // included
  std::optional<double> above = {}, below = {};  // not included
};

enum class NeuronOrder { place, rate, hits, energy, peak };

/// Which neurons, in which order, and which page of them.
struct NeuronQuery {
  static constexpr int64_t most_page_size = 200;

  std::optional<int64_t> layer = {};
  std::vector<std::string> kinds = {};       // that a neuron must all be
  Bounds rate = {}, hits = {}, energy = {};  // energy in units of the layer's mean
  std::string word = {};              // folded; one that ends in * stands for all that begin so
  std::optional<WordRole> role = {};  // of the word; none: any
  NeuronOrder order = NeuronOrder::place;
  bool descending = false;
  int64_t page = 0, page_size = 50;
};

/// A view of an atlas file that reads only what it is asked for. Answers are JSON objects whose
/// fields docs/serve.md lists; they hold text of the file as it stands there, so whoever shows it
/// must escape it. One thread at a time. Every call throws Error for what is out of range and for a
/// damaged file, naming it.
class Browser {
 public:
  /// Opens both read-only; `index` is what `index_beside` gave, and may be the atlas itself.
  Browser(const std::filesystem::path& atlas, const std::filesystem::path& index);

  /// Of each answer from now on: no query may run longer.
  void time_limit(double seconds) { seconds_ = seconds; }

  Json overview();  // the layers, how their neurons are spread, and how many are of each kind
  Json list(const NeuronQuery& query);
  Json neuron(int64_t layer, int64_t neuron);
  /// As rows of `list`, those of a few (layer, neuron).
  Json brief(std::span<const std::pair<int64_t, int64_t>> neurons);
  Json words(std::string_view prefix);  // that neurons can be found by, and how many

  const std::string& model() const { return model_; }
  uint64_t model_hash() const { return model_hash_; }
  int64_t layers() const { return std::ssize(layer_sizes_); }

 private:
  Json row(int64_t id);
  int64_t id_of(int64_t layer, int64_t neuron) const;
  std::string meta(std::string_view key);
  Json layer_rows();
  Json kinds_of(int64_t id);
  Json list_text(const std::string& json, size_t most);
  void add_figures(Json& out, int64_t layer, int64_t neuron, int64_t id);
  void add_shape(Json& out, int64_t layer, int64_t neuron);
  void add_exemplars(Json& out, int64_t layer, int64_t neuron);
  void add_findings(Json& out, int64_t layer, int64_t neuron);

  Database db_;
  double seconds_ = 5;
  std::string model_;
  uint64_t model_hash_ = 0;
  std::vector<int64_t> layer_sizes_, layer_firsts_;
  int64_t neurons_ = 0, positions_ = 0;
  std::vector<int64_t> position_totals_;
};

}  // namespace cajal::atlas

CAJAL_ENUM(cajal::atlas::NeuronOrder, {cajal::atlas::NeuronOrder::place, "place"},
           {cajal::atlas::NeuronOrder::rate, "rate"}, {cajal::atlas::NeuronOrder::hits, "hits"},
           {cajal::atlas::NeuronOrder::energy, "energy"}, {cajal::atlas::NeuronOrder::peak, "peak"})
