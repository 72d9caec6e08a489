#include "cajal/atlas/measure.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "cajal/core/error.h"
#include "cajal/core/timing.h"
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

// The residual streams of all units, [rows, width] one behind the other, in a file without a name.
class StreamFile {
 public:
  explicit StreamFile(const std::filesystem::path& folder) {
    const auto place = folder.empty() ? std::filesystem::temp_directory_path() : folder;
    auto name = (place / "cajal-stream-XXXXXX").string();
    descriptor_ = ::mkstemp(name.data());
    require(descriptor_ >= 0, "{}: no file can be made there", place.string());
    ::unlink(name.c_str());
  }
  ~StreamFile() { ::close(descriptor_); }
  StreamFile(const StreamFile&) = delete;
  StreamFile& operator=(const StreamFile&) = delete;

  void write(int64_t begin, const torch::Tensor& stream) {
    const auto whole = stream.to(torch::kCPU, torch::kFloat).contiguous();
    move(begin, whole, [this](char* data, size_t bytes, off_t at) {
      return ::pwrite(descriptor_, data, bytes, at);
    });
  }
  torch::Tensor read(int64_t begin, torch::IntArrayRef shape) {
    auto stream = torch::empty(shape, torch::kFloat);
    move(begin, stream, [this](char* data, size_t bytes, off_t at) {
      return ::pread(descriptor_, data, bytes, at);
    });
    return stream;
  }

 private:
  template <class Move>
  static void move(int64_t begin, const torch::Tensor& stream, Move&& part) {
    auto* data = static_cast<char*>(stream.data_ptr());
    auto at = static_cast<off_t>(begin * 4);
    for (auto left = static_cast<size_t>(stream.numel()) * 4; left > 0;) {
      const auto done = part(data, left, at);
      require(done > 0, "the file of residual streams: {}", std::strerror(errno));
      data += done, at += done, left -= static_cast<size_t>(done);
    }
  }

  int descriptor_ = -1;
};

class Measurement {
 public:
  Measurement(lm::Transformer& model, std::span<const int32_t> ids, Cutting cutting, Census& census,
              const std::vector<int64_t>& chosen, lm::Hooks hooks)
      : model_(model),
        ids_(ids),
        cutting_(cutting),
        census_(census),
        chosen_(chosen),
        hooks_(std::move(hooks)) {
    for (size_t l = 0; l < census.layers.size(); ++l) {
      hooks_.add(hook_name(l, "pre"), [this](std::string_view, const torch::Tensor& value) {
        asked_ = value;
        return torch::Tensor();
      });
      hooks_.add(hook_name(l, "post"), [this, l](std::string_view, const torch::Tensor& value) {
        record(l, value);
        return torch::Tensor();
      });
    }
    hooks_.stop_after(hook_name(census.layers.size() - 1, "post"));  // logits are not needed
    pass_.hooks = &hooks_;
  }

  void unit(int64_t index) {
    each_run(index, [&](const Run& run) { model_->forward(input(run), pass_); });
  }

  /// All units through one layer after another.
  void by_layer(int64_t first, int64_t last, const std::filesystem::path& scratch,
                Progress* progress) {
    StreamFile file(scratch);
    const int64_t width = model_->config.width;
    const auto place = [&](const Run& run) {
      return run.begin / cutting_.step * (cutting_.step + 1) * width;
    };
    for (auto u = first; u < last; ++u)
      each_run(u,
               [&](const Run& run) { file.write(place(run), model_->embed(input(run), pass_)); });
    for (int64_t l = 0; l < model_->config.layers; ++l) {
      for (auto u = first; u < last; ++u)
        each_run(u, [&](const Run& run) {
          const bool prefix = model_->config.begin_id >= 0;
          const auto stream = file.read(place(run), {run.count, run.length + prefix, width});
          try {
            file.write(place(run), model_->block(l, stream, pass_));
          } catch (const lm::Hooks::Stopped&) {  // the last layer is through
          }
        });
      auto& layer = census_.layers[static_cast<size_t>(l)];
      layer.tables.pack();
      model_->forget(l);
      if (progress) progress->add(layer.tokens);
    }
  }

 private:
  static std::string hook_name(size_t layer, const char* point) {
    return fmt::format("blocks.{}.mlp.hook_{}", layer, point);
  }

  // Whole windows that are evaluated in one go.
  struct Run {
    int64_t begin, count, length;
  };

  template <class Do>
  void each_run(int64_t unit, Do&& go) {
    const auto begin = unit * cutting_.batch * cutting_.step;
    const auto end = std::min(cutting_.tokens, begin + cutting_.batch * cutting_.step);
    const auto whole = (end - begin) / cutting_.step, rest = begin + whole * cutting_.step;
    const auto run = [&](const Run& part) {
      run_ = part;
      go(part);
    };
    if (whole > 0) run({begin, whole, cutting_.step});
    if (rest < end) run({rest, 1, end - rest});  // the last window of the text may be short
  }

  torch::Tensor input(const Run& run) const {
    return windows(model_->config, ids_.subspan(run.begin, run.count * run.length), run.length);
  }

  // [rows, neurons] under the neurons' original numbers, without the begin token.
  torch::Tensor rows_of(size_t l, const torch::Tensor& value) const {
    auto counted = model_->config.begin_id >= 0 ? value.slice(1, 1) : value;
    if (const auto& ffn = model_->blocks[l].ffn; ffn.order.defined())
      counted = counted.index_select(-1, natural(ffn));
    return counted.reshape({-1, counted.size(-1)}).to(torch::kCPU, torch::kFloat).contiguous();
  }

  void count_totals() {
    auto& tokens = census_.token_totals;
    auto& positions = census_.position_totals;
    for (int64_t t = 0; t < run_.count * run_.length; ++t) {
      if (!tokens.empty()) ++tokens[ids_[run_.begin + t]];
      if (!positions.empty()) ++positions[t % run_.length];
    }
  }

  void record(size_t l, const torch::Tensor& value) {
    auto& layer = census_.layers[l];
    const auto post = rows_of(l, value), pre = rows_of(l, asked_);
    require(post.size(1) == layer.neurons, "layer {}: {} activations a token, expected {}", l,
            post.size(1), layer.neurons);
    const auto span = [](const torch::Tensor& t) {
      return std::span(t.data_ptr<float>(), static_cast<size_t>(t.numel()));
    };
    try {
      layer.add({.post = span(post),
                 .pre = span(pre),
                 .ids = ids_,
                 .first_token = run_.begin,
                 .window = run_.length,
                 .fired = {}},
                threads_);
    } catch (const Error& error) {
      fail("layer {}: {}", l, error.what());
    }
    if (l == 0) count_totals();
    const auto end = run_.begin + post.size(0);
    for (auto it = std::lower_bound(chosen_.begin(), chosen_.end(), run_.begin);
         it != chosen_.end() && *it < end; ++it) {
      const auto* row = post.data_ptr<float>() + (*it - run_.begin) * layer.neurons;
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
  lm::Pass pass_;
  ThreadPool threads_;
  torch::Tensor asked_;
  Run run_{};
};

}  // namespace

int64_t window_tokens(const lm::Config& config, int64_t context) {
  return context - (config.begin_id >= 0);
}

torch::Tensor windows(const lm::Config& config, std::span<const int32_t> ids, int64_t length) {
  const auto count = std::ssize(ids) / length;
  const auto text = torch::from_blob(const_cast<int32_t*>(ids.data()), {count, length}, torch::kInt)
                        .to(torch::kLong);
  if (config.begin_id < 0) return text;
  return torch::cat({torch::full({count, 1}, config.begin_id, torch::kLong), text}, 1);
}

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

namespace {

void check(const lm::Config& config, std::span<const int32_t> ids, const MeasureOptions& options) {
  require(!config.vision(), "an atlas needs a language model, this one reads images");
  require(ids.size() >= 2, "the text has {} tokens, expected 2 at least", ids.size());
  require(options.context >= 0 && options.batch > 0 && options.samples >= 0,
          "context {}, batch {} and samples {} must not be negative (batch: at least 1)",
          options.context, options.batch, options.samples);
  require(options.shards > 0 && options.shard > 0 && options.shard <= options.shards,
          "shard {}/{}: expected 1/{} to {}/{}", options.shard, options.shards, options.shards,
          options.shards, options.shards);
  require(options.orders >= 1 && options.orders <= 5 && options.gram_limit >= 1,
          "n-grams of {} tokens, {} a neuron: expected 1 to 5 and at least 1", options.orders,
          options.gram_limit);
  require(options.threshold >= 0, "threshold {}: expected 0 or more", options.threshold);
}

// The census of no tokens that these options make.
Census begin_census(const lm::Transformer& model, std::span<const int32_t> ids,
                    const MeasureOptions& options) {
  const auto& config = model->config;
  auto census = blank(model);
  census.context = options.context > 0 ? options.context : std::min<int64_t>(512, config.context);
  require(census.context <= config.context && window_tokens(config, census.context) > 0,
          "context {}: the model takes 2 to {} tokens", census.context, config.context);
  const Cutting cutting{static_cast<int64_t>(ids.size()), window_tokens(config, census.context),
                        options.batch};
  census.batch = options.batch;
  census.units = cutting.units();
  census.seed = options.seed;
  census.text_hash = hash_bytes(std::as_bytes(ids));
  census.text_tokens = cutting.tokens;
  Collectors collectors{.orders = options.orders, .gram_limit = options.gram_limit};
  if (options.tables) {
    collectors.shapes = true;
    collectors.positions = cutting.step, collectors.vocabulary = config.vocabulary;
    census.token_totals.resize(static_cast<size_t>(config.vocabulary));
    census.position_totals.resize(static_cast<size_t>(cutting.step));
  }
  for (auto& layer : census.layers)
    layer = {layer.key_norm, layer.value_norm, layer.gated, collectors, options.threshold};
  return census;
}

// Whether `begun` is an unfinished `census`, counted from unit `begin` on.
bool goes_on(const Census& begun, const Census& census, int64_t begin, int64_t end) {
  return begun.model_hash == census.model_hash && begun.text_hash == census.text_hash &&
         begun.text_tokens == census.text_tokens && begun.context == census.context &&
         begun.batch == census.batch && begun.seed == census.seed && begun.covered.size() == 1 &&
         begun.covered[0].first == begin && begun.covered[0].second <= end &&
         begun.layers.size() == census.layers.size() &&
         begun.layers[0].tables.kind == census.layers[0].tables.kind &&
         begun.layers[0].threshold == census.layers[0].threshold;
}

}  // namespace

Census measure(lm::Transformer& model, std::span<const int32_t> ids, const MeasureOptions& options,
               Progress* progress, const Checkpoint& checkpoint) {
  check(model->config, ids, options);
  auto census = begin_census(model, ids, options);
  const Cutting cutting{census.text_tokens, window_tokens(model->config, census.context),
                        options.batch};
  const auto chosen = sample_tokens(cutting.tokens, options.samples, options.seed);
  const auto begin = census.units * (options.shard - 1) / options.shards;
  const auto end = census.units * options.shard / options.shards;
  require(begin < end, "shard {}/{} is empty: the text has {} units of {} tokens", options.shard,
          options.shards, census.units, cutting.step * cutting.batch);
  const torch::NoGradGuard no_grad;
  auto next = begin;
  if (checkpoint.begun && goes_on(*checkpoint.begun, census, begin, end)) {
    census = *checkpoint.begun;
    next = census.covered[0].second;
  }
  census.covered = {{begin, end}};
  Measurement measurement(model, ids, cutting, census, chosen, options.hooks);
  if (options.by_layer) {
    measurement.by_layer(begin, end, options.scratch, progress);
    return census;
  }
  Stopwatch watch;
  const auto pack = [&] {
    for (auto& layer : census.layers) layer.tables.pack();
  };
  for (auto unit = next; unit < end; ++unit) {
    measurement.unit(unit);
    if (progress) progress->set(census.tokens());
    if (options.after_unit) {
      const auto size = cutting.step * cutting.batch, first = unit * size;
      options.after_unit(ids.subspan(first, std::min(size, cutting.tokens - first)));
    }
    if (!checkpoint.save || unit + 1 == end || watch.seconds() < checkpoint.seconds) continue;
    pack();
    census.covered = {{begin, unit + 1}};
    checkpoint.save(census);
    census.covered = {{begin, end}};
    watch = {};
  }
  pack();
  return census;
}

}  // namespace cajal::atlas
