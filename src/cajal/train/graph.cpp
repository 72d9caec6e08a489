#include "cajal/train/graph.h"

#include "cajal/core/error.h"

#ifdef CAJAL_CUDA
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace cajal::train {

#ifdef CAJAL_CUDA
struct OwnStream::Guard {
  explicit Guard(torch::Device device)
      : guard(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index())) {}
  c10::cuda::CUDAStreamGuard guard;
};

struct Graph::Recording {
  at::cuda::CUDAGraph graph;
};

OwnStream::OwnStream(torch::Device device) {
  if (!device.is_cuda()) return;
  wait_for(device);  // what other streams have made so far will be read from this one
  guard_ = std::make_unique<Guard>(device);
}

bool Graph::available(torch::Device device) { return device.is_cuda(); }

Graph::Graph(const std::function<void()>& work) : recording_(std::make_unique<Recording>()) {
  c10::cuda::getCurrentCUDAStream().synchronize();
  recording_->graph.capture_begin();
  work();
  recording_->graph.capture_end();
}

void Graph::replay() { recording_->graph.replay(); }

std::string device_name(torch::Device device) {
  return device.is_cuda() ? at::cuda::getDeviceProperties(device.index())->name : device.str();
}
#else
struct OwnStream::Guard {};
struct Graph::Recording {};
OwnStream::OwnStream(torch::Device) {}
bool Graph::available(torch::Device) { return false; }
Graph::Graph(const std::function<void()>&) { fail("this build has no CUDA"); }
void Graph::replay() {}
std::string device_name(torch::Device device) { return device.str(); }
#endif

OwnStream::~OwnStream() = default;
Graph::~Graph() = default;

void wait_for(torch::Device device) {
  if (device.is_cuda()) torch::cuda::synchronize(device.index());
}

}  // namespace cajal::train
