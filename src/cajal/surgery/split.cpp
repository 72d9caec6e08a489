#include "cajal/surgery/split.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "cajal/core/error.h"
#include "cajal/engine/names.h"

namespace cajal::surgery {
namespace {

// One row a neuron, whichever way the matrix lies.
torch::Tensor rows_of(const Matrix& matrix, bool neurons_are_outputs) {
  if (!matrix.defined()) return {};
  const auto dense = matrix.decoded();
  return (matrix.major() == Major::output) == neurons_are_outputs ? dense : dense.t();
}

torch::Tensor joined(const std::vector<torch::Tensor>& parts) {
  if (parts.empty() || !parts.front().defined()) return {};
  return parts.size() == 1 ? parts.front() : torch::cat(parts);
}

torch::Tensor index_of(const std::vector<int32_t>& order) {
  return torch::from_blob(const_cast<int32_t*>(order.data()), {std::ssize(order)}, torch::kInt)
      .clone();
}

torch::ScalarType dense_type(Format format) {
  switch (format) {
    case Format::f16:
      return torch::kHalf;
    case Format::bf16:
      return torch::kBFloat16;
    default:
      return torch::kFloat;
  }
}

Matrix matrix_of(const Storage& storage, const torch::Tensor& rows, Major major,
                 const torch::Tensor& moment) {
  // What meets a value is a neuron, a row: its matrix as a map has outputs for rows.
  if (storage.is_low_rank())
    return Matrix::dense(major == Major::output ? kept(storage, rows, moment)
                                                : kept(storage, rows.t(), moment).t().contiguous(),
                         major);
  const auto stored = encode(storage.format, rows);
  return is_quantised(storage.format) ? Matrix::packed(storage.format, stored, rows.size(1), major)
                                      : Matrix::dense(stored, major);
}

// Whether a layer cannot be written as its family writes it: groups, an order, quantised rows.
bool is_packed(const lm::FeedForward& ffn) {
  const auto quantised = [](const Matrix& m) { return m.defined() && is_quantised(m.format()); };
  const auto& group = ffn.groups.front();
  return ffn.groups.size() != 1 || ffn.order.defined() || quantised(group.key) ||
         quantised(group.gate) || quantised(group.value);
}

std::vector<lm::GroupLayout> layout_of(const lm::FeedForward& ffn) {
  std::vector<lm::GroupLayout> out;
  for (const auto& group : ffn.groups)
    out.push_back({group.neurons(), group.key.format(),
                   group.gate.defined() ? group.gate.format() : Format::f32, group.value.format()});
  return out;
}

// A single group of floats, its matrices lying as in the family's own files.
lm::FeedForward as_in_family(const lm::FeedForward& ffn, bool conv1d) {
  const auto turned = [](const Matrix& matrix, Major major) {
    if (!matrix.defined() || matrix.major() == major) return matrix;
    return Matrix::dense(matrix.stored().t().contiguous(), major);
  };
  auto out = ffn;
  auto& group = out.groups.front();
  const auto major = conv1d ? Major::input : Major::output;
  group.key = turned(group.key, major), group.gate = turned(group.gate, major);
  group.value = turned(group.value, major);
  return out;
}

// Biases of 0 where a family writes all of them or none.
void add_biases(std::vector<lm::FeedForward>& ffns, int64_t width) {
  for (auto& ffn : ffns) {
    if (!ffn.value_bias.defined()) ffn.value_bias = torch::zeros({width});
    for (auto& group : ffn.groups)
      for (auto* bias : {&group.key_bias, &group.gate_bias})
        if (!bias->defined() && (bias == &group.key_bias || group.gate.defined()))
          *bias = torch::zeros({group.neurons()});
  }
}

// What the dropped neurons wrote on average, sum of E[a_i] w_i.
torch::Tensor mean_output(const NeuronRows& dropped, const int32_t* neurons,
                          const atlas::LayerCensus& census) {
  auto means = torch::empty({dropped.neurons()});
  for (int64_t i = 0; i < dropped.neurons(); ++i)
    means.data_ptr<float>()[i] = static_cast<float>(census.mean(neurons[i]));
  return torch::mv(dropped.value.t(), means);
}

}  // namespace

torch::Tensor activations(const lm::Config& config, const NeuronRows& rows,
                          const torch::Tensor& x) {
  const auto heard = torch::linear(x, rows.key, rows.key_bias);
  return config.gated ? activate(config.law, torch::linear(x, rows.gate, rows.gate_bias)) * heard
                      : activate(config.law, heard);
}

NeuronRows NeuronRows::select(const std::vector<int32_t>& order) const {
  return order.empty() ? *this : pick(index_of(order));
}

NeuronRows NeuronRows::pick(const torch::Tensor& index) const {
  const auto rows = index.to(torch::kLong);
  const auto of = [&](const torch::Tensor& t) { return t.defined() ? t.index_select(0, rows) : t; };
  return {of(key), of(gate), of(value), of(key_bias), of(gate_bias)};
}

NeuronRows NeuronRows::slice(int64_t begin, int64_t end) const {
  const auto cut = [&](const torch::Tensor& t) { return t.defined() ? t.slice(0, begin, end) : t; };
  return {cut(key), cut(gate), cut(value), cut(key_bias), cut(gate_bias)};
}

NeuronRows neuron_rows(const lm::FeedForward& ffn) {
  std::vector<torch::Tensor> key, gate, value, key_bias, gate_bias;
  for (const auto& group : ffn.groups) {
    key.push_back(rows_of(group.key, true)), gate.push_back(rows_of(group.gate, true));
    value.push_back(rows_of(group.value, false));
    const auto wide = [](const torch::Tensor& t) { return t.defined() ? t.to(torch::kFloat) : t; };
    key_bias.push_back(wide(group.key_bias)), gate_bias.push_back(wide(group.gate_bias));
  }
  const NeuronRows stored{joined(key), joined(gate), joined(value), joined(key_bias),
                          joined(gate_bias)};
  return ffn.order.defined() ? stored.pick(ffn.order.argsort()) : stored;
}

torch::Tensor encode(Format format, const torch::Tensor& rows) {
  if (!is_quantised(format)) return rows.to(dense_type(format)).contiguous();
  const auto dense = rows.to(torch::kCPU, torch::kFloat).contiguous();
  const auto count = dense.size(0), columns = dense.size(1);
  require_row(format, columns, "split");
  const auto bytes = row_bytes(format, columns);
  auto stored = torch::empty({count, bytes}, torch::kByte);
  const auto* from = dense.data_ptr<float>();
  auto* to = stored.data_ptr<uint8_t>();
  at::parallel_for(0, count, 16, [&](int64_t begin, int64_t end) {
    for (auto r = begin; r < end; ++r)
      encode_row(format, from + r * columns, columns, to + r * bytes);
  });
  return stored;
}

torch::Tensor decode(Format format, const torch::Tensor& stored, int64_t columns) {
  if (!is_quantised(format)) return stored.to(torch::kFloat);
  const auto bytes = row_bytes(format, columns);
  require(stored.dim() == 2 && stored.size(1) == bytes,
          "decode: stored rows {}, expected {} bytes a row", shape_text(stored.sizes()), bytes);
  auto dense = torch::empty({stored.size(0), columns});
  const auto packed = stored.contiguous();
  const auto* from = packed.data_ptr<uint8_t>();
  auto* to = dense.data_ptr<float>();
  at::parallel_for(0, stored.size(0), 16, [&](int64_t begin, int64_t end) {
    for (auto r = begin; r < end; ++r)
      decode_row(format, from + r * bytes, columns, to + r * columns);
  });
  return dense;
}

torch::Tensor kept(const Storage& storage, const torch::Tensor& rows, const torch::Tensor& moment) {
  switch (storage.kind) {
    case Storage::Kind::drop:
      return torch::zeros_like(rows);
    case Storage::Kind::format:
      return decode(storage.format, encode(storage.format, rows), rows.size(1));
    case Storage::Kind::low_rank:
    case Storage::Kind::weighted_low_rank:
      break;
  }
  const bool weighted = storage.kind == Storage::Kind::weighted_low_rank;
  require(!weighted || moment.defined(), "{}: weighted by no text, expected its moments",
          storage.text());
  const auto [left, right] =
      low_rank(rows, storage.rank(rows.size(0), rows.size(1)), weighted ? moment : torch::Tensor());
  const auto factor = [&](const torch::Tensor& t) {
    return encode(storage.format, t).to(torch::kFloat);
  };
  return torch::matmul(factor(left), factor(right));
}

lm::FeedForward split(const lm::FeedForward& ffn, const LayerPlan& plan,
                      const atlas::LayerCensus& census, const Moments& moments) {
  const auto rows = neuron_rows(ffn).select(plan.order);
  auto together = moments.activation;
  if (together.defined() && !plan.order.empty()) {
    const auto order = index_of(plan.order).to(torch::kLong);
    together = together.index_select(0, order).index_select(1, order);
  }
  lm::FeedForward out;
  out.value_bias = ffn.value_bias;
  int64_t begin = 0;
  for (const auto& group : plan.groups) {
    const auto part = rows.slice(begin, begin + group.neurons);
    require(part.neurons() == group.neurons, "the plan has more neurons than the layer's {}",
            rows.neurons());
    if (group.key.kind == Storage::Kind::drop) {
      require(!plan.order.empty(), "a plan that drops neurons must list their order");
      const auto mean = mean_output(part, plan.order.data() + begin, census);
      out.value_bias = out.value_bias.defined() ? out.value_bias.to(torch::kFloat) + mean : mean;
    } else {
      lm::NeuronGroup kept_group;
      const auto end = begin + group.neurons;
      const auto own =
          together.defined() ? together.slice(0, begin, end).slice(1, begin, end) : together;
      const auto hears = [&](const torch::Tensor& part_rows) {
        return matrix_of(group.key, part_rows, Major::output, moments.input);
      };
      kept_group.key = hears(part.key);
      if (part.gate.defined()) kept_group.gate = hears(part.gate);
      kept_group.value = matrix_of(group.value, part.value, Major::input, own);
      kept_group.key_bias = part.key_bias, kept_group.gate_bias = part.gate_bias;
      out.groups.push_back(std::move(kept_group));
    }
    begin += group.neurons;
  }
  require(begin == rows.neurons(), "the plan has {} neurons, the layer {}", begin, rows.neurons());
  int64_t left = 0;
  for (const auto& group : out.groups) left += group.neurons();
  if (!plan.order.empty() && left == begin) out.order = index_of(plan.order);
  return out;
}

lm::FeedForward silence(const lm::FeedForward& ffn, const std::vector<int32_t>& neurons) {
  auto rows = neuron_rows(ffn);
  rows.value = rows.value.index_fill(0, index_of(neurons).to(torch::kLong), 0);
  lm::FeedForward out;
  out.value_bias = ffn.value_bias, out.experts = ffn.experts;
  out.groups.push_back({Matrix::dense(rows.key), Matrix(), Matrix::dense(rows.value, Major::input),
                        rows.key_bias, rows.gate_bias});
  if (rows.gate.defined()) out.groups[0].gate = Matrix::dense(rows.gate);
  return out;
}

void split(lm::Transformer& model, const Plan& plan, const atlas::Census& census,
           std::span<const Moments> moments) {
  require(plan.layers.size() == model->blocks.size() && census.layers.size() == plan.layers.size(),
          "plan for {} layers, census of {}, model of {}", plan.layers.size(), census.layers.size(),
          model->blocks.size());
  require(moments.empty() || moments.size() == plan.layers.size(),
          "moments of {} layers, model of {}", moments.size(), plan.layers.size());
  if (model->layout.experts)
    for (const auto& layer : plan.layers)
      require(layer.order.empty() && layer.groups.size() == 1,
              "the neurons of a model with experts keep their places: expected a plan all=FORMAT");
  torch::NoGradGuard no_grad;
  auto& config = model->config;
  std::vector<lm::FeedForward> built;
  int64_t neurons = -1;
  bool biased = config.ffn_bias;
  for (size_t l = 0; l < plan.layers.size(); ++l) {
    built.push_back(split(model->blocks[l].ffn, plan.layers[l], census.layers[l],
                          moments.empty() ? Moments() : moments[l]));
    int64_t left = 0;
    for (const auto& group : built.back().groups) left += group.neurons();
    require(neurons < 0 || left == neurons,
            "the plan keeps {} neurons in layer {} but {} before it; all layers must keep as many",
            left, l, neurons);
    neurons = left;
    biased = biased || built.back().value_bias.defined();
  }
  require(biased == config.ffn_bias || config.family == lm::Family::llama,
          "dropped neurons leave their mean in the value bias, and family {} has none",
          to_name(config.family));
  if (biased && !config.ffn_bias) add_biases(built, config.width);
  config.neurons = neurons;
  config.ffn_bias = biased;
  model->layout.split.clear();
  model->layout.shared_ffn.clear();  // each layer has groups of its own now
  const bool packed = std::any_of(built.begin(), built.end(), is_packed);
  const bool conv1d = lm::name_maps(config.family)[0].conv1d;
  for (size_t l = 0; l < built.size(); ++l) {
    if (packed) model->layout.split.push_back(layout_of(built[l]));
    const auto experts = model->blocks[l].ffn.experts;
    model->blocks[l].ffn = packed ? std::move(built[l]) : as_in_family(built[l], conv1d);
    model->blocks[l].ffn.experts = experts;
  }
}

}  // namespace cajal::surgery
