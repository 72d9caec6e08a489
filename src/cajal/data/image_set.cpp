#include "cajal/data/image_set.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "cajal/core/error.h"
#include "cajal/core/gzip.h"
#include "cajal/core/random.h"
#include "cajal/data/catalogue.h"
#include "cajal/data/idx.h"

namespace cajal::data {
namespace fs = std::filesystem;
namespace {

constexpr int kClasses = 10;

LabelledImages checked(Array images, std::vector<uint8_t> labels, std::string_view where) {
  require(images.dtype == Dtype::u8 && images.shape.size() >= 3 &&
              images.shape[0] == static_cast<int64_t>(labels.size()) && !labels.empty(),
          "{}: {} labels do not fit images [{}]", where, labels.size(),
          fmt::join(images.shape, ", "));
  require(*std::max_element(labels.begin(), labels.end()) < kClasses,
          "{}: a label beyond the {} classes", where, kClasses);
  return {std::move(images), std::move(labels)};
}

// Files PREFIXimages-idx3-ubyte.gz and PREFIXlabels-idx1-ubyte.gz.
LabelledImages read_idx_pair(const fs::path& folder, const std::string& prefix) {
  const auto images = folder / (prefix + "images-idx3-ubyte.gz");
  const auto labels = read_idx(folder / (prefix + "labels-idx1-ubyte.gz"));
  const auto values = labels.values<uint8_t>();
  return checked(read_idx(images), {values.begin(), values.end()}, images.string());
}

size_t image_bytes(const LabelledImages& all) {
  return all.images.bytes.size() / all.labels.size();
}

LabelledImages chosen(const LabelledImages& from, std::span<const size_t> places) {
  const size_t size = image_bytes(from);
  LabelledImages out;
  out.images.shape = from.images.shape;
  out.images.shape[0] = static_cast<int64_t>(places.size());
  out.images.bytes.resize(places.size() * size);
  for (size_t i = 0; i < places.size(); ++i) {
    std::memcpy(out.images.bytes.data() + i * size, from.images.bytes.data() + places[i] * size,
                size);
    out.labels.push_back(from.labels[places[i]]);
  }
  return out;
}

ImageSet split(const LabelledImages& all, const std::string& name, uint64_t seed) {
  std::vector<size_t> order(all.labels.size());
  std::iota(order.begin(), order.end(), size_t{0});
  Random random(seed);
  shuffle(order, random);
  const size_t train = order.size() * 4 / 5;
  const std::span<const size_t> places(order);
  return {fmt::format("{} ({}/{})", name, train, order.size() - train),
          chosen(all, places.first(train)), chosen(all, places.subspan(train))};
}

LabelledImages read_cifar_batches(const fs::path& folder, const std::vector<std::string>& names) {
  LabelledImages out;
  for (const auto& name : names) {
    const auto path = folder / name;
    auto batch = parse_cifar_batch(read_compressed(path, kMaxBytes), path.string());
    if (out.labels.empty()) {
      out = std::move(batch);
      continue;
    }
    out.images.shape[0] += batch.images.shape[0];
    out.images.bytes.insert(out.images.bytes.end(), batch.images.bytes.begin(),
                            batch.images.bytes.end());
    out.labels.insert(out.labels.end(), batch.labels.begin(), batch.labels.end());
  }
  return out;
}

}  // namespace

LabelledImages parse_cifar_batch(std::string_view bytes, std::string_view where) {
  constexpr size_t kImage = 3 * 32 * 32, kRecord = 1 + kImage;
  require(!bytes.empty() && bytes.size() % kRecord == 0,
          "{}: {} bytes are not whole records of {} bytes", where, bytes.size(), kRecord);
  const size_t count = bytes.size() / kRecord;
  Array images{{static_cast<int64_t>(count), 3, 32, 32}, Dtype::u8, {}};
  images.bytes.resize(count * kImage);
  std::vector<uint8_t> labels;
  for (size_t i = 0; i < count; ++i) {
    labels.push_back(static_cast<uint8_t>(bytes[i * kRecord]));
    std::memcpy(images.bytes.data() + i * kImage, bytes.data() + i * kRecord + 1, kImage);
  }
  return checked(std::move(images), std::move(labels), where);
}

ImageSet read_image_set(std::string_view name, uint64_t seed) {
  if (name == "cifar10") {
    const auto first = find_file(name, {"cifar-10-binary/cifar-10-batches-bin/data_batch_1.bin",
                                        "cifar-10-batches-bin/data_batch_1.bin"});
    const auto folder = first.parent_path();
    return {"CIFAR-10",
            read_cifar_batches(folder, {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                        "data_batch_4.bin", "data_batch_5.bin"}),
            read_cifar_batches(folder, {"test_batch.bin"})};
  }
  require(name == "mnist" || name == "fashion-mnist",
          "'{}' is not one of mnist, fashion-mnist, cifar10", name);
  const std::string title = name == "mnist" ? "MNIST" : "Fashion-MNIST";
  const auto first = find_file(
      name, {"train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz", "images-idx3-ubyte.gz"});
  const auto folder = first.parent_path();
  if (first.filename() == "train-images-idx3-ubyte.gz")
    return {title, read_idx_pair(folder, "train-"), read_idx_pair(folder, "t10k-")};
  const bool test_part = first.filename() == "t10k-images-idx3-ubyte.gz";
  const auto all = read_idx_pair(folder, test_part ? "t10k-" : "");
  const auto part = test_part ? "10k" : std::to_string(all.labels.size());
  return split(all, title + "-" + part, seed);
}

}  // namespace cajal::data
