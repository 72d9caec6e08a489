#include "cajal/study/images.h"

#include <algorithm>

#include "cajal/data/catalogue.h"
#include "cajal/data/patches.h"
#include "cajal/data/shapes.h"

namespace cajal::study {
namespace {

ImageTask task(std::string name, const data::LabelledImages& train,
               const data::LabelledImages& test) {
  const auto all = pictures(train);
  const int64_t kept = all.size() - all.size() / 10;
  return {std::move(name),
          10,
          all.first(kept),
          {all.x.narrow(0, kept, all.size() - kept), all.y.narrow(0, kept, all.size() - kept)},
          pictures(test)};
}

}  // namespace

Pictures Pictures::first(int64_t count) const {
  count = std::min(count, size());
  return {x.narrow(0, 0, count), y.narrow(0, 0, count)};
}

Pictures Pictures::of(const torch::Tensor& chosen) const {
  return {x.index_select(0, chosen), y.index_select(0, chosen)};
}

Pictures pictures(const data::LabelledImages& images) {
  auto shape = images.images.shape;
  if (shape.size() == 3) shape.insert(shape.begin() + 1, 1);
  const auto bytes =
      torch::from_blob(const_cast<std::byte*>(images.images.bytes.data()), shape, torch::kUInt8);
  auto labels = torch::from_blob(const_cast<uint8_t*>(images.labels.data()),
                                 {static_cast<int64_t>(images.labels.size())}, torch::kUInt8);
  return {bytes.to(torch::kFloat).div(255), labels.to(torch::kLong)};
}

ImageTask ImageTask::standardised(double mean, double deviation) const {
  const auto of = [&](const Pictures& p) { return Pictures{(p.x - mean) / deviation, p.y}; };
  return {name, classes, of(train), of(valid), of(test)};
}

ImageTask shapes_task(int64_t count, uint64_t seed, int64_t size, int64_t channels) {
  data::ShapesOptions options;
  options.size = size, options.channels = channels;
  options.largest = std::min(options.largest, 0.75 * static_cast<double>(size));
  return task(fmt::format("shapes-10, generated ({}/{})", count, count / 5),
              data::shapes(count, seed, options),
              data::shapes(std::max<int64_t>(10, count / 5), seed + 1, options));
}

ImageTask find_images(Lab& lab, const std::string& name, uint64_t seed) {
  if (lab.smoke()) return shapes_task(400, seed, 28, 1);
  try {
    const auto set = data::read_image_set(name, seed);
    return task(set.name, set.train, set.test);
  } catch (const Error& missing) {
    lab.not_shown(name, missing.what());
    return shapes_task(8000, seed, 28, 1);
  }
}

std::optional<ImageTask> texture_task(Lab& lab, int64_t count, uint64_t seed, int64_t size) {
  if (!lab.has("photos", "texture patches")) return std::nullopt;
  std::vector<data::Image> photos;
  for (const char* name : {"brick", "grass", "gravel"})
    photos.push_back(data::read_image(data::find_file("photos", {std::string(name) + ".pgm.gz"})));
  const auto part = [&](int64_t patches, uint64_t stream, double from, double to) {
    return pictures(data::texture_patches(photos, patches, seed + stream,
                                          {.size = size, .from = from, .to = to}));
  };
  return ImageTask{fmt::format("textures ({}/{})", count, count / 2),
                   static_cast<int64_t>(photos.size()), part(count, 0, 0, 0.6),
                   part(std::max<int64_t>(count / 5, 3), 1, 0.6, 0.7),
                   part(std::max<int64_t>(count / 2, 3), 2, 0.7, 1)};
}

torch::Tensor photo(const std::string& name) {
  const auto image =
      data::read_image(data::find_file("photos", {name + ".ppm.gz", name + ".pgm.gz"}));
  const std::vector<int32_t> wide(image.samples.begin(), image.samples.end());
  return torch::tensor(wide, torch::kInt)
             .reshape({image.height, image.width, image.channels})
             .permute({2, 0, 1})
             .to(torch::kFloat) /
         image.maximum;
}

double accuracy(const torch::Tensor& predicted, const torch::Tensor& labels) {
  return predicted.eq(labels).to(torch::kDouble).mean().item<double>();
}

}  // namespace cajal::study
