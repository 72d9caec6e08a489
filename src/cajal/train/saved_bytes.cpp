#include "cajal/train/saved_bytes.h"

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/saved_variable_hooks.h>

#include <algorithm>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace cajal::train {
namespace autograd = torch::autograd;

struct SavedBytes::State {
  // Backward passes on a GPU let go of tensors on another thread.
  mutable std::mutex mutex;
  std::unordered_set<const void*> not_counted;
  std::unordered_map<const void*, int64_t> holders;  // of each storage
  int64_t live = 0, peak = 0, total = 0;

  void take(const void* storage, int64_t bytes) {
    const std::lock_guard lock(mutex);
    if (not_counted.contains(storage) || holders[storage]++ > 0) return;
    live += bytes, total += bytes;
    peak = std::max(peak, live);
  }
  void let_go(const void* storage, int64_t bytes) {
    const std::lock_guard lock(mutex);
    const auto it = holders.find(storage);
    if (it == holders.end() || --it->second > 0) return;
    holders.erase(it);
    live -= bytes;
  }
};

namespace {

thread_local std::shared_ptr<SavedBytes::State> current;

const void* storage_of(const torch::Tensor& tensor) {
  return tensor.storage().unsafeGetStorageImpl();
}

/// Holds a saved tensor as autograd itself would, and tells the meter for how long.
class Held : public autograd::SavedVariableHooks {
 public:
  explicit Held(std::shared_ptr<SavedBytes::State> state) : state_(std::move(state)) {}
  ~Held() override {
    if (storage_ != nullptr) state_->let_go(storage_, bytes_);
  }
  void call_pack_hook(const torch::Tensor& tensor) override {
    tensor_ = tensor.detach();  // an output that knew its own operation would never be freed
    if (!tensor_.has_storage()) return;
    storage_ = storage_of(tensor_);
    bytes_ = static_cast<int64_t>(tensor_.storage().nbytes());
    state_->take(storage_, bytes_);
  }
  torch::Tensor call_unpack_hook() override { return tensor_; }

 private:
  std::shared_ptr<SavedBytes::State> state_;
  torch::Tensor tensor_;
  const void* storage_ = nullptr;
  int64_t bytes_ = 0;
};

/// libtorch's engine, except that tensors saved by a metered thread are packed by Held. The default
/// engine is the only place that C++ code can hand autograd its hooks.
class MeteredEngine : public autograd::Engine {
 public:
  std::unique_ptr<autograd::SavedVariableHooks> get_default_saved_variable_hooks() override {
    return current ? std::make_unique<Held>(current) : nullptr;
  }
  autograd::variable_list execute(const autograd::edge_list& roots,
                                  const autograd::variable_list& inputs, bool keep_graph,
                                  bool create_graph, bool accumulate_grad,
                                  const autograd::edge_list& outputs) override {
    return get_base_engine().execute(roots, inputs, keep_graph, create_graph, accumulate_grad,
                                     outputs);
  }
  c10::intrusive_ptr<at::ivalue::Future> execute_with_graph_task(
      const std::shared_ptr<autograd::GraphTask>& task, std::shared_ptr<autograd::Node> root,
      autograd::InputBuffer&& input) override {
    return get_base_engine().execute_with_graph_task(task, std::move(root), std::move(input));
  }
};

void install_engine() {
  static std::once_flag once;
  std::call_once(once, [] {
    autograd::set_default_engine_stub([]() -> autograd::Engine& {
      static auto* engine = new MeteredEngine;  // never destroyed: graphs may outlive statics
      return *engine;
    });
  });
}

}  // namespace

SavedBytes::SavedBytes(const std::vector<torch::Tensor>& not_counted)
    : state_(std::make_shared<State>()), outer_(current) {
  for (const auto& tensor : not_counted)
    if (tensor.defined()) state_->not_counted.insert(storage_of(tensor));
  install_engine();
  current = state_;
}

SavedBytes::~SavedBytes() { current = outer_; }

int64_t SavedBytes::live() const {
  const std::lock_guard lock(state_->mutex);
  return state_->live;
}
int64_t SavedBytes::peak() const {
  const std::lock_guard lock(state_->mutex);
  return state_->peak;
}
int64_t SavedBytes::total() const {
  const std::lock_guard lock(state_->mutex);
  return state_->total;
}

struct AllocatedBytes::Report : c10::MemoryReportingInfoBase {
#if CAJAL_TORCH_AT_LEAST(2, 0)
  using Total = size_t;
#else
  using Total = int64_t;
#endif
  // Allocations and frees on other threads (a GPU's backward pass) report here as well.
  mutable std::mutex mutex;
  std::unordered_map<void*, int64_t> blocks;
  int64_t live = 0, peak = 0;

  void reportMemoryUsage(void* block, int64_t bytes, Total, Total, c10::Device) override {
    const std::lock_guard lock(mutex);
    if (bytes > 0) {
      blocks[block] = bytes;
      live += bytes;
      peak = std::max(peak, live);
    } else if (const auto it = blocks.find(block); it != blocks.end()) {
      live -= it->second;
      blocks.erase(it);
    }
  }
  bool memoryProfilingEnabled() const override { return true; }
};

struct AllocatedBytes::Guard {
  c10::DebugInfoGuard guard;
};

AllocatedBytes::AllocatedBytes()
    : report_(std::make_shared<Report>()),
      guard_(new Guard{c10::DebugInfoGuard(c10::DebugInfoKind::PROFILER_STATE, report_)}) {}
AllocatedBytes::~AllocatedBytes() = default;

int64_t AllocatedBytes::live() const {
  const std::lock_guard lock(report_->mutex);
  return report_->live;
}
int64_t AllocatedBytes::peak() const {
  const std::lock_guard lock(report_->mutex);
  return report_->peak;
}

}  // namespace cajal::train
