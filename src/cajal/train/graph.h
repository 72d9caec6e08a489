#pragma once
#include <functional>
#include <memory>
#include <string>

#include "cajal/core/torch.h"

namespace cajal::train {

/// While it lives, work of this thread on `device` goes to a stream of its own, as recording wants
/// it. Does nothing on the CPU.
class OwnStream {
 public:
  explicit OwnStream(torch::Device device);
  ~OwnStream();
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;

 private:
  struct Guard;
  std::unique_ptr<Guard> guard_;
};

/// GPU work recorded once and replayed as a whole (a CUDA graph), so that launching costs nothing.
class Graph {
 public:
  static bool available(torch::Device device);  // this build and device can record

  /// Records what `work` queues; `work` must have run once before, on the same OwnStream. It does
  /// not run now.
  explicit Graph(const std::function<void()>& work);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void replay();

 private:
  struct Recording;
  std::unique_ptr<Recording> recording_;
};

/// Waits until the device has done what was queued.
void wait_for(torch::Device device);

/// "NVIDIA H100 80GB HBM3", or "cpu".
std::string device_name(torch::Device device);

}  // namespace cajal::train
