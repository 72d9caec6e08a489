#pragma once
#include <optional>
#include <string>

#include "cajal/data/image_set.h"
#include "cajal/study/study.h"

namespace cajal::study {

/// Pictures with a class each, as tensors.
struct Pictures {
  torch::Tensor x;  // float [count, channels, height, width], 0 to 1
  torch::Tensor y;  // int64 [count]

  int64_t size() const { return x.defined() ? x.size(0) : 0; }
  torch::Tensor rows() const { return x.flatten(1); }  // [count, pixels]
  Pictures first(int64_t count) const;
  Pictures of(const torch::Tensor& chosen) const;  // by index
};

Pictures pictures(const data::LabelledImages& images);

/// A task of classification. `valid` is the last tenth of what the set gives for training: what is
/// chosen is chosen there, and `test` is read once.
struct ImageTask {
  std::string name;  // as tables must name it
  int64_t classes = 10;
  Pictures train, valid, test;

  /// (x - mean) / deviation in all parts.
  ImageTask standardised(double mean, double deviation) const;
};

/// The image set of that name. In a smoke run a few generated shapes of the same size; where the
/// set is not here also generated shapes, and a line under "not shown".
ImageTask find_images(Lab& lab, const std::string& name, uint64_t seed = 0);

/// "shapes-10", generated: train and valid of `count`, test of a fifth of it.
ImageTask shapes_task(int64_t count, uint64_t seed, int64_t size = 32, int64_t channels = 3);

/// Patches of `size` pixels a side of brick, grass and gravel, three classes. Those of training,
/// validation and test lie in the left 60 %, the next 10 % and the right 30 % of the photos.
/// Nothing, and a line under "not shown", where the photos are not here.
std::optional<ImageTask> texture_task(Lab& lab, int64_t count, uint64_t seed, int64_t size = 32);

/// A photo of the data set "photos" by its name, [channels, height, width], 0 to 1.
torch::Tensor photo(const std::string& name);

/// Share of equal elements.
double accuracy(const torch::Tensor& predicted, const torch::Tensor& labels);

}  // namespace cajal::study
