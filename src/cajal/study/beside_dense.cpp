#include "cajal/study/beside_dense.h"

#include "cajal/core/timing.h"
#include "cajal/core/torch.h"
#include "cajal/layers/ffn/sparse_memory.h"

namespace cajal::study {
namespace {

/// Batches in turn, so that other paths are taken.
class Inputs {
 public:
  Inputs(int64_t batch, int64_t width) : batch_(batch), all_(torch::randn({64 * batch, width})) {}
  torch::Tensor next() { return all_.narrow(0, turn_++ % 64 * batch_, batch_); }
  const float* values() { return next().data_ptr<float>(); }

 private:
  int64_t batch_, turn_ = 0;
  torch::Tensor all_;
};

torch::Tensor view(const RowMatrix& matrix) {
  return torch::from_blob(const_cast<void*>(matrix.data), {matrix.rows, matrix.width});
}

}  // namespace

BesideDense beside_dense(MatrixCopies& key, MatrixCopies& value, int64_t batch, int rounds,
                         ThreadPool& threads,
                         const std::function<void(const float* x, float* y)>& layer) {
  const auto [format, data, neurons, width, stride] = key.next();
  Inputs inputs(batch, width);
  auto y = torch::empty({batch, width}), fired = torch::empty({batch, neurons});
  const auto every = RowSet::range(0, neurons);
  const auto by_rows = [&] {
    dot_rows(key.next(), every, inputs.values(), batch, fired.data_ptr<float>(), threads);
    fired.relu_();
    y.zero_();
    gather_axpy(value.next(), every, fired.data_ptr<float>(), batch, y.data_ptr<float>(), threads);
  };
  const auto by_products = [&] {
    torch::relu(torch::mm(inputs.next(), view(key.next()).t())).mm(view(value.next()));
  };
  const auto times = time_interleaved(
      {by_rows, [&] { layer(inputs.values(), y.data_ptr<float>()); }, by_products}, rounds, 2);
  const size_t best = times.median_seconds(0) < times.median_seconds(2) ? 0 : 2;
  return {times.median_seconds(1), times.median_seconds(best), times.ratio(best, 1)};
}

std::vector<double> beside_experts(std::vector<TreeCopies>& trees, int rounds,
                                   ThreadPool& threads) {
  const auto last = trees.back().next();
  Inputs inputs(1, last.width());
  auto y = torch::empty({1, last.outputs()});
  std::vector<std::function<void()>> calls;
  for (auto& copies : trees)
    calls.push_back([&] {
      tree_feed_forward(copies.next(), inputs.values(), 1, y.data_ptr<float>(), threads);
    });
  SparseMemoryOptions options{
      .width = last.width(), .neurons = last.key.rows, .block = last.leaf_width()};
  options.active_blocks = 2, options.selector = Selector::noisy_top_k;
  SparseMemory experts(options);
  experts->eval();
  const torch::NoGradGuard no_grad;
  calls.push_back([&] { experts->forward(inputs.next()); });
  const auto times = time_interleaved(calls, rounds, 3);
  std::vector<double> out;
  for (size_t i = 0; i < calls.size(); ++i) out.push_back(times.median_seconds(i));
  return out;
}

}  // namespace cajal::study
