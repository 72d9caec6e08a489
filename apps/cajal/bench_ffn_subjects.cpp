#include "bench_ffn_subjects.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "cajal/core/random.h"
#include "cajal/core/torch.h"
#include "cajal/engine/feed_forward.h"

namespace cajal::bench_ffn {
namespace {

using engine::Form;
using engine::NeuronBank;

std::vector<float> normals(int64_t count, Random& random, float scale = 1) {
  std::vector<float> out(count);
  for (auto& value : out) value = scale * static_cast<float>(random.normal());
  return out;
}

/// `share` of `count` things, at random, ascending.
std::vector<int32_t> some(int64_t count, double share, Random& random) {
  std::vector<int32_t> all(count);
  std::iota(all.begin(), all.end(), 0);
  for (int64_t i = count - 1; i > 0; --i) std::swap(all[i], all[random.below(i + 1)]);
  all.resize(std::max<int64_t>(1, std::llround(share * static_cast<double>(count))));
  std::sort(all.begin(), all.end());
  return all;
}

/// Rows in a format, the same 64 random ones over and over: speed does not depend on them.
struct Rows {
  Rows(Format format, int64_t rows, int64_t width, Random& random) {
    const int64_t size = row_bytes(format, width);
    bytes.resize(rows * size);
    for (int64_t r = 0; r < std::min<int64_t>(64, rows); ++r)
      encode_row(format, normals(width, random, 0.02f).data(), width, bytes.data() + r * size);
    for (int64_t r = 64; r < rows; ++r)
      std::copy_n(bytes.begin() + r % 64 * size, size, bytes.begin() + r * size);
    view = row_matrix(format, bytes.data(), rows, width, "bench");
  }
  std::vector<uint8_t> bytes;
  RowMatrix view;
};

engine::BankPlan plan_for(SelectorKind selector, bool gated) {
  engine::BankPlan plan;
  if (selector == SelectorKind::cats || selector == SelectorKind::silent ||
      selector == SelectorKind::teal)
    plan.value = Form::neurons;
  if (selector == SelectorKind::cats && gated) plan.key = Form::neurons;
  if (selector == SelectorKind::teal) plan.key = plan.gate = Form::inputs;
  return plan;
}

/// Fixed groups that are other ones in each pass.
engine::Selector rotating_groups(int64_t groups, double share, Random& random) {
  auto sets = std::make_shared<std::vector<std::vector<int32_t>>>();
  for (int i = 0; i < 32; ++i) sets->push_back(some(groups, share, random));
  engine::Selector selector = engine::select_groups({});
  selector.choose = [sets, turn = std::make_shared<size_t>(0)](
                        const float*, int64_t batch, ThreadPool&, engine::Selection& out) {
    const auto& of = (*sets)[(*turn)++ % sets->size()];
    out.start(engine::Selection::Unit::groups);
    for (int64_t b = 0; b < batch; ++b) {
      out.chosen.insert(out.chosen.end(), of.begin(), of.end());
      out.end_token();
    }
  };
  return selector;
}

/// A predictor whose matrices are read and say nothing, and whose shifts choose the groups.
engine::Selector set_predictor(SelectorKind kind, const NeuronBank& bank, double share,
                               int64_t rank, Random& random) {
  const Format format = rank % 32 == 0 && bank.width() % 32 == 0 ? Format::q8_0 : Format::bf16;
  const std::vector<float> zeros(std::max(rank * bank.width(), bank.neurons() * rank));
  Rows down(format, rank, bank.width(), random), up(format, bank.neurons(), rank, random);
  encode_row(format, zeros.data(), rank * bank.width(), down.bytes.data());
  engine::Predictor predictor;
  predictor.down = down.view, predictor.up = up.view;
  predictor.law = kind == SelectorKind::mlp ? Law::relu : Law::identity;
  predictor.shift.assign(bank.neurons(), -1.0f);
  for (const int32_t group : some(bank.groups(), share, random))
    for (int64_t i = 0; i < kTileRows && kTileRows * group + i < bank.neurons(); ++i)
      predictor.shift[kTileRows * group + i] = 1;
  return engine::predict(predictor, bank, engine::Selection::Unit::groups);
}

/// A router to experts of 4 groups whose biases choose.
engine::Selector set_router(const NeuronBank& bank, double share, Random& random) {
  std::vector<int32_t> borders;
  for (int64_t group = 0; group < bank.groups(); group += 4)
    borders.push_back(static_cast<int32_t>(group));
  borders.push_back(static_cast<int32_t>(bank.groups()));
  const auto experts = static_cast<int64_t>(borders.size()) - 1;
  const Rows router(Format::bf16, experts, bank.width(), random);
  const auto chosen = some(experts, share, random);
  std::vector<float> bias(experts);
  for (const int32_t expert : chosen) bias[expert] = 1000;
  return engine::route({.first = router.view, .bias = bias}, borders,
                       static_cast<int64_t>(chosen.size()), bank);
}

/// Whether the biases of the neurons decide which are loud.
bool by_bias(SelectorKind kind) {
  return kind == SelectorKind::silent || kind == SelectorKind::cats || kind == SelectorKind::teal;
}

/// Banks of `memory` bytes or more.
std::vector<NeuronBank> random_banks(const Shape& shape, Format format, SelectorKind kind,
                                     double share, size_t memory) {
  Random random(7);
  const auto plan = plan_for(kind, shape.gated);
  const bool by_neuron = plan.value == Form::neurons;
  const Rows key(format, shape.neurons, shape.width, random);
  const Rows value(format, by_neuron ? shape.neurons : shape.width,
                   by_neuron ? shape.width : shape.neurons, random);
  std::vector<NeuronBank> banks;
  for (size_t bytes = 0; bytes < memory; bytes += banks.back().bytes()) {
    std::vector<float> bias;
    if (by_bias(kind)) {
      bias.assign(shape.neurons, -1000);
      for (const int32_t neuron : some(shape.neurons, share, random)) bias[neuron] = 1000;
    }
    engine::NeuronRows rows;
    rows.key = key.view;
    (by_neuron ? rows.value : rows.value_by_output) = value.view;
    if (shape.gated) rows.gate = key.view, rows.gate_bias = bias;
    if (!shape.gated) rows.key_bias = bias;
    banks.emplace_back(rows, shape.gated && !by_bias(kind) ? Law::silu : Law::relu, plan, "bench");
  }
  return banks;
}

engine::Selector selector_for(SelectorKind kind, const NeuronBank& bank, double share, int64_t rank,
                              Random& random) {
  switch (kind) {
    case SelectorKind::all:
      return engine::select_all();
    case SelectorKind::fixed:
      return rotating_groups(bank.groups(), share, random);
    case SelectorKind::silent:
      return engine::skip_silent();
    case SelectorKind::cats:
      return engine::threshold_gate(1);
    case SelectorKind::teal:
      return engine::threshold_inputs(1, 0);
    case SelectorKind::low_rank:
    case SelectorKind::mlp:
      return set_predictor(kind, bank, share, rank, random);
    case SelectorKind::router:
      return set_router(bank, share, random);
  }
  fail("a selector without a subject");
}

Subject subject_of(const Shape& shape, Format format, SelectorKind kind, double share,
                   const std::vector<NeuronBank>& banks, int64_t rank) {
  Random random(13);
  struct Layers {
    std::vector<engine::SparseFeedForward> of;
    std::vector<float> x, y;
    size_t turn = 0;
    engine::PassCount last;
  };
  const auto layers = std::make_shared<Layers>();
  layers->x = normals(shape.batch * shape.width, random);
  layers->y.resize(shape.batch * shape.width);
  if (kind == SelectorKind::teal) {  // the same loud inputs for every token
    const auto loud = some(shape.width, share, random);
    std::fill(layers->x.begin(), layers->x.end(), 0.0f);
    for (int64_t b = 0; b < shape.batch; ++b)
      for (const int32_t c : loud) layers->x[b * shape.width + c] = 3;
  }
  for (const auto& bank : banks)
    layers->of.emplace_back(bank, selector_for(kind, bank, share, rank, random));
  Subject subject;
  subject.what = share < 1 ? "engine " + to_name(kind) : "engine";
  subject.format = to_name(format);
  subject.share = share, subject.ideal = ideal_time(kind, shape.gated, share);
  subject.run = [layers, batch = shape.batch](ThreadPool& threads) {
    layers->last = layers->of[layers->turn++ % layers->of.size()].forward(
        layers->x.data(), batch, layers->y.data(), threads);
  };
  subject.bytes = [layers] { return static_cast<double>(layers->last.bytes); };
  return subject;
}

}  // namespace

double ideal_time(SelectorKind selector, bool gated, double share) {
  if (selector == SelectorKind::silent)  // all keys, and gates
    return ((gated ? 2 : 1) + share) / (gated ? 3 : 2);
  if (selector == SelectorKind::cats)  // all gates
    return gated ? (1 + 2 * share) / 3 : (1 + share) / 2;
  return share;
}

std::vector<Subject> engine_subjects(const Shape& shape, Format format, SelectorKind kind,
                                     const std::vector<double>& shares, size_t memory,
                                     int64_t rank) {
  const auto dense = random_banks(shape, format, SelectorKind::all, 1, memory);
  std::vector<Subject> subjects = {subject_of(shape, format, SelectorKind::all, 1, dense, rank)};
  for (const double share : shares) {
    if (share == 1) continue;
    // Where the choice lies in the selector the same layers serve every share.
    subjects.push_back(
        subject_of(shape, format, kind, share,
                   by_bias(kind) ? random_banks(shape, format, kind, share, memory) : dense, rank));
  }
  return subjects;
}

std::vector<Subject> torch_subjects(const Shape& shape, const std::vector<double>& shares,
                                    size_t memory, int threads) {
  struct Layers {
    std::vector<std::vector<torch::Tensor>> of;  // key, value and gate, [neurons, width] each
    torch::Tensor x;
    bool gated;
    size_t turn = 0;

    torch::Tensor forward(const torch::Tensor* chosen) {
      const auto& layer = of[turn++ % of.size()];
      const auto rows = [&](const torch::Tensor& matrix) {
        return chosen ? matrix.index_select(0, *chosen) : matrix;
      };
      auto a = torch::matmul(x, rows(layer[0]).t());
      if (gated) a = a * torch::silu(torch::matmul(x, rows(layer[2]).t()));
      if (!gated) a = torch::relu(a);
      return torch::matmul(a, rows(layer[1]));
    }
  };
  set_torch_threads(threads);
  const auto make = [&](torch::Dtype type) {
    const auto layers = std::make_shared<Layers>();
    layers->gated = shape.gated;
    layers->x = torch::randn({shape.batch, shape.width}).to(type);
    for (size_t bytes = 0; bytes < memory;) {
      std::vector<torch::Tensor> layer;
      for (int i = 0; i < (shape.gated ? 3 : 2); ++i) {
        layer.push_back(torch::full({shape.neurons, shape.width}, 0.01, type));
        bytes += layer.back().nbytes();
      }
      layers->of.push_back(std::move(layer));
    }
    return layers;
  };
  std::vector<Subject> subjects;
  const auto add = [&](const std::shared_ptr<Layers>& layers, const char* what, const char* type,
                       double share) {
    Random random(11);
    std::vector<torch::Tensor> sets;
    for (int i = 0; i < 32 && share < 1; ++i) {
      const auto rows = some(shape.neurons, share, random);
      sets.push_back(torch::tensor(std::vector<int64_t>(rows.begin(), rows.end())));
    }
    layers->forward(nullptr);  // libtorch's threads start before ours are pinned
    double bytes = 0;
    for (const auto& matrix : layers->of[0]) bytes += static_cast<double>(matrix.nbytes()) * share;
    subjects.push_back({what, type, share, share,
                        [layers, sets, turn = std::make_shared<size_t>(0)](ThreadPool&) {
                          const torch::NoGradGuard no_gradients;
                          layers->forward(sets.empty() ? nullptr : &sets[(*turn)++ % sets.size()]);
                        },
                        [bytes] { return bytes; }});
  };
  add(make(torch::kBFloat16), "libtorch", "bf16", 1);
  const auto floats = make(torch::kFloat);
  add(floats, "libtorch", "f32", 1);
  for (const double share : shares)
    if (share < 1) add(floats, "libtorch index_select", "f32", share);
  return subjects;
}

}  // namespace cajal::bench_ffn
