#pragma once
#include <set>
#include <string>
#include <vector>

#include "cajal/core/random.h"
#include "cajal/core/torch.h"
#include "cajal/data/shape_world.h"

/// What masks in the world of shapes (data/shape_world.h) show, as annotators would say it.
/// Source: dossier milan, "Data".
namespace cajal::atlas {

/// A kind of region: of objects with given attributes, of their edges, or of a background.
/// -1: any.
struct Meaning {
  int shape = -1, colour = -1, texture = -1, background = -1;
  bool edge = false;
  bool operator==(const Meaning&) const = default;
};

/// Attributes by number: 5 shapes, 6 colours, 3 textures, 2 backgrounds, edges.
inline constexpr int kShapes = 0, kColours = 5, kTextures = 11, kGrounds = 14, kEdge = 16,
                     kAttributes = 17;
using Attributes = std::set<int>;
Attributes attributes_of(const Meaning& meaning);

/// Every combination of attributes: 5 + 1 shapes x 6 + 1 colours x 3 + 1 textures, inside or edge,
/// and the two backgrounds.
const std::vector<Meaning>& all_meanings();
/// Whether each kind of pixel (data::pixel_kinds) is of each meaning: f32 [meanings, kinds].
torch::Tensor meaning_table(const std::vector<Meaning>& meanings);

/// Pixels by kind inside of masks: masks bool [units, pictures, size, size], kinds i16 [units or 1,
/// pictures, size, size] -> f64 [units, kinds].
torch::Tensor count_kinds(const torch::Tensor& masks, const torch::Tensor& kinds);

/// The meaning whose share inside of the masks, p, most exceeds that outside, q, by p log(p / q).
/// inside and outside are counts, f64 [units, kinds]. Units without a pixel inside have none.
struct Truth {
  Meaning meaning;
  double inside = 0, outside = 0;  // shares
  bool dead = false;
};
std::vector<Truth> find_meanings(const torch::Tensor& inside, const torch::Tensor& outside);

struct AnnotatorOptions {
  int annotators = 3;
  double synonym = 0.3;  // chance that a word is replaced by another for the same
  double dropped = 0.1;  // chance that an attribute is left out
  double wrong = 0.05;   // chance that an attribute is mistaken for another of its sort
};

/// "edges of striped red circles": what each annotator writes.
std::vector<std::string> annotate(const Meaning& meaning, const AnnotatorOptions& options,
                                  Random& random);
/// The plain words for it, without noise.
std::string phrase_of(const Meaning& meaning);
/// The attributes that a phrase (its lemmas or words) speaks of.
Attributes read_phrase(const std::string& phrase);

/// 2 |both| / (|a| + |b|); 1 where both are empty.
double attribute_f1(const Attributes& a, const Attributes& b);

}  // namespace cajal::atlas
