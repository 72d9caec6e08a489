#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/torch.h"

/// Convolutional networks as a list of blocks, cut where a gradient may be cut.
namespace cajal::vision {

/// A part of a network: x [batch, channels, height, width] -> [batch, `channels`, ...].
struct Block {
  std::shared_ptr<torch::nn::Module> module;
  std::function<torch::Tensor(const torch::Tensor&)> forward;
  int64_t channels = 0;  // of what comes out
};

/// Where a network is cut.
enum class Partition {
  blocks,  // the stem and each residual or inverted-residual unit, shortcuts inside
  layers,  // each convolution with norm and law on its own; shortcuts cannot be
  whole,   // nowhere
};

enum class Net {
  resnet18,            // 3 x 3 stem, no pooling, widths 64-128-256-512, two basic blocks each
  mobilenet_v3_small,  // inverted residuals; the stem keeps the size of small pictures
  plain_cnn,           // six 3 x 3 convolutions, stride 2 at every second
};

struct BlockNetOptions {
  Net net = Net::resnet18;
  int64_t channels = 3;  // of the pictures
  double width = 1;      // multiplies all widths
  Partition partition = Partition::blocks;
};
CAJAL_OPTIONS(BlockNetOptions, net, channels, width, partition)

/// Blocks in order. Sources: arXiv 1512.03385 (CIFAR form of ResNet18), arXiv 1905.02244 table 2.
std::vector<Block> block_net(const BlockNetOptions& options);

std::vector<torch::Tensor> parameters(const std::vector<Block>& blocks);

}  // namespace cajal::vision

CAJAL_ENUM(cajal::vision::Partition, {cajal::vision::Partition::blocks, "blocks"},
           {cajal::vision::Partition::layers, "layers"}, {cajal::vision::Partition::whole, "whole"})
CAJAL_ENUM(cajal::vision::Net, {cajal::vision::Net::resnet18, "resnet18"},
           {cajal::vision::Net::mobilenet_v3_small, "mobilenet_v3_small"},
           {cajal::vision::Net::plain_cnn, "plain_cnn"})
