#include "cajal/train/trainer.h"

#include <cmath>
#include <csignal>
#include <memory>
#include <optional>

#include "cajal/core/error.h"
#include "cajal/core/progress.h"
#include "cajal/core/timing.h"
#include "cajal/train/graph.h"
#include "cajal/train/log.h"
#include "cajal/train/optimizer.h"

namespace cajal::train {
namespace {

volatile std::sig_atomic_t stop_asked = 0;

/// While it lives, SIGINT and SIGTERM ask the run to stop; a second one ends the process.
class StopOnSignal {
 public:
  StopOnSignal() {
    stop_asked = 0;
    for (int i = 0; i < 2; ++i) before_[i] = std::signal(kSignals[i], ask);
  }
  ~StopOnSignal() {
    for (int i = 0; i < 2; ++i) std::signal(kSignals[i], before_[i]);
  }
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;

 private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM};
  static void ask(int signal) {
    stop_asked = 1;
    std::signal(signal, SIG_DFL);
  }
  void (*before_[2])(int);
};

constexpr int kStepsBeforeRecording = 3;  // eager ones, in which libraries make their plans

class Run {
 public:
  Run(const Task& task, const Options& options, const Place& place, const Processes& processes)
      : task_(task),
        options_(options),
        place_(place),
        processes_(processes),
        device_(task.parameters.at(0).tensor.device()),
        stream_(device_),
        parameters_(task.parameters, work_type()),
        optimizer_(parameters_, options),
        losses_(torch::zeros({}, parameters_.values.options())) {}

  Result train();

 private:
  torch::Dtype work_type() const;
  bool recordable() const;
  std::filesystem::path checkpoint(const char* name) const;
  void resume();
  void take_batches(int64_t step);
  void compute_step();
  void one_step();
  void log_step();
  void evaluate();
  void save(const char* name);
  const torch::Tensor& judged() const;
  void keep();

  const Task& task_;
  const Options& options_;
  const Place& place_;
  const Processes& processes_;
  const torch::Device device_;
  OwnStream stream_;
  FlatParameters parameters_;
  Optimizer optimizer_;
  Standing standing_;
  KeptWeights best_;
  Log log_;
  Result result_;

  std::vector<Batch> batches_;  // one a micro-batch; the same memory every step when recorded
  torch::Tensor losses_;        // sum over the steps since the last log line
  int64_t since_log_ = 0;
  Stopwatch clock_;
  double timed_from_ = 0;
  std::unique_ptr<Graph> graph_;
  int eager_steps_ = 0;
};

torch::Dtype Run::work_type() const {
  const auto precision = options_.precision.value_or(task_.precision);
  require(precision == Precision::fp32 || device_.is_cuda(),
          "trainer.precision: bf16 needs a GPU, the parameters are on {}", device_.str());
  return precision == Precision::bf16 ? torch::kBFloat16 : torch::kFloat;
}

bool Run::recordable() const {
  return options_.cuda_graph && task_.recordable && processes_.count() == 1 &&
         Graph::available(device_);
}

std::filesystem::path Run::checkpoint(const char* name) const {
  return place_.folder / "checkpoints" / fmt::format("{}.safetensors", name);
}

void Run::resume() {
  const auto last = checkpoint("last");
  if (place_.resume && std::filesystem::exists(last))
    standing_ = load_checkpoint(last, parameters_, optimizer_, task_.buffers);
  processes_.share(parameters_.values);
  parameters_.show(parameters_.values);
  if (standing_.best && options_.keep == Keep::best && std::filesystem::exists(checkpoint("best")))
    best_ = load_weights(checkpoint("best"), parameters_,
                         judged().is_same(parameters_.values) ? "value" : "average", task_.buffers);
  if (place_.folder.empty() || !processes_.writes()) return;
  std::filesystem::create_directories(place_.folder / "checkpoints");
  log_ = Log(place_.folder / "log.jsonl", standing_.step);
}

void Run::take_batches(int64_t step) {
  const bool first = batches_.empty();
  if (first) batches_.resize(static_cast<size_t>(options_.accumulate));
  for (int64_t micro = 0; micro < options_.accumulate; ++micro) {
    const Slice slice{step, processes_.rank() * options_.accumulate + micro,
                      processes_.count() * options_.accumulate};
    auto next = task_.batch(slice);
    auto& batch = batches_[static_cast<size_t>(micro)];
    if (!recordable()) {
      batch = std::move(next);
      for (auto& tensor : batch) tensor = tensor.to(device_, /*non_blocking=*/true);
      continue;
    }
    if (first)
      for (const auto& tensor : next) batch.push_back(torch::empty_like(tensor, device_));
    require(next.size() == batch.size(), "a recorded step wants {} tensors a batch, got {}",
            batch.size(), next.size());
    for (size_t i = 0; i < batch.size(); ++i) {
      require(next[i].sizes() == batch[i].sizes(),
              "a recorded step wants batches of one shape, {} then {}",
              shape_text(batch[i].sizes()), shape_text(next[i].sizes()));
      // Through pinned memory the copy is queued and nobody waits.
      batch[i].copy_(next[i].is_cpu() ? next[i].pin_memory() : next[i], /*non_blocking=*/true);
    }
  }
}

// Everything a step computes; nothing in it waits for the device.
void Run::compute_step() {
  const double share = 1.0 / static_cast<double>(options_.accumulate * processes_.count());
  for (int64_t micro = 0; micro < options_.accumulate; ++micro) {
    auto loss = task_.loss(batches_[static_cast<size_t>(micro)]);
    loss.backward();
    losses_.add_(loss.detach().to(torch::kFloat), 1.0 / static_cast<double>(options_.accumulate));
    parameters_.gather(share, /*add=*/micro > 0);
  }
  processes_.sum(parameters_.gradient);
  optimizer_.step();
}

void Run::one_step() {
  take_batches(standing_.step);
  optimizer_.prepare(standing_.step);
  if (graph_ == nullptr && recordable() && eager_steps_ == kStepsBeforeRecording)
    graph_ = std::make_unique<Graph>([this] { compute_step(); });
  if (graph_ != nullptr) {
    graph_->replay();
  } else {
    compute_step();
    ++eager_steps_;
  }
  ++standing_.step;
  ++since_log_;
}

void Run::log_step() {
  if (since_log_ == 0) return;
  auto total = losses_ / static_cast<double>(since_log_ * processes_.count());
  processes_.sum(total = total.reshape({1}));
  result_.loss = total.item<double>();  // waits for the device
  const double now = clock_.seconds();
  result_.items_per_second =
      static_cast<double>(since_log_ * task_.items_per_step) / std::max(1e-9, now - timed_from_);
  losses_.zero_();
  log_.write({{"step", standing_.step},
              {task_.items, standing_.step * task_.items_per_step},
              {"loss", result_.loss},
              {"learning_rate", rate_at(options_, standing_.step - 1)},
              {"gradient_norm", optimizer_.norm().item<double>()},
              {task_.items + "_per_second", result_.items_per_second},
              {"seconds", now}});
  since_log_ = 0;
  timed_from_ = clock_.seconds();
  require(std::isfinite(result_.loss),
          "the loss is {} at step {}: try a lower learning_rate, more warmup_steps or a clip",
          result_.loss, standing_.step);
}

void Run::evaluate() {
  if (!task_.evaluate || !processes_.writes()) return;
  const torch::NoGradGuard no_gradient;
  parameters_.show(judged());
  result_.evaluation = task_.evaluate();
  parameters_.show(parameters_.values);
  log_.write({{"step", standing_.step},
              {task_.items, standing_.step * task_.items_per_step},
              {"evaluation", result_.evaluation},
              {"seconds", clock_.seconds()}});
  const double loss = result_.evaluation.value("loss", NAN);
  if (loss < standing_.best.value_or(INFINITY)) {
    standing_.best = loss;
    best_ = {judged().clone(), {}, standing_.step};
    for (const auto& [name, buffer] : task_.buffers) best_.buffers.push_back(buffer.clone());
    save("best");
  }
}

// The weights that are evaluated: as they are, or their average.
const torch::Tensor& Run::judged() const {
  const bool average = optimizer_.average.defined() && options_.weights == Weights::average;
  return average ? optimizer_.average : parameters_.values;
}

// Leaves the model with the weights that the options ask for.
void Run::keep() {
  const bool best = options_.keep == Keep::best && best_.flat.defined() && !result_.stopped;
  result_.kept_step = best ? best_.step : standing_.step;
  parameters_.settle(best ? best_.flat : judged());
  if (!best || best_.step == standing_.step) return;
  const torch::NoGradGuard no_gradient;
  for (size_t i = 0; i < best_.buffers.size(); ++i) task_.buffers[i].second.copy_(best_.buffers[i]);
  if (task_.evaluate && processes_.writes()) result_.evaluation = task_.evaluate();
}

void Run::save(const char* name) {
  if (place_.folder.empty() || !processes_.writes()) return;
  save_checkpoint(checkpoint(name), parameters_, optimizer_, task_.buffers, standing_);
}

Result Run::train() {
  resume();
  // With nowhere to save to there is nothing to go on from: a signal then ends the process, and
  // no caller takes a half-trained model for a trained one.
  std::optional<StopOnSignal> stop_on_signal;
  if (!place_.folder.empty()) stop_on_signal.emplace();
  Progress bar(processes_.writes() ? "train" : "", options_.steps * task_.items_per_step,
               task_.items);
  const auto due = [&](int64_t every) { return every > 0 && standing_.step % every == 0; };
  int64_t evaluated = -1;
  timed_from_ = clock_.seconds();
  while (standing_.step < options_.steps && !result_.stopped) {
    one_step();
    result_.stopped = processes_.any(stop_on_signal && stop_asked != 0);
    if (due(options_.log_every) || result_.stopped) {
      log_step();
      bar.note(fmt::format("loss {:.4f}", result_.loss));
    }
    bar.set(standing_.step * task_.items_per_step);
    const bool evaluation_due = due(options_.evaluate_every), save_due = due(options_.save_every);
    if (evaluation_due || save_due) {
      log_step();
      if (evaluation_due) evaluate(), evaluated = standing_.step;
      if (save_due) save("last");
      timed_from_ = clock_.seconds();
    }
  }
  log_step();
  if (!result_.stopped && evaluated != standing_.step) evaluate();
  save("last");
  wait_for(device_);
  keep();
  result_.steps = standing_.step;
  return result_;
}

}  // namespace

Task task_of(const torch::nn::Module& module, std::function<Batch(const Slice&)> batch,
             std::function<torch::Tensor(const Batch&)> loss) {
  Task task{
      .parameters = parameters_of(module), .batch = std::move(batch), .loss = std::move(loss)};
  for (const auto& item : module.named_buffers())
    task.buffers.emplace_back(item.key(), item.value());
  return task;
}

Result run(const Task& task, const Options& options, const Place& place,
           const Processes& processes) {
  check(options);
  require(!task.parameters.empty(), "nothing to train: no parameter requires a gradient");
  return Run(task, options, place, processes).train();
}

}  // namespace cajal::train
