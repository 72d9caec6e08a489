#include "cajal/atlas/correlate.h"

#include <algorithm>
#include <cmath>

#include "cajal/atlas/measure.h"
#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/kernels/columns.h"

namespace cajal::atlas {
namespace {

constexpr int64_t kPiece = CrossProducts::kRows;  // tokens that are centred at a time

int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

torch::Tensor doubles(torch::IntArrayRef shape) { return torch::zeros(shape, torch::kDouble); }

torch::Tensor safe_inverse(const torch::Tensor& deviation) {
  return torch::where(deviation > 0, 1 / deviation, torch::zeros_like(deviation));
}

}  // namespace

Pearson::Pearson(int64_t a, int64_t b, std::vector<std::pair<int64_t, int64_t>> layers_b,
                 bool within, Precision precision)
    : products_(precision),
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
  const auto add = [&](const ColumnTable& x, const ColumnTable& y, int64_t rows,
                       torch::Tensor& to) {
    products_.add(x, y, rows, to.data_ptr<double>(), to.size(1), threads_);
  };
  for (int64_t begin = 0; begin < a.size(0); begin += kPiece) {
    const auto count = std::min(kPiece, a.size(0) - begin);
    centre(a.narrow(0, begin, count), shift_a_, centred_a_, sum_a_, square_a_);
    centre(b.narrow(0, begin, count), shift_b_, centred_b_, sum_b_, square_b_);
    add(centred_a_.table(0, a.size(1)), centred_b_.table(0, b.size(1)), count, cross_);
    for (size_t l = 0; l < within_.size(); ++l) {
      const auto part = centred_b_.table(layers_[l].first, layers_[l].second);
      add(part, part, count, within_[l]);
    }
    multiplications_ += static_cast<double>(count) * static_cast<double>(a.size(1) * b.size(1));
    tokens_ += count;
  }
}

ColumnTable Pearson::Centred::table(int64_t begin, int64_t end) const {
  return {values.data_ptr<float>() + begin, end - begin, values.size(1)};
}

void Pearson::centre(const torch::Tensor& x, const torch::Tensor& shift, Centred& out,
                     torch::Tensor& sum, torch::Tensor& square) {
  // 16 columns more, as a layer may begin anywhere.
  if (!out.values.defined())
    out.values = torch::zeros({kPiece, round_up(x.size(1), 16) + 16}, torch::kFloat);
  const auto rows = x.stride(1) == 1 ? x : x.contiguous();
  centre_columns(rows.data_ptr<float>(), rows.stride(0), shift.data_ptr<float>(), x.size(0),
                 x.size(1), out.values.data_ptr<float>(), out.values.size(1),
                 sum.data_ptr<double>(), square.data_ptr<double>(), threads_);
  out.values.slice(0, x.size(0), round_up(x.size(0), 32)).zero_();
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
