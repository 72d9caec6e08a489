#include "cajal/atlas/measure.h"

#include <algorithm>

#include "cajal/core/error.h"
#include "cajal/core/torch.h"

namespace cajal::atlas {
namespace {

// [neurons] lengths of the rows of a matrix whose rows (or columns) are neurons.
torch::Tensor lengths(const Matrix& matrix, bool neurons_are_outputs) {
  const bool rows = (matrix.major() == Major::output) == neurons_are_outputs;
  return matrix.decoded().norm(2, rows ? 1 : 0).to(torch::kCPU, torch::kFloat);
}

std::vector<float> to_vector(const torch::Tensor& t) {
  const auto flat = t.contiguous();
  return {flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel()};
}

// Where each neuron of the original is among those stored.
torch::Tensor natural(const lm::FeedForward& ffn) { return ffn.order.argsort(); }

template <class OfGroup>
std::vector<float> over_groups(const lm::FeedForward& ffn, OfGroup&& of_group) {
  std::vector<torch::Tensor> parts;
  for (const auto& group : ffn.groups) parts.push_back(of_group(group));
  const auto stored = torch::cat(parts);
  return to_vector(ffn.order.defined() ? stored.index_select(0, natural(ffn)) : stored);
}

// How a text is cut: windows of `step` tokens, `batch` windows a unit.
struct Cutting {
  int64_t tokens, step, batch;
  int64_t windows() const { return (tokens + step - 1) / step; }
  int64_t units() const { return (windows() + batch - 1) / batch; }
};

class Measurement {
 public:
  Measurement(lm::Transformer& model, std::span<const int32_t> ids, Cutting cutting, Census& census,
              const std::vector<int64_t>& chosen)
      : model_(model), ids_(ids), cutting_(cutting), census_(census), chosen_(chosen) {
    for (size_t l = 0; l < census.layers.size(); ++l)
      hooks_.add(hook_name(l), [this, l](std::string_view, const torch::Tensor& value) {
        record(l, value);
        return torch::Tensor();
      });
    hooks_.stop_after(hook_name(census.layers.size() - 1));  // logits are not needed
  }

  void unit(int64_t index) {
    const auto begin = index * cutting_.batch * cutting_.step;
    const auto end = std::min(cutting_.tokens, begin + cutting_.batch * cutting_.step);
    const auto whole = (end - begin) / cutting_.step;
    if (whole > 0) windows(begin, whole, cutting_.step);
    const auto rest = begin + whole * cutting_.step;
    if (rest < end) windows(rest, 1, end - rest);  // the last window of the text may be short
  }

 private:
  static std::string hook_name(size_t layer) {
    return fmt::format("blocks.{}.mlp.hook_post", layer);
  }

  void windows(int64_t begin, int64_t count, int64_t length) {
    const auto* from = ids_.data() + begin;
    auto input =
        torch::from_blob(const_cast<int32_t*>(from), {count, length}, torch::kInt).to(torch::kLong);
    const auto begin_id = model_->config.begin_id;
    prefix_ = begin_id >= 0;
    if (prefix_) input = torch::cat({torch::full({count, 1}, begin_id, torch::kLong), input}, 1);
    first_token_ = begin;
    lm::Pass pass;
    pass.hooks = &hooks_;
    model_->forward(input, pass);
  }

  void record(size_t l, const torch::Tensor& value) {
    auto& layer = census_.layers[l];
    auto counted = prefix_ ? value.slice(1, 1) : value;
    if (const auto& ffn = model_->blocks[l].ffn; ffn.order.defined())
      counted = counted.index_select(-1, natural(ffn));
    const auto rows =
        counted.reshape({-1, counted.size(-1)}).to(torch::kCPU, torch::kFloat).contiguous();
    require(rows.size(1) == layer.neurons, "layer {}: {} activations a token, expected {}", l,
            rows.size(1), layer.neurons);
    const auto* data = rows.data_ptr<float>();
    try {
      layer.add({data, static_cast<size_t>(rows.numel())}, first_token_, threads_);
    } catch (const Error& error) {
      fail("layer {}: {}", l, error.what());
    }
    const auto end = first_token_ + rows.size(0);
    for (auto it = std::lower_bound(chosen_.begin(), chosen_.end(), first_token_);
         it != chosen_.end() && *it < end; ++it) {
      const auto* row = data + (*it - first_token_) * layer.neurons;
      layer.samples.insert(layer.samples.end(), row, row + layer.neurons);
      if (l == 0) census_.sample_tokens.push_back(*it);
    }
  }

  lm::Transformer& model_;
  std::span<const int32_t> ids_;
  Cutting cutting_;
  Census& census_;
  const std::vector<int64_t>& chosen_;
  lm::Hooks hooks_;
  ThreadPool threads_;
  bool prefix_ = false;
  int64_t first_token_ = 0;
};

}  // namespace

std::vector<float> key_norms(const lm::FeedForward& ffn) {
  return over_groups(ffn, [](const lm::NeuronGroup& group) {
    const auto key = lengths(group.key, true);
    return group.gate.defined() ? key * lengths(group.gate, true) : key;
  });
}

std::vector<float> value_norms(const lm::FeedForward& ffn) {
  return over_groups(ffn, [](const lm::NeuronGroup& g) { return lengths(g.value, false); });
}

uint64_t fingerprint(const lm::Transformer& model) {
  const auto config = model->config.source.dump();
  auto hash = hash_bytes(std::as_bytes(std::span(config)));
  const auto take = [&](const Matrix& matrix) {
    if (!matrix.defined()) return;
    const auto stored = matrix.stored().cpu().contiguous();
    const auto bytes = static_cast<size_t>(stored.numel()) * stored.element_size();
    hash = hash_bytes(
        {static_cast<const std::byte*>(stored.data_ptr()), std::min<size_t>(bytes, 4096)}, hash);
  };
  for (const auto& block : model->blocks)
    for (const auto& group : block.ffn.groups) take(group.key), take(group.gate), take(group.value);
  return hash;
}

Census blank(const lm::Transformer& model) {
  Census census;
  census.model_hash = fingerprint(model);
  for (const auto& block : model->blocks)
    census.layers.emplace_back(key_norms(block.ffn), value_norms(block.ffn), model->config.gated);
  return census;
}

Census measure(lm::Transformer& model, std::span<const int32_t> ids, const MeasureOptions& options,
               Progress* progress) {
  const auto& config = model->config;
  require(!config.vision(), "an atlas needs a language model, this one reads images");
  require(ids.size() >= 2, "the text has {} tokens, expected 2 at least", ids.size());
  require(options.context >= 0 && options.batch > 0 && options.samples >= 0,
          "context {}, batch {} and samples {} must not be negative (batch: at least 1)",
          options.context, options.batch, options.samples);
  require(options.shards > 0 && options.shard > 0 && options.shard <= options.shards,
          "shard {}/{}: expected 1/{} to {}/{}", options.shard, options.shards, options.shards,
          options.shards, options.shards);
  const bool begins = config.begin_id >= 0;
  auto census = blank(model);
  census.context = options.context > 0 ? options.context : std::min<int64_t>(512, config.context);
  require(census.context <= config.context && census.context > begins,
          "context {}: the model takes 2 to {} tokens", census.context, config.context);
  const Cutting cutting{static_cast<int64_t>(ids.size()), census.context - begins, options.batch};
  census.batch = options.batch;
  census.units = cutting.units();
  census.seed = options.seed;
  census.text_hash = hash_bytes(std::as_bytes(ids));
  census.text_tokens = cutting.tokens;

  const auto chosen = sample_tokens(cutting.tokens, options.samples, options.seed);
  const auto begin = census.units * (options.shard - 1) / options.shards;
  const auto end = census.units * options.shard / options.shards;
  require(begin < end, "shard {}/{} is empty: the text has {} units of {} tokens", options.shard,
          options.shards, census.units, cutting.step * cutting.batch);
  census.covered = {{begin, end}};
  torch::NoGradGuard no_grad;
  Measurement measurement(model, ids, cutting, census, chosen);
  for (auto unit = begin; unit < end; ++unit) {
    measurement.unit(unit);
    if (progress) progress->set(census.tokens());
  }
  return census;
}

}  // namespace cajal::atlas
