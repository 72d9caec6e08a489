#include "cajal/layers/ffn/sparse_memory.h"

#include <cmath>

#include "cajal/layers/ffn/grouping.h"
#include "cajal/layers/init.h"
#include "cajal/layers/layer.h"

namespace cajal {
namespace {

bool cell_selector(Selector selector) {
  return selector == Selector::vanilla || selector == Selector::low_rank ||
         selector == Selector::product_key;
}

int64_t square_root(int64_t n) {
  return static_cast<int64_t>(std::llround(std::sqrt(static_cast<double>(n))));
}

void check_selector(const SparseMemoryOptions& o) {
  const auto name = to_name(o.selector);
  require(!cell_selector(o.selector) || o.block == 1,
          "sparse_memory: selector {} chooses cells, expected block 1, not {}", name, o.block);
  if (o.selector == Selector::switched)
    require(o.active_blocks == 1, "sparse_memory: selector switch reads 1 block, not {}",
            o.active_blocks);
  if (o.selector == Selector::low_rank)
    require(o.rank > 0 && o.rank <= o.width, "sparse_memory: rank is {}, expected 1 to {} (width)",
            o.rank, o.width);
  if (o.selector == Selector::product_key) {
    const int64_t side = square_root(o.neurons);
    require(side * side == o.neurons && o.width % 2 == 0,
            "sparse_memory: product keys need an even width and a square number of neurons, got {} "
            "and {}",
            o.width, o.neurons);
  }
  if (o.selector == Selector::random_hash)
    require(o.ids > 0 && o.ngram > 0,
            "sparse_memory: ids and ngram must be positive, got {} and {}", o.ids, o.ngram);
  const bool scored = o.selector == Selector::avg_k || o.selector == Selector::switched ||
                      o.selector == Selector::noisy_top_k;
  require(scored || o.gate == BlockGate::own || o.gate == BlockGate::none,
          "sparse_memory: selector {} has no scores of blocks for gate {}", name, to_name(o.gate));
}

SparseMemoryOptions checked(SparseMemoryOptions o) {
  if (o.outputs == 0) o.outputs = o.width;
  require(
      o.width > 0 && o.outputs > 0 && o.neurons > 0 && o.block > 0,
      "sparse_memory: width, outputs, neurons and block must be positive, got {}, {}, {} and {}",
      o.width, o.outputs, o.neurons, o.block);
  require(o.neurons % o.block == 0, "sparse_memory: {} neurons do not divide into blocks of {}",
          o.neurons, o.block);
  require(o.active_blocks > 0 && o.active_blocks <= o.neurons / o.block,
          "sparse_memory: active_blocks is {}, expected 1 to {} (blocks)", o.active_blocks,
          o.neurons / o.block);
  require(o.shared >= 0 && o.layers > 0 && o.deviation >= 0 && o.capacity >= 0 && o.tie_noise >= 0,
          "sparse_memory: shared, deviation, capacity and tie_noise must not be negative, and "
          "layers positive");
  check_selector(o);
  return o;
}

}  // namespace

SparseMemoryImpl::SparseMemoryImpl(const SparseMemoryOptions& o) : options(checked(o)) {
  const auto& p = options;
  const double spread = p.deviation / std::sqrt(2.0 * static_cast<double>(p.layers));
  const auto rows = [&](const char* name, torch::IntArrayRef sizes, int64_t fan_in,
                        double deviation) {
    return register_parameter(name, p.deviation > 0 ? torch::randn(sizes) * deviation
                                                    : init::fan_in_uniform(sizes, fan_in));
  };
  const auto bias = [&](const char* name, torch::IntArrayRef sizes, int64_t fan_in) {
    return register_parameter(
        name, p.deviation > 0 ? torch::zeros(sizes) : init::fan_in_uniform(sizes, fan_in));
  };
  if (p.selector == Selector::low_rank) {
    // Keys U Dᵀ whose elements have the deviation that full keys would start with.
    const double part = std::sqrt(p.deviation / std::sqrt(static_cast<double>(p.rank)));
    down = rows("down", {p.width, p.rank}, p.width, part);
    up = rows("up", {p.neurons, p.rank}, p.rank, part);
  } else if (p.selector == Selector::product_key) {
    sub_keys = rows("sub_keys", {2, square_root(p.neurons), p.width / 2}, p.width, p.deviation);
  } else {
    key = rows("key", {p.neurons, p.width}, p.width, p.deviation);
  }
  const int64_t summed = p.block * p.active_blocks;
  value = rows("value", {p.neurons, p.outputs}, summed, spread);
  if (p.bias) {
    bias_key = bias("bias_key", {p.neurons}, p.width);
    bias_value = bias("bias_value", {blocks(), p.outputs}, summed);
  }
  if (p.selector == Selector::switched || p.selector == Selector::noisy_top_k)
    gate = rows("gate", {blocks(), p.width}, p.width, p.deviation);
  if (p.selector == Selector::noisy_top_k && p.noise)
    noise = register_parameter("noise", torch::zeros({blocks(), p.width}));
  if (p.selector == Selector::random_hash)
    table =
        register_buffer("table", routing::random_table(p.ids, blocks(), p.active_blocks, p.seed));
  if (p.shared == 0) return;
  shared_key = rows("shared_key", {p.shared, p.width}, p.width, p.deviation);
  shared_value = rows("shared_value", {p.shared, p.outputs}, p.shared, spread);
  if (!p.bias) return;
  shared_bias_key = bias("shared_bias_key", {p.shared}, p.width);
  shared_bias_value = bias("shared_bias_value", {p.outputs}, p.shared);
}

bool SparseMemoryImpl::chooses_cells() const { return cell_selector(options.selector); }

void SparseMemoryImpl::prepare() {
  const torch::NoGradGuard no_grad;
  if (options.selector == Selector::avg_k) means_ = routing::mean_keys(key, options.block).clone();
}

torch::Tensor SparseMemoryImpl::block_scores(const torch::Tensor& rows) const {
  if (gate.defined()) return torch::linear(rows, gate);
  const bool kept = means_.defined() && !is_training();
  return torch::linear(rows, kept ? means_ : routing::mean_keys(key, options.block));
}

torch::Tensor SparseMemoryImpl::cell_scores(const torch::Tensor& rows) const {
  const auto& b = bias_key;
  if (options.selector == Selector::low_rank) return torch::linear(rows.mm(down), up, b);
  if (options.selector == Selector::vanilla) return torch::linear(rows, key, b);
  const int64_t half = options.width / 2;
  const auto first = torch::linear(rows.narrow(1, 0, half), sub_keys[0]),
             second = torch::linear(rows.narrow(1, half, half), sub_keys[1]);
  const auto sums = (first.unsqueeze(2) + second.unsqueeze(1)).flatten(1);
  return b.defined() ? sums + b : sums;
}

routing::Selection SparseMemoryImpl::select(const torch::Tensor& rows,
                                            const torch::Tensor& ids) const {
  const int64_t k = options.active_blocks;
  if (chooses_cells()) {
    const torch::NoGradGuard no_grad;
    return routing::top(cell_scores(rows), k);
  }
  if (options.selector == Selector::random_hash) {
    require(ids.defined(), "sparse_memory: selector random_hash needs the input ids");
    const auto at = routing::bucket(ids, options.ngram, options.ids).flatten();
    require(at.numel() == rows.size(0), "sparse_memory: {} ids for {} rows of x", at.numel(),
            rows.size(0));
    if (at.numel() > 0)
      require(at.min().item<int64_t>() >= 0 && at.max().item<int64_t>() < options.ids,
              "sparse_memory: ids hold {}, expected 0 to {} (option ids)",
              at.min().item<int64_t>() < 0 ? at.min().item<int64_t>() : at.max().item<int64_t>(),
              options.ids - 1);
    return {table.index_select(0, at), {}, {}};
  }
  const auto scores = block_scores(rows);
  routing::Selection out;
  if (options.selector == Selector::switched) {
    out = routing::switched(scores, is_training() ? options.capacity : 0, options.auxiliary);
  } else if (options.selector == Selector::noisy_top_k) {
    torch::Tensor deviation;
    if (noise.defined() && is_training())
      deviation = torch::softplus(torch::linear(rows, noise)) + 1e-2;
    out = routing::noisy_top(scores, deviation, k, options.importance, options.load);
  } else {
    const bool jitter = options.tie_noise > 0 && is_training();
    out = routing::top(jitter ? scores + torch::randn_like(scores) * options.tie_noise : scores, k);
  }
  if (options.gate == BlockGate::none) out.weights.reset();
  if (options.gate == BlockGate::softmax)
    out.weights = torch::softmax(scores, -1).gather(1, out.blocks);
  if (options.gate == BlockGate::sigmoid)
    out.weights = torch::sigmoid(scores.gather(1, out.blocks));
  return out;
}

torch::Tensor SparseMemoryImpl::masked(const torch::Tensor& rows,
                                       const routing::Selection& chosen) const {
  const auto one =
      chosen.weights.defined() ? chosen.weights : torch::ones_like(chosen.blocks, rows.options());
  const auto mask =
      torch::zeros({rows.size(0), blocks()}, rows.options()).scatter(1, chosen.blocks, one);
  const auto fired = activate(options.law, torch::linear(rows, key, bias_key));
  const auto y =
      (fired.view({-1, blocks(), options.block}) * mask.unsqueeze(-1)).flatten(1).mm(value);
  return bias_value.defined() ? y + mask.mm(bias_value) : y;
}

torch::Tensor SparseMemoryImpl::gathered(const torch::Tensor& rows,
                                         const routing::Selection& chosen) const {
  const auto& p = options;
  const auto flat = chosen.blocks.flatten();
  const auto pick = [&](const torch::Tensor& from, int64_t last) {
    return from.view({blocks(), -1}).index_select(0, flat).view({rows.size(0), -1, last});
  };
  auto heard = pick(key, p.width).matmul(rows.unsqueeze(-1)).squeeze(-1);  // [rows, cells read]
  if (p.bias) heard = heard + pick(bias_key, 1).squeeze(-1);
  auto fired = activate(p.law, heard).view({rows.size(0), p.active_blocks, p.block});
  if (chosen.weights.defined()) fired = fired * chosen.weights.unsqueeze(-1);
  auto y = fired.flatten(1).unsqueeze(1).matmul(pick(value, p.outputs)).squeeze(1);
  if (!p.bias) return y;
  const auto written = bias_value.index_select(0, flat).view({rows.size(0), p.active_blocks, -1});
  return y + (chosen.weights.defined() ? written * chosen.weights.unsqueeze(-1) : written).sum(1);
}

torch::Tensor SparseMemoryImpl::grouped(const torch::Tensor& rows,
                                        const routing::Selection& chosen) const {
  const auto& p = options;
  const ByGroup sorted(chosen.blocks.flatten(), blocks());
  // unbind: one stacked gradient for all blocks instead of a full-sized one for each.
  const auto keys = key.view({blocks(), p.block, p.width}).unbind(0),
             values = value.view({blocks(), p.block, p.outputs}).unbind(0);
  std::vector<torch::Tensor> biases, ends, parts;
  if (p.bias) biases = bias_key.view({blocks(), p.block}).unbind(0), ends = bias_value.unbind(0);
  const auto row = torch::floor_divide(sorted.order, p.active_blocks);
  for (const auto& [group, begin, count] : sorted.runs) {
    const auto j = static_cast<size_t>(group);
    const auto heard = torch::linear(rows.index_select(0, row.narrow(0, begin, count)), keys[j],
                                     p.bias ? biases[j] : torch::Tensor());
    const auto part = activate(p.law, heard).mm(values[j]);
    parts.push_back(p.bias ? part + ends[j] : part);
  }
  auto y = torch::cat(parts).index_select(0, sorted.back).view({rows.size(0), p.active_blocks, -1});
  if (chosen.weights.defined()) y = y * chosen.weights.unsqueeze(-1);
  return y.sum(1);
}

torch::Tensor SparseMemoryImpl::cells(const torch::Tensor& rows,
                                      const routing::Selection& chosen) const {
  const auto fired = activate(options.law, cell_scores(rows).gather(1, chosen.blocks));
  const bool few = options.path == MemoryPath::gather ||
                   (options.path == MemoryPath::automatic && rows.size(0) <= 8);
  const auto flat = chosen.blocks.flatten();
  const auto sum = [&](const torch::Tensor& a, const torch::Tensor& from) {
    if (!few)
      return torch::zeros({rows.size(0), options.neurons}, rows.options())
          .scatter(1, chosen.blocks, a)
          .mm(from);
    const auto picked = from.index_select(0, flat).view({rows.size(0), options.active_blocks, -1});
    return a.unsqueeze(1).matmul(picked).squeeze(1);
  };
  const auto y = sum(fired, value);
  return options.bias ? y + sum(torch::ones_like(fired), bias_value) : y;
}

torch::Tensor SparseMemoryImpl::read(const torch::Tensor& rows,
                                     const routing::Selection& chosen) const {
  if (rows.size(0) == 0) return torch::zeros({0, options.outputs}, rows.options());
  if (chooses_cells()) return cells(rows, chosen);
  switch (options.path) {
    case MemoryPath::masked:
      return masked(rows, chosen);
    case MemoryPath::gather:
      return gathered(rows, chosen);
    case MemoryPath::grouped:
      return grouped(rows, chosen);
    case MemoryPath::automatic:
      break;
  }
  if (options.block >= 32) return grouped(rows, chosen);
  return rows.size(0) <= 8 ? gathered(rows, chosen) : masked(rows, chosen);
}

std::tuple<torch::Tensor, torch::Tensor> SparseMemoryImpl::forward(const torch::Tensor& x,
                                                                   const torch::Tensor& ids) {
  require(x.dim() > 0 && x.size(-1) == options.width,
          "sparse_memory: x is {}, expected [..., width] with width = {}", shape_text(x.sizes()),
          options.width);
  if (is_training()) means_.reset();
  const auto rows = x.reshape({-1, options.width});
  const auto chosen = select(rows, ids);
  auto y = read(rows, chosen);
  if (options.shared > 0) {
    const auto fired = activate(options.law, torch::linear(rows, shared_key, shared_bias_key));
    y = y + torch::linear(fired, shared_value.t(), shared_bias_value);
  }
  auto sizes = x.sizes().vec();
  sizes.back() = options.outputs;
  torch::Tensor loss;
  if (options.losses) loss = chosen.loss.defined() ? chosen.loss : torch::zeros({}, x.options());
  return {y.reshape(sizes), loss};
}

MemoryCost cost_of(const SparseMemoryOptions& options) {
  const auto o = checked(options);
  const int64_t n = o.neurons / o.block, cells = o.block * o.active_blocks;
  MemoryCost c;
  int64_t keys = o.neurons * o.width, read_keys = cells * o.width, selector_weights = 0;
  c.memory = cells * (o.width + o.outputs) + o.shared * (o.width + o.outputs);
  if (o.selector == Selector::avg_k) c.selector = n * o.width;
  if (o.selector == Selector::switched || o.selector == Selector::noisy_top_k)
    c.selector = selector_weights = n * o.width;
  if (o.selector == Selector::vanilla) c.selector = (o.neurons - cells) * o.width, read_keys = keys;
  if (o.selector == Selector::low_rank) {
    keys = read_keys = c.selector = o.rank * (o.width + o.neurons);
    c.memory -= cells * o.width;  // the scores are what the cells hear
  }
  if (o.selector == Selector::product_key) {
    keys = read_keys = c.selector = square_root(o.neurons) * o.width;
    c.memory -= cells * o.width;
  }
  if (o.selector == Selector::avg_k) selector_weights = n * o.width;  // kept means
  const int64_t biases = o.bias ? o.neurons + n * o.outputs : 0;
  const int64_t read_biases = o.bias ? cells + o.active_blocks * o.outputs : 0;
  const int64_t shared =
      o.shared * (o.width + o.outputs) + (o.bias && o.shared ? o.shared + o.outputs : 0);
  const bool stored_selector = o.selector != Selector::avg_k;  // its means come from the keys
  c.stored =
      keys + o.neurons * o.outputs + biases + shared + (stored_selector ? selector_weights : 0);
  if (o.selector == Selector::noisy_top_k && o.noise) c.stored += n * o.width;
  c.active = read_keys + cells * o.outputs + read_biases + shared + selector_weights;
  return c;
}

namespace {
const auto registered_sparse_memory = layers::add<SparseMemory>(
    "sparse_memory",
    "feed-forward memory read in blocks: Avg-K, VanillaM, LoRKM, PKM, hash, Switch, noisy top-k "
    "experts",
    {.example = {.width = 16, .neurons = 64, .block = 8, .active_blocks = 2},
     .inputs = {{"x", "[..., width]"},
                {.name = "ids", .shape = "[...]", .below = "vocabulary", .optional = true}},
     .outputs = {{"y", "[..., outputs]"}, {"loss", "[]"}}});
}  // namespace
}  // namespace cajal
