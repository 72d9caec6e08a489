#include <algorithm>
#include <memory>
#include <set>

#include "bench.h"
#include "cajal/core/machine.h"
#include "cajal/core/random.h"
#include "cajal/core/timing.h"
#include "cajal/core/torch.h"
#include "cajal/kernels/copies.h"
#include "cajal/kernels/fff.h"
#include "cold_timing.h"

namespace cajal {
namespace {

struct FffArguments : ColdArguments {
  int64_t depth = 11, leaf = 32, width = 768, batch = 64;
  std::string format = "f32";
};

/// Different rows that a batch reads of a tree, as a share of what one token reads.
double rows_over_one(const FeedForwardTree& tree, const float* x, int64_t batch,
                     ThreadPool& threads) {
  std::vector<int32_t> leaf(batch);
  descend_tree(tree, x, batch, leaf.data(), threads);
  std::set<int32_t> at(leaf.begin(), leaf.end());
  int64_t rows = std::ssize(at) * 2 * tree.leaf_width();
  while (std::ssize(at) > 1 || *at.begin() > 0) {  // node by node up to the root
    std::set<int32_t> above;
    for (const auto place : at) above.insert(place / 2);
    at = std::move(above);
    rows += std::ssize(at);
  }
  return static_cast<double>(rows) / static_cast<double>(2 * tree.leaf_width() + tree.depth);
}

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
  const Pinned pinned(pool);
  set_torch_threads(threads);
  const auto format = from_name<Format>(a.format, "bench fff: --format");
  const auto copies = [&](Format of) {
    return TreeCopies(of, a.depth, a.leaf, a.width, a.cold_mib << 19);
  };
  TreeCopies plain = copies(Format::f32), stored = plain;
  if (format != Format::f32) stored = copies(format);
  TreeCopies& trees = format == Format::f32 ? plain : stored;

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
  MatrixCopies dense(Format::f32, dense_rows, a.width, a.cold_mib << 20);
  const auto every = RowSet::range(0, dense_rows), inference = RowSet::range(0, a.leaf + a.depth);
  std::vector<float> hidden(dense_rows);

  Candidates c;
  // The matrix first: a tree follows work of the same threads, as in a network.
  c.add("dense matrix, batch 1",
        [&] { dot_rows(dense.next(), every, next(1), 1, hidden.data(), pool); });
  c.add("tree, batch 1", [&] { tree_feed_forward(trees.next(), next(1), 1, y.data(), pool); });
  c.add(fmt::format("tree, batch {}", a.batch),
        [&] { tree_feed_forward(trees.next(), next(a.batch), a.batch, y.data(), pool); });
  c.add("dense matrix, libtorch", [&] {
    const torch::NoGradGuard no_grad;
    torch::mv(view(dense.next()), next_tensor(1)[0]);
  });
  c.add("dense block of leaf + depth neurons", [&] {
    const auto tree = plain.next();
    dot_rows(tree.key, inference, next(1), 1, hidden.data(), pool);
    std::fill(y.begin(), y.begin() + a.width, 0.0f);
    gather_axpy(tree.value, inference, hidden.data(), 1, y.data(), pool);
  });
  c.add("libtorch op by op, batch 1", [&] { run_torch(plain.next(), next_tensor(1)); });
  c.add(fmt::format("libtorch op by op, batch {}", a.batch),
        [&] { run_torch(plain.next(), next_tensor(a.batch)); });
  const auto times = time_interleaved(c.calls, a.rounds, 5);

  constexpr size_t kOne = 1, kBatch = 2;
  const size_t best_dense = times.median_seconds(0) < times.median_seconds(3) ? 0 : 3;
  const double rows_read = rows_over_one(trees.next(), next(a.batch), a.batch, pool);
  const Json claims = {{"tree_over_dense", times.ratio(kOne, best_dense)},
                       {"batch_over_one", times.ratio(kBatch, kOne)},
                       {"rows_of_batch_over_one", rows_read}};
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
             times.ratio(kOne, best_dense));
  fmt::print("{} tokens over one  {:.1f}, with {:.1f} times the rows\n", a.batch,
             times.ratio(kBatch, kOne), rows_read);
  fmt::print("a token reads at most {:.0f} KB: {:.1f} GB/s\n", read / 1e3,
             read / times.median_seconds(kOne) / 1e9);
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
