#include <algorithm>
#include <memory>

#include "bench.h"
#include "cajal/core/machine.h"
#include "cajal/core/random.h"
#include "cajal/core/timing.h"
#include "cajal/core/torch.h"
#include "cajal/kernels/fff.h"
#include "cajal/kernels/memory.h"

namespace cajal {
namespace {

struct FffArguments : ColdArguments {
  int64_t depth = 11, leaf = 32, width = 768, batch = 64;
  std::string format = "f32";
};

/// Trees with the same weights, together more than the caches hold.
class Trees {
 public:
  Trees(Format format, const FffArguments& a) {
    const int64_t row = row_bytes(format, a.width), nodes = (int64_t{1} << a.depth) - 1;
    const int64_t keys = a.leaf << a.depth, rows = nodes + 1 + 2 * keys;
    const int64_t count = (a.cold_mib << 20) / (rows * row) + 1;
    memory_ = WeightMemory(rows * row * count);
    auto* const data = reinterpret_cast<uint8_t*>(memory_.data());
    // A thousand different rows, over and over; nodes are all different.
    const int64_t fresh = std::min(rows, nodes + 1 + 1000);
    Random random(1);
    std::vector<float> values(a.width);
    for (int64_t r = 0; r < rows; ++r) {
      if (r < fresh) {
        for (auto& value : values) value = static_cast<float>(random.normal()) * 0.03f;
        encode_row(format, values.data(), a.width, data + r * row);
      } else {
        std::copy_n(data + (r - 1000) * row, row, data + r * row);
      }
    }
    for (int64_t i = 0; i < count; ++i) {
      uint8_t* const of = data + i * rows * row;
      if (i > 0) std::copy_n(data, rows * row, of);
      const auto matrix = [&](int64_t first, int64_t n) {
        return row_matrix(format, of + first * row, n, a.width, "bench");
      };
      trees_.push_back({.depth = a.depth,
                        .node = matrix(0, nodes),
                        .key = matrix(nodes + 1, keys),
                        .value = matrix(nodes + 1 + keys, keys)});
    }
  }
  const FeedForwardTree& next() { return trees_[turn_++ % trees_.size()]; }

 private:
  WeightMemory memory_;
  std::vector<FeedForwardTree> trees_;
  size_t turn_ = 0;
};

torch::Tensor view(const RowMatrix& matrix) {
  return torch::from_blob(const_cast<void*>(matrix.data), {matrix.rows, matrix.width});
}

/// The tree written with libtorch's operations, on the same single-precision weights.
void run_torch(const FeedForwardTree& tree, const torch::Tensor& x) {
  const torch::NoGradGuard no_gradients;
  const auto node = view(tree.node), key = view(tree.key), value = view(tree.value);
  auto leaf = torch::zeros({x.size(0)}, torch::kLong);
  for (int64_t level = 0; level < tree.depth; ++level) {
    const auto weights = node.index_select(0, leaf + ((int64_t{1} << level) - 1));
    leaf = leaf * 2 + ((weights * x).sum(-1) >= 0);
  }
  const auto of = [&](const torch::Tensor& rows) {
    return rows.view({tree.leaves(), tree.leaf_width(), -1}).index_select(0, leaf);
  };
  const auto hidden = torch::relu(torch::bmm(of(key), x.unsqueeze(2)));
  torch::bmm(hidden.transpose(1, 2), of(value));
}

/// What is timed, by name.
struct Candidates {
  void add(const std::string& name, std::function<void()> call) {
    names.push_back(name), calls.push_back(std::move(call));
  }
  std::vector<std::string> names;
  std::vector<std::function<void()>> calls;
};

void run(const FffArguments& a) {
  require(a.depth >= 0 && a.depth <= 16 && a.leaf > 0 && a.width > 0 && a.batch > 0 && a.rounds > 0,
          "bench fff: depth 0 to 16; leaf, width, batch and rounds must be positive");
  const int threads = a.threads > 0 ? a.threads : available_processors();
  ThreadPool pool(threads);
  set_torch_threads(threads);
  const auto format = from_name<Format>(a.format, "bench fff: --format");
  Trees plain(Format::f32, a);
  std::unique_ptr<Trees> stored;
  if (format != Format::f32) stored = std::make_unique<Trees>(format, a);
  Trees& trees = stored ? *stored : plain;

  constexpr int64_t kInputs = 4096;  // in turn, so that other leaves are met
  Random random(2);
  std::vector<float> x((kInputs + a.batch) * a.width), y(a.batch * a.width);
  for (auto& value : x) value = static_cast<float>(random.normal());
  int64_t turn = 0;
  const auto next = [&](int64_t batch) {
    return x.data() + (turn = (turn + batch) % kInputs) * a.width;
  };
  const auto next_tensor = [&](int64_t batch) {
    return torch::from_blob(next(batch), {batch, a.width});
  };
  // As many rows as a tree of this depth has when leaves are nodes too, in one matrix.
  const int64_t dense_rows = std::min(int64_t{2} << a.depth, plain.next().key.rows);
  const auto dense = RowSet::range(0, dense_rows), inference = RowSet::range(0, a.leaf + a.depth);
  std::vector<float> hidden(dense_rows);

  Candidates c;
  c.add("tree, batch 1", [&] { tree_feed_forward(trees.next(), next(1), 1, y.data(), pool); });
  c.add(fmt::format("tree, batch {}", a.batch),
        [&] { tree_feed_forward(trees.next(), next(a.batch), a.batch, y.data(), pool); });
  c.add("dense matrix, batch 1",
        [&] { dot_rows(plain.next().key, dense, next(1), 1, hidden.data(), pool); });
  c.add("dense matrix, libtorch", [&] {
    const torch::NoGradGuard no_gradients;
    torch::mv(view(plain.next().key).slice(0, 0, dense_rows), next_tensor(1)[0]);
  });
  c.add("dense block of leaf + depth neurons", [&] {
    const auto& tree = plain.next();
    dot_rows(tree.key, inference, next(1), 1, hidden.data(), pool);
    std::fill(y.begin(), y.begin() + a.width, 0.0f);
    gather_axpy(tree.value, inference, hidden.data(), 1, y.data(), pool);
  });
  c.add("libtorch op by op, batch 1", [&] { run_torch(plain.next(), next_tensor(1)); });
  c.add(fmt::format("libtorch op by op, batch {}", a.batch),
        [&] { run_torch(plain.next(), next_tensor(a.batch)); });
  const auto times = time_interleaved(c.calls, a.rounds, 5);

  const size_t best_dense = times.median_seconds(2) < times.median_seconds(3) ? 2 : 3;
  const Json claims = {{"tree_over_dense", times.ratio(0, best_dense)},
                       {"batch_over_one", times.ratio(1, 0)}};
  const double read = static_cast<double>(row_bytes(format, a.width) * (2 * a.leaf + a.depth));
  Json rows = Json::array();
  for (size_t i = 0; i < c.names.size(); ++i)
    rows.push_back({{"name", c.names[i]}, {"seconds", times.median_seconds(i)}});
  if (a.json)
    return fmt::print("{}\n", Json{{"machine", provenance()},
                                   {"depth", a.depth},
                                   {"leaf", a.leaf},
                                   {"width", a.width},
                                   {"batch", a.batch},
                                   {"threads", threads},
                                   {"format", a.format},
                                   {"dense_rows", dense_rows},
                                   {"results", rows},
                                   {"ratios", claims}}
                                  .dump());
  fmt::print("tree of depth {}, leaves of {} neurons, width {}, {}, {} threads, weights cold\n",
             a.depth, a.leaf, a.width, a.format, threads);
  for (size_t i = 0; i < c.names.size(); ++i)
    fmt::print("{:38} {:>10.1f} us\n", c.names[i], times.median_seconds(i) * 1e6);
  fmt::print("one token over the best dense matrix [{}, {}]  {:.3f}\n", dense_rows, a.width,
             times.ratio(0, best_dense));
  fmt::print("{} tokens over one                          {:.1f}\n", a.batch, times.ratio(1, 0));
  fmt::print("a token reads at most {:.0f} KB: {:.1f} GB/s\n", read / 1e3,
             read / times.median_seconds(0) / 1e9);
}

void setup(CommandLine& app) {
  const auto a = std::make_shared<FffArguments>();
  app.add_option("--depth", a->depth, "decisions on a path")->capture_default_str();
  app.add_option("--leaf", a->leaf, "neurons of a leaf")->capture_default_str();
  app.add_option("--width", a->width, "features in and out")->capture_default_str();
  app.add_option("--batch", a->batch, "tokens of the batched form")->capture_default_str();
  app.add_option("--format", a->format, "how the tree's weights are stored")->capture_default_str();
  add_cold_options(app, *a);
  app.callback([a] { run(*a); });
}

const auto registered = benches().add(
    "fff", {"a tree of small feed-forward networks beside dense blocks and libtorch", setup});

}  // namespace
}  // namespace cajal
