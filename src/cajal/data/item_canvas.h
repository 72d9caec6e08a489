#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cajal/core/random.h"
#include "cajal/data/image_set.h"

/// Captioned pictures for small text-to-image models: one or two small items on a black canvas, and
/// words for class, texture and place. Source: dossier concept-neurons, "Data".
namespace cajal::data {

/// The words of captions by number; 0 pads. "<v1>" to "<v4>" are reserved for subjects.
inline constexpr std::array<std::string_view, 26> kCanvasWords = {
    "<pad>", "a",    "and",    "left",  "right",   "top",    "bottom", "plain",   "striped",
    "<v1>",  "<v2>", "<v3>",   "<v4>",  "two",     "things", "tshirt", "trouser", "pullover",
    "dress", "coat", "sandal", "shirt", "sneaker", "bag",    "boot",   "on"};
inline constexpr int64_t kCanvasVocabulary = 32, kCaptionLength = 12;
inline constexpr int64_t kFirstPlace = 3, kFirstTexture = 7, kFirstSubject = 9, kFirstClass = 15;
using Caption = std::array<int64_t, kCaptionLength>;

/// The caption's numbers; throws Error for a word that is not in the list or too many words.
Caption caption_of(std::string_view text);
std::string text_of(std::span<const int64_t> caption);

/// Textures of items. Base pictures are plain or striped; the others are for subjects alone.
enum class ItemTexture { plain, striped, checker, diagonal, rings };

struct Item {
  std::vector<float> pixels;  // [side, side] in [0, 1]
  int class_index = 0;
};

/// Pictures resized to side x side by the mean over areas. Throws Error for colour.
std::vector<Item> items_of(const LabelledImages& images, int64_t side, int64_t most);
/// Generated stand-ins, where no data is at hand: 10 classes of simple forms.
std::vector<Item> generated_items(int64_t count, int64_t side, uint64_t seed);

struct PlacedItem {
  Item item;
  ItemTexture texture = ItemTexture::plain;
  int place = 0;    // left, right, top, bottom
  int subject = 0;  // 1 to 4: the subject's word stands before the class
};

/// Draws items into a canvas [size, size] with a pixel or so of shift, brightest wins; returns its
/// caption, e.g. "a striped bag left and a <v1> sneaker right".
Caption paint(std::span<const PlacedItem> items, int64_t size, Random& random,
              std::span<float> canvas);

/// A base picture: one item (three in five) or two on opposite sides.
std::vector<PlacedItem> random_scene(const std::vector<Item>& items, Random& random);

}  // namespace cajal::data
