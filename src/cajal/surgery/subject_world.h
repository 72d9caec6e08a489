#pragma once
#include <string>
#include <vector>

#include "cajal/surgery/canvas_judge.h"

namespace cajal::surgery {

/// Captioned canvases (data/item_canvas.h) with three subjects: fixed instances of a sneaker, a bag
/// and a coat that base pictures never show, each with a texture of its own. Items fill half of the
/// canvas. Source: dossier concept-neurons, "Data".
struct SubjectWorld {
  int64_t size = 28;
  std::vector<data::Item> items;  // of base pictures
  std::vector<data::Item> held;   // of subjects
  static constexpr int kSubjects = 3;

  Scenes scenes(int64_t count, Random& random) const;

  /// Subject 0, 1 or 2 of that seed's choice of instances. Throws Error when there is none.
  data::PlacedItem subject(int which, uint64_t seed, int place) const;
  /// It at the four places.
  Scenes pictures_of(int which, uint64_t seed, Random& random) const;
  int64_t word_of(int which) const { return data::kFirstSubject + which; }

  /// "a <v1> sneaker left" (named) or "a sneaker left", the places in turn.
  torch::Tensor captions(int which, bool named, int64_t count) const;
  /// "a <v1> sneaker left and a <v2> bag right", sides and order in turn.
  torch::Tensor joint_captions(int a, int b, int64_t count) const;

  /// What a judge of these subjects learns from: base scenes, and scenes with one or two of them.
  std::vector<data::PlacedItem> scene_for_judge(uint64_t seed, Random& random) const;
};

/// i64 [texts, 12].
torch::Tensor caption_tensor(const std::vector<std::string>& texts);

}  // namespace cajal::surgery
