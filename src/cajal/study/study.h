#pragma once
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/random.h"
#include "cajal/core/registry.h"
#include "cajal/core/torch.h"
#include "cajal/study/plot.h"
#include "cajal/study/record.h"
#include "cajal/study/result.h"

/// The frame that a study stands in: it measures, fills tables and makes claims with a bar; the
/// frame seeds, judges, prints and stores.
namespace cajal::study {

/// Adds rows to a table of the result.
class TableWriter {
 public:
  explicit TableWriter(Table& table) : table_(&table) {}

  /// One cell a column: text, a number or a Figure. Throws Error when their number is wrong.
  template <class... Cells>
  void row(Cells&&... cells) {
    add({Cell(std::forward<Cells>(cells))...});
  }
  void add(std::vector<Cell> cells);

 private:
  Table* table_;
};

/// Builds a claim: lab.claim("size cut").paper("43.1 %").measured(x).in_percent().at_least(0.431).
/// Every claim ends in its bar: at_least, at_most, between or holds.
class ClaimWriter {
 public:
  explicit ClaimWriter(Claim& claim) : claim_(&claim) {}

  ClaimWriter& paper(std::string figure);
  ClaimWriter& measured(Figure figure);
  ClaimWriter& in_percent();  // 0.431 is shown as 43.1 %
  void at_least(double bar) { judge(bar, std::nullopt); }
  void at_most(double bar) { judge(std::nullopt, bar); }
  void between(double low, double high) { judge(low, high); }
  void holds(bool yes);  // a fact instead of a figure

 private:
  void judge(std::optional<double> low, std::optional<double> high);
  Claim* claim_;
};

struct RunOptions {
  Scale scale = Scale::standard;
  int seeds = 0;  // 0: one for smoke, else three
  std::string device = "auto";
  std::string command = "";           // how the run was started, for the result
  std::filesystem::path record = {};  // where measured parts are kept; empty: nowhere
};

/// What a study works with: the scale it may run at, its seeds, and where its evidence goes.
class Lab {
 public:
  Lab(std::string slug, const RunOptions& options);

  Scale scale() const { return scale_; }
  bool smoke() const { return scale_ == Scale::smoke; }

  /// The value for this run's scale: seconds, minutes on 2 cores, or all that the machine allows.
  template <class T>
  T by_scale(T smoke, T standard, T full) const {
    return scale_ == Scale::smoke ? smoke : scale_ == Scale::standard ? standard : full;
  }

  const std::vector<uint64_t>& seeds() const { return seeds_; }
  torch::Device device() const { return device_; }

  /// Numbers that are the same in every run of this study; `stream` makes independent sequences.
  Random random(uint64_t stream = 0) const { return Random(seeds_[0], stream); }

  /// What `make` returns, from the record where an earlier, killed run has measured it. The
  /// generators of libtorch are seeded before, so that a part owes nothing to those before it; it
  /// must not leave anything behind but what it returns: numbers, text, vectors, CAJAL_OPTIONS.
  template <class Make>
  auto part(const std::string& name, Make&& make) {
    return part(name, seeds_[0], std::forward<Make>(make));
  }

  /// The same for one seed of several.
  template <class Make>
  auto part(const std::string& name, uint64_t seed, Make&& make) {
    std::invoke_result_t<Make> out{};
    measure(
        fmt::format("{}, seed {}", name, seed), seed,
        [&]() -> Json {
          out = make();
          return options::write(out);
        },
        [&](const Json& kept) { options::read(kept, name, out); });
    return out;
  }

  /// A part a seed: one number of each.
  Figure over_seeds(const std::string& name, const std::function<double(uint64_t seed)>& run);
  /// The same for several numbers a run: one Figure for each.
  std::vector<Figure> over_seeds(const std::string& name,
                                 const std::function<std::vector<double>(uint64_t seed)>& run);

  TableWriter table(std::string name, std::vector<std::string> columns);
  ClaimWriter claim(std::string text);

  /// What the paper shows and this study cannot, and why.
  void not_shown(std::string what, std::string why);
  /// Whether the dataset of that name is on this machine; if not, a line says that `what` is not
  /// shown and how to get it.
  bool has(std::string_view dataset, std::string what);
  void note(std::string text);
  void plot(plot::Chart chart);

 private:
  friend struct Session;  // runs the study and takes the evidence

  void measure(const std::string& part, uint64_t seed, const std::function<Json()>& make,
               const std::function<void(const Json& kept)>& take);

  std::string slug_;
  Scale scale_;
  std::vector<uint64_t> seeds_;
  torch::Device device_;
  Record record_;
  std::deque<Table> tables_;  // deques: the writers point into them
  std::deque<Claim> claims_;
  std::vector<NotShown> not_shown_;
  std::vector<std::string> notes_;
  std::vector<plot::Chart> charts_;
};

/// Who a study is. Title, year and paper left out are those of the catalogue.
struct About {
  std::string slug, title = "";
  int year = 0;
  std::string paper = "";
};

struct Study {
  About about;
  std::function<void(Lab&)> run;
};

Registry<Study>& registry();

/// Registers a study under its slug; throws Error for a slug that is not written a-z, 0-9, -.
bool add(About about, std::function<void(Lab&)> run);

struct Outcome {
  Result result;
  std::vector<plot::Chart> charts;  // those that result.plots names, in its order
};

/// Runs the study of that slug. Throws Error when there is none, when a claim has no bar, or when
/// it shows nothing at all.
Outcome run(std::string_view slug, const RunOptions& options);

}  // namespace cajal::study
