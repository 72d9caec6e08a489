#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "cajal/train/checkpoint.h"
#include "cajal/train/options.h"
#include "cajal/train/parameters.h"
#include "cajal/train/processes.h"

namespace cajal::train {

/// Which part of a step's batch is wanted: part `part` of `parts` equal ones. The same slice is
/// always the same data, which is what makes a run repeatable and resumable.
struct Slice {
  int64_t step, part, parts;
};
using Batch = std::vector<torch::Tensor>;

/// What is trained, on what, and by which measure.
struct Task {
  std::vector<Parameter> parameters;
  NamedBuffers buffers = {};  // state besides parameters that a checkpoint must hold

  /// Tensors of a slice, on the CPU or the device.
  std::function<Batch(const Slice&)> batch;
  /// The mean loss [] over a slice's items; its tensors are on the device of the parameters.
  std::function<torch::Tensor(const Batch&)> loss;
  /// Figures on held-out data; "loss" decides which weights are best. May be empty.
  std::function<Json()> evaluate = {};

  int64_t items_per_step = 1;             // of all processes, for rates and logs
  std::string items = "items";            // what they are called
  Precision precision = Precision::fp32;  // to work in, unless the options say
  /// The loss does the same work for every batch and never waits for the device, so that a step
  /// may be recorded as a CUDA graph.
  bool recordable = false;
};

/// A task over all of a module's trainable parameters and buffers.
Task task_of(const torch::nn::Module& module, std::function<Batch(const Slice&)> batch,
             std::function<torch::Tensor(const Batch&)> loss);

/// Where a run keeps its log.jsonl and checkpoints/{last,best}.safetensors; no folder: nowhere.
struct Place {
  std::filesystem::path folder = {};
  bool resume = false;  // go on from checkpoints/last, where there is one
};

struct Result {
  int64_t steps = 0;      // done, those before a resume included
  int64_t kept_step = 0;  // after which the weights that are kept stood
  bool stopped = false;   // by SIGINT or SIGTERM, after saving
  double loss = 0;        // mean training loss since the last log line
  Json evaluation;        // of the weights that are kept
  double items_per_second = 0;
};

/// Trains. At the end, and when a signal stops it, the parameters are fp32 and hold the weights
/// that the options ask for: the last or the best, as they were or their average. Without a folder
/// to go on from, a signal ends the process. Progress goes to stderr. Throws Error when options
/// make no sense, files cannot be read or written, or the loss is no number.
Result run(const Task& task, const Options& options, const Place& place = {},
           const Processes& processes = Processes());

}  // namespace cajal::train
