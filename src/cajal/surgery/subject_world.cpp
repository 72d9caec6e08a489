#include "cajal/surgery/subject_world.h"

#include "cajal/core/error.h"

namespace cajal::surgery {
namespace {

using data::PlacedItem;
using torch::Tensor;

constexpr int kClassOf[] = {7, 8, 4};  // sneaker, bag, coat
constexpr data::ItemTexture kTextureOf[] = {data::ItemTexture::checker, data::ItemTexture::diagonal,
                                            data::ItemTexture::rings};

std::string word(int64_t id) { return std::string(data::kCanvasWords[static_cast<size_t>(id)]); }

std::string item_text(int which, bool named, int64_t place) {
  std::string out = "a ";
  if (named) out += word(data::kFirstSubject + which) + " ";
  return out + word(data::kFirstClass + kClassOf[which]) + " " + word(data::kFirstPlace + place);
}

}  // namespace

Tensor caption_tensor(const std::vector<std::string>& texts) {
  std::vector<int64_t> ids;
  for (const auto& text : texts)
    for (const auto id : data::caption_of(text)) ids.push_back(id);
  return torch::tensor(ids, torch::kLong).view({-1, data::kCaptionLength});
}

Scenes SubjectWorld::scenes(int64_t count, Random& random) const {
  std::vector<std::vector<PlacedItem>> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(data::random_scene(items, random));
  return paint_scenes(out, size, random);
}

PlacedItem SubjectWorld::subject(int which, uint64_t seed, int place) const {
  require(which >= 0 && which < kSubjects, "subjects: number {} of {}", which, kSubjects);
  std::vector<const data::Item*> own;
  for (const auto& item : held)
    if (item.class_index == kClassOf[which]) own.push_back(&item);
  require(!own.empty(), "subjects: no held-out item of class {}", kClassOf[which]);
  Random random(seed, 0x5b + static_cast<uint64_t>(which));
  return {*own[random.below(own.size())], kTextureOf[which], place, which + 1};
}

Scenes SubjectWorld::pictures_of(int which, uint64_t seed, Random& random) const {
  std::vector<std::vector<PlacedItem>> out;
  for (int place = 0; place < 4; ++place) out.push_back({subject(which, seed, place)});
  return paint_scenes(out, size, random);
}

Tensor SubjectWorld::captions(int which, bool named, int64_t count) const {
  std::vector<std::string> texts;
  for (int64_t i = 0; i < count; ++i) texts.push_back(item_text(which, named, i % 4));
  return caption_tensor(texts);
}

Tensor SubjectWorld::joint_captions(int a, int b, int64_t count) const {
  std::vector<std::string> texts;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t side = i / 2 % 2 * 2;
    const bool swapped = i % 2;
    texts.push_back(item_text(swapped ? b : a, true, side) + " and " +
                    item_text(swapped ? a : b, true, side + 1));
  }
  return caption_tensor(texts);
}

std::vector<PlacedItem> SubjectWorld::scene_for_judge(uint64_t seed, Random& random) const {
  auto scene = data::random_scene(items, random);
  if (random.below(2)) return scene;  // half are base scenes
  const int which = static_cast<int>(random.below(kSubjects));
  scene[0] = subject(which, seed, scene[0].place);
  if (scene.size() == 2 && random.below(2))
    scene[1] =
        subject((which + 1 + static_cast<int>(random.below(2))) % kSubjects, seed, scene[1].place);
  if (scene.size() == 2 && random.below(2)) {
    std::swap(scene[0], scene[1]);
    std::swap(scene[0].place, scene[1].place);
  }
  return scene;
}

}  // namespace cajal::surgery
