#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cajal/data/array.h"

/// A world of small pictures whose every pixel is known: what the masks of neurons are described
/// by. Source: dossier milan, "Data".
namespace cajal::data {

inline constexpr std::array<const char*, 5> kWorldShapes = {"circle", "square", "triangle", "cross",
                                                            "letter"};
inline constexpr std::array<const char*, 6> kWorldColours = {"red",    "green",  "blue",
                                                             "yellow", "purple", "cyan"};
inline constexpr std::array<const char*, 3> kWorldTextures = {"plain", "striped", "dotted"};
inline constexpr std::array<const char*, 2> kWorldBackgrounds = {"dark", "light"};
/// The letters that the pictures may show; the first five are the initials of the shapes, where
/// the cross has X.
inline constexpr std::string_view kWorldLetters = "CSTXLAEFHKNZ";

struct WorldObject {
  int shape = 0, colour = 0, texture = 0;  // indices of the names above
  char letter = 'A';                       // of shape "letter"
  double x = 0, y = 0;                     // centre, pixels
  double size = 16;                        // diameter, or the height of the letter
};

struct ShapeWorldOptions {
  int64_t size = 48;             // pixels a side
  int64_t fewest = 1, most = 3;  // objects a picture
  int shapes = 5;                // the first so many; 4: letters are initials only
  double smallest = 12, largest = 24;
  double noise = 0.03;  // standard deviation, of a range of 1
  /// Share of pictures that show in a corner the initial of their first object's shape, as a
  /// spurious label; `random_initial`: any of the initials instead.
  double initial_share = 0;
  bool random_initial = false;
};

struct WorldPictures {
  Array images;                                   // u8 [count, 3, size, size]
  Array owner;                                    // u8 [count, size, size]: 0 or object + 1
  std::vector<std::vector<WorldObject>> objects;  // of each picture; an initial is the last one
  std::vector<uint8_t> background;                // of each picture
  std::vector<uint8_t> has_initial;               // of each picture
};

/// Draws pictures of one to three objects that hardly overlap: {circle, square, triangle, cross,
/// letter} in 6 colours, plain, striped or dotted, on a dark or light ground with noise. The same
/// for the same seed on every machine. Throws Error when objects do not fit or `count` is too
/// large.
WorldPictures shape_world(int64_t count, uint64_t seed, const ShapeWorldOptions& options = {});

/// The kinds of pixels that the world tells apart: 90 kinds of objects in three places each
/// (inside, inner rim, outer rim) and 2 backgrounds.
inline constexpr int64_t kWorldKinds = 5 * 6 * 3;
inline constexpr int64_t kWorldPixelKinds = 3 * kWorldKinds + 2;
constexpr int64_t world_kind(const WorldObject& o) {
  return (o.shape * 6 + o.colour) * 3 + o.texture;
}

/// The kind of every pixel, i16 [count, size, size]: place * 90 + kind of the object (place 0
/// inside, 1 rim of `rim` pixels inside the border, 2 outside of it), or 270 + background.
Array pixel_kinds(const WorldPictures& pictures, int rim = 2);

}  // namespace cajal::data
