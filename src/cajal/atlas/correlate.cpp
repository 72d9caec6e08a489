#include "cajal/atlas/correlate.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "cajal/atlas/measure.h"
#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/kernels/columns.h"

namespace cajal::atlas {
namespace {

// Tokens of one fp32 product: long enough that adding it up in fp64 costs little beside it, short
// enough that its rounding stays near 1e-7.
constexpr int64_t kPiece = 4096;
constexpr int64_t kSeries = 1536;  // series of a tile, whose product of 9 MB stays in the cache

torch::Tensor doubles(torch::IntArrayRef shape) { return torch::zeros(shape, torch::kDouble); }

torch::Tensor safe_inverse(const torch::Tensor& deviation) {
  return torch::where(deviation > 0, 1 / deviation, torch::zeros_like(deviation));
}

}  // namespace

Pearson::Pearson(int64_t a, int64_t b, std::vector<std::pair<int64_t, int64_t>> layers_b,
                 bool within, Precision precision)
    : precision_(precision),
      layers_(std::move(layers_b)),
      sum_a_(doubles({a})),
      sum_b_(doubles({b})),
      square_a_(doubles({a})),
      square_b_(doubles({b})),
      cross_(doubles({a, b})) {
  for (const auto& [begin, end] : layers_) {
    require(begin >= 0 && begin < end && end <= b, "correlation: layer of series {} to {} of {}",
            begin, end, b);
    if (within) within_.push_back(doubles({end - begin, end - begin}));
  }
}

void Pearson::add(const torch::Tensor& a, const torch::Tensor& b) {
  require(a.dim() == 2 && b.dim() == 2 && a.size(0) == b.size(0) && a.size(1) == sum_a_.size(0) &&
              b.size(1) == sum_b_.size(0),
          "correlation: {} and {}, expected [tokens, {}] and [tokens, {}]", shape_text(a.sizes()),
          shape_text(b.sizes()), sum_a_.size(0), sum_b_.size(0));
  if (!shift_a_.defined()) shift_a_ = a.mean(0), shift_b_ = b.mean(0);
  for (int64_t begin = 0; begin < a.size(0); begin += kPiece) {
    const auto count = std::min(kPiece, a.size(0) - begin);
    auto x = centred(a.narrow(0, begin, count), shift_a_, sum_a_, square_a_);
    auto y = centred(b.narrow(0, begin, count), shift_b_, sum_b_, square_b_);
    if (precision_ == Precision::bf16)
      x = x.t().contiguous(), y = y.t().contiguous();
    else
      x = x.t(), y = y.t();
    add_product(cross_, x, y);
    for (size_t l = 0; l < within_.size(); ++l) {
      const auto part = y.slice(0, layers_[l].first, layers_[l].second);
      add_product(within_[l], part, part);
    }
    multiplications_ += static_cast<double>(count) * static_cast<double>(x.size(0) * y.size(0));
    tokens_ += count;
  }
}

torch::Tensor Pearson::centred(const torch::Tensor& x, const torch::Tensor& shift,
                               torch::Tensor& sum, torch::Tensor& square) {
  const auto rows = x.stride(1) == 1 ? x : x.contiguous();
  auto out = torch::empty(x.sizes(), torch::kFloat);
  centre_columns(rows.data_ptr<float>(), rows.stride(0), shift.data_ptr<float>(), x.size(0),
                 x.size(1), out.data_ptr<float>(), sum.data_ptr<double>(),
                 square.data_ptr<double>(), threads_);
  return out;
}

// total += a bᵀ in tiles; a and b [series, tokens].
void Pearson::add_product(torch::Tensor& total, const torch::Tensor& a, const torch::Tensor& b) {
  std::optional<PackedActivations> packed;
  if (precision_ == Precision::bf16)
    packed.emplace(a.data_ptr<float>(), a.size(0), a.size(1), threads_, precision_);
  for (int64_t j = 0; j < b.size(0); j += kSeries) {
    const auto columns = std::min(kSeries, b.size(0) - j);
    if (packed) {
      const auto part = b.narrow(0, j, columns);
      auto tile = torch::empty({a.size(0), columns}, torch::kFloat);
      const auto matrix =
          row_matrix(Format::f32, part.data_ptr<float>(), columns, b.size(1), "correlation");
      multiply_many(matrix, RowSet::range(0, columns), *packed, tile.data_ptr<float>(), threads_);
      total.narrow(1, j, columns).add_(tile);
      continue;
    }
    for (int64_t i = 0; i < a.size(0); i += kSeries) {
      const auto rows = std::min(kSeries, a.size(0) - i);
      const auto tile = torch::mm(a.narrow(0, i, rows), b.narrow(0, j, columns).t());
      total.narrow(0, i, rows).narrow(1, j, columns).add_(tile);
    }
  }
}

torch::Tensor Pearson::deviation(bool of_a) const {
  const auto& sum = of_a ? sum_a_ : sum_b_;
  const auto& square = of_a ? square_a_ : square_b_;
  const auto centred = square - sum.square() / static_cast<double>(tokens_);
  // What rounding alone leaves over of a constant series is no variance.
  return torch::where(centred > 1e-10 * square, centred, torch::zeros_like(centred)).sqrt();
}

torch::Tensor Pearson::rho(int64_t begin, int64_t end) const {
  require(tokens_ > 0, "correlation: no tokens yet");
  const auto rows = [&](const torch::Tensor& t) { return t.slice(0, begin, end); };
  const auto covariance =
      rows(cross_) - torch::outer(rows(sum_a_), sum_b_) / static_cast<double>(tokens_);
  return covariance * safe_inverse(rows(deviation(true))).unsqueeze(1) *
         safe_inverse(deviation(false)).unsqueeze(0);
}

torch::Tensor Pearson::turned(int64_t layer, const torch::Tensor& turn) const {
  require(layer >= 0 && layer < std::ssize(within_),
          "correlation: nothing was kept within layer {}", layer);
  const auto n = static_cast<double>(tokens_);
  const auto [begin, end] = layers_[layer];
  const auto r = turn.to(torch::kDouble), sum = sum_b_.slice(0, begin, end);
  const auto covariance = cross_.slice(1, begin, end) - torch::outer(sum_a_, sum) / n;
  const auto inner = within_[layer] - torch::outer(sum, sum) / n;
  const auto variance = (torch::mm(r, inner) * r).sum(1).clamp_min(0);
  return torch::mm(covariance, r.t()) * safe_inverse(deviation(true)).unsqueeze(1) *
         safe_inverse(variance.sqrt()).unsqueeze(0);
}

torch::Tensor random_turn(Basis basis, int64_t m, uint64_t seed) {
  if (basis == Basis::own) return torch::eye(m, torch::kDouble);
  Random random(seed, 77);
  auto turn = torch::empty({m, m}, torch::kDouble);
  for (auto *x = turn.data_ptr<double>(), *end = x + m * m; x != end; ++x) *x = random.normal();
  if (basis == Basis::gaussian) return turn / turn.norm(2, 1, /*keepdim=*/true);
  auto [q, r] = torch::linalg_qr(turn);
  return q * r.diagonal().sign();  // uniform over all turns
}

void each_activation(lm::Transformer& model, std::span<const int32_t> ids, int64_t context,
                     int64_t batch,
                     const std::function<void(int64_t first, const torch::Tensor&)>& take) {
  const torch::NoGradGuard no_grad;
  const auto& config = model->config;
  const int64_t begins = config.begin_id >= 0, step = context - begins;
  require(step >= 1 && context <= config.context, "context {}: the model takes 2 to {} tokens",
          context, config.context);
  std::vector<torch::Tensor> layers(model->blocks.size());
  lm::Hooks hooks;
  for (size_t l = 0; l < layers.size(); ++l)
    hooks.add(fmt::format("blocks.{}.mlp.hook_post", l),
              [&, l](std::string_view, const torch::Tensor& value) {
                auto rows = begins ? value.slice(1, 1) : value;
                if (const auto& ffn = model->blocks[l].ffn; ffn.order.defined())
                  rows = rows.index_select(-1, ffn.order.argsort());
                layers[l] = rows.reshape({-1, rows.size(-1)}).to(torch::kCPU, torch::kFloat);
                return torch::Tensor();
              });
  hooks.stop_after(fmt::format("blocks.{}.mlp.hook_post", layers.size() - 1));
  lm::Pass pass;
  pass.hooks = &hooks;
  const auto total = std::ssize(ids);
  for (int64_t first = 0; first < total;) {
    const auto count = std::max<int64_t>(1, std::min(batch, (total - first) / step));
    const auto length = std::min(step, total - first);
    model->forward(windows(config, ids.subspan(first, count * length), length), pass);
    take(first, torch::cat(layers, 1));
    first += count * length;
  }
}

namespace {

std::vector<std::pair<int64_t, int64_t>> ranges(const lm::Transformer& model) {
  std::vector<std::pair<int64_t, int64_t>> out;
  int64_t at = 0;
  for (const auto& block : model->blocks) {
    int64_t neurons = 0;
    for (const auto& group : block.ffn.groups) neurons += group.neurons();
    out.emplace_back(at, at + neurons);
    at += neurons;
  }
  return out;
}

// Takes the rows [begin, end) of `a` out of the sums.
void reduce(const Pearson& sums, const std::vector<std::pair<int64_t, int64_t>>& layers,
            const CorrelateOptions& options, int64_t begin, int64_t rows, Matches& out) {
  constexpr int64_t slice = 256;
  for (int64_t i = 0; i < rows; i += slice) {
    const auto count = std::min(slice, rows - i);
    const auto rho = sums.rho(i, i + count).contiguous();
    const auto [values, places] = rho.topk(out.kept, 1);
    const auto bins = ((rho + 1) * 50).floor().clamp(0, 99).to(torch::kLong).reshape({-1});
    const auto hits = bins.bincount({}, 100);
    for (int64_t k = 0; k < 100; ++k) out.histogram[k] += hits.data_ptr<int64_t>()[k];
    const auto mean = rho.mean(1), spread = rho.std(1, /*unbiased=*/false);
    for (int64_t r = 0; r < count; ++r) {
      const auto at = begin + i + r;
      for (int64_t k = 0; k < out.kept; ++k)
        out.best[at * out.kept + k] = {places[r][k].item<int64_t>(), values[r][k].item<float>()};
      out.mean[at] = mean[r].item<double>(), out.spread[at] = spread[r].item<double>();
    }
  }
  for (size_t l = 0; l < layers.size(); ++l) {
    const auto turn =
        random_turn(options.turned, layers[l].second - layers[l].first, options.seed + 1000 * l);
    const auto most = std::get<0>(sums.turned(static_cast<int64_t>(l), turn).max(1)).contiguous();
    for (int64_t r = 0; r < rows; ++r)
      out.turned[begin + r] = std::max(out.turned[begin + r], most.data_ptr<double>()[r]);
  }
}

}  // namespace

Matches correlate(lm::Transformer& a, lm::Transformer& b, std::span<const int32_t> ids,
                  const CorrelateOptions& options, Progress* progress) {
  const auto &ca = a->config, &cb = b->config;
  require(ca.vocabulary == cb.vocabulary,
          "correlation: models of {} and {} tokens do not read a text alike", ca.vocabulary,
          cb.vocabulary);
  require((ca.begin_id >= 0) == (cb.begin_id >= 0),
          "correlation: only one of the models begins texts with a token of its own");
  require(options.memory > 0 && options.batch > 0 && options.kept > 0 && ids.size() >= 2,
          "correlation: memory, batch and kept must be positive and the text not empty");
  const auto context =
      options.context > 0 ? options.context : std::min<int64_t>({512, ca.context, cb.context});
  const auto layers_a = ranges(a), layers_b = ranges(b);
  const auto na = layers_a.back().second, nb = layers_b.back().second;
  Matches out;
  out.kept = std::min(options.kept, nb);
  out.best.resize(static_cast<size_t>(na * out.kept));
  out.turned.assign(static_cast<size_t>(na), -1);
  out.mean.resize(out.turned.size()), out.spread.resize(out.turned.size());
  out.histogram.resize(100);
  const auto rows = std::clamp<int64_t>(options.memory / (8 * nb), 1, na);
  for (int64_t begin = 0; begin < na; begin += rows) {
    const auto end = std::min(na, begin + rows);
    Pearson sums(end - begin, nb, layers_b, /*within=*/true, options.precision);
    // Both models read the same batches; b's are made when a's come.
    torch::Tensor of_b;
    each_activation(a, ids, context, options.batch, [&](int64_t first, const torch::Tensor& x) {
      each_activation(b, ids.subspan(first, x.size(0)), context, options.batch,
                      [&](int64_t, const torch::Tensor& y) { of_b = y; });
      if (options.shuffle) of_b = of_b.index_select(0, torch::randperm(of_b.size(0), torch::kLong));
      sums.add(x.slice(1, begin, end), of_b);
      if (progress) progress->add(x.size(0));
    });
    reduce(sums, layers_b, options, begin, end - begin, out);
  }
  return out;
}

}  // namespace cajal::atlas
