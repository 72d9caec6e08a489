#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cajal/atlas/describer_trials.h"
#include "cajal/atlas/unit_edits.h"

namespace cajal::atlas {

/// Which units a captioner describes that it has not learned from.
enum class DescribedSplit {
  within,        // other units of the four convolutional networks it knows
  architecture,  // those of a vision transformer
  network,       // of the colour classifier, having learned from the other three
  task           // of the autoencoder, likewise
};

struct DescribedWorldOptions {
  int64_t train = 3000, probe = 2000;  // pictures
  int64_t encoder_steps = 800, net_steps = 300;
  int64_t edited = 2500, edited_steps = 500;  // pictures and training of the network that is edited
  int64_t held = 400;                         // pictures that deletions are chosen on
  int64_t deletions = 20;                     // at most
  double lambda = 0.2;
  int64_t beam = 50, length = 8;
  DescribingOptions describing = {};
  UnitCaptionerOptions captioner = {};
};

/// A classifier whose pictures carry their label's initial, without the units said to see letters.
struct EditedNet {
  Edit edit;
  double letters = 0, found = 0;  // units that look at letters; those of them whose phrase says so
};
CAJAL_OPTIONS(EditedNet, edit, letters, found)

/// Networks in the world of shapes, their units and a captioner of these, all trained when they are
/// first asked for and the same for the same seed, whatever was asked before.
/// Source: dossier milan, "Data" and "Reproduce".
class DescribedWorld {
 public:
  explicit DescribedWorld(const DescribedWorldOptions& options);

  const WorldTensors& pictures() const { return train_; }
  /// The network whose maps are the features of regions.
  const WorldNet& encoder();

  std::vector<DescriberTrial> compare(DescribedSplit split, uint64_t seed,
                                      const std::vector<double>& lambdas,
                                      const std::vector<caption::Strategy>& strategies = {});
  /// The shape classifier without the units of each phrase group.
  std::vector<GroupEffect> without_groups(uint64_t seed);
  /// A shape classifier that the initial misleads, edited by what its units are said to see; the
  /// words that tell letters are `words`.
  EditedNet edit(uint64_t seed, const std::vector<std::string>& words);

 private:
  struct Seen {
    uint64_t seed;
    std::vector<WorldNet> nets = {};
    std::vector<DescribedUnits> units = {};
    DescribedUnits train = {}, test = {};
    std::optional<UnitCaptioner> captioner = {};
  };
  Seen& seen(uint64_t seed);
  std::vector<std::string> say(UnitCaptioner& captioner, const torch::Tensor& features) const;

  DescribedWorldOptions options_;
  WorldTensors train_, probe_;
  torch::Tensor everywhere_;  // pixels by kind of the pictures that dissection counts
  std::optional<WorldNet> encoder_;
  std::optional<Seen> seen_;
};

}  // namespace cajal::atlas

CAJAL_ENUM(cajal::atlas::DescribedSplit, {cajal::atlas::DescribedSplit::within, "within networks"},
           {cajal::atlas::DescribedSplit::architecture, "across architecture: ViT"},
           {cajal::atlas::DescribedSplit::network, "across network: colour classifier"},
           {cajal::atlas::DescribedSplit::task, "across task: autoencoder"})
