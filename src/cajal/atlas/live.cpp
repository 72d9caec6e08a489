#include "cajal/atlas/live.h"

#include "cajal/atlas/measure.h"
#include "cajal/core/error.h"
#include "cajal/models/lm/checkpoint.h"

namespace cajal::atlas {
namespace {

std::string point(int64_t layer) { return fmt::format("blocks.{}.mlp.hook_post", layer); }

// f32 [tokens, neurons] under the neurons' original numbers, without the begin token.
torch::Tensor rows_of(const lm::FeedForward& ffn, const torch::Tensor& value, bool begins) {
  auto rows = value[0].to(torch::kCPU, torch::kFloat);
  if (begins) rows = rows.slice(0, 1);
  return ffn.order.defined() ? rows.index_select(1, ffn.order.argsort()) : rows;
}

}  // namespace

Live::Live(const std::filesystem::path& path) : model_(lm::load(path)) {
  const auto& config = model_->config;
  require(!config.vision(), "{}: the live view needs a language model, this one reads images",
          path.string());
  const bool bytes = config.vocabulary == 256 && !std::filesystem::exists(path / "tokenizer.json");
  if (!bytes) tokenizer_ = text::Tokenizer::open(path);
  for (const auto& block : model_->blocks) norms_.push_back(torch::tensor(value_norms(block.ffn)));
  hash_ = fingerprint(model_);
}

Live::Read Live::read(const std::string& text) const {
  require(text.size() <= most_bytes, "the text has {} bytes, expected {} at most", text.size(),
          most_bytes);
  std::vector<int32_t> tokens;
  if (tokenizer_) {
    tokens = tokenizer_->encode(text, text::Specials::without, text::Written::text);
  } else {
    for (const char c : text) tokens.push_back(static_cast<uint8_t>(c));
  }
  require(!tokens.empty(), "the text has no tokens");
  Read out;
  out.begins = model_->config.begin_id >= 0;
  const auto most = std::min<int64_t>(most_tokens, model_->config.context - out.begins);
  out.answer = {{"tokens", Json::array()}, {"cut", std::ssize(tokens) > most}};
  if (std::ssize(tokens) > most) tokens.resize(static_cast<size_t>(most));
  std::vector<int64_t> ids(tokens.begin(), tokens.end());
  if (out.begins) ids.insert(ids.begin(), model_->config.begin_id);
  // A character of several tokens is told with its last one, so that the parts make up the text.
  std::optional<text::StreamDecoder> decoder;
  if (tokenizer_) decoder.emplace(*tokenizer_);
  for (const auto id : tokens)
    out.answer["tokens"].push_back(decoder ? decoder->push(id)
                                           : std::string(1, static_cast<char>(id)));
  if (decoder)
    out.answer["tokens"].back() =
        out.answer["tokens"].back().get<std::string>() + decoder->finish();
  out.ids = torch::tensor(ids).unsqueeze(0);
  return out;
}

Json Live::strongest(const std::string& text) {
  const std::lock_guard lock(mutex_);
  const torch::NoGradGuard no_grad;
  auto read = this->read(text);
  const auto tokens = static_cast<int64_t>(read.answer["tokens"].size());
  const auto layers = std::ssize(model_->blocks);
  const auto top = std::clamp<int64_t>(most_named / (tokens * layers), 1, most_top);
  auto& out = read.answer["layers"] = Json::array();
  lm::Hooks hooks;
  for (int64_t l = 0; l < layers; ++l)
    hooks.add(point(l), [&, l](std::string_view, const torch::Tensor& value) {
      const auto rows = rows_of(model_->blocks[l].ffn, value, read.begins);
      const auto written = rows.abs() * norms_[l];
      const auto energy = written.square();
      const auto share = energy / energy.sum(1, true).clamp_min(1e-30);
      const auto best = std::get<1>(written.topk(std::min(top, written.size(1)), 1)).contiguous();
      const auto activation = rows.gather(1, best).contiguous();
      const auto part = share.gather(1, best).contiguous();
      const auto* neuron = best.data_ptr<int64_t>();
      const auto *a = activation.data_ptr<float>(), *s = part.data_ptr<float>();
      auto& layer = out.emplace_back(Json::array());
      for (int64_t t = 0; t < tokens; ++t) {
        auto& token = layer.emplace_back(Json::array());
        for (int64_t k = 0; k < best.size(1); ++k) token.push_back({*neuron++, *a++, *s++});
      }
      return torch::Tensor();
    });
  hooks.stop_after(point(layers - 1));
  model_->forward(read.ids, {.hooks = &hooks});
  return std::move(read.answer);
}

Json Live::follow(const std::string& text, int64_t layer, int64_t neuron) {
  require(layer >= 0 && layer < std::ssize(model_->blocks), "layer {}: the model has 0 to {}",
          layer, std::ssize(model_->blocks) - 1);
  require(neuron >= 0 && neuron < norms_[layer].size(0), "neuron {}: layer {} has 0 to {}", neuron,
          layer, norms_[layer].size(0) - 1);
  const std::lock_guard lock(mutex_);
  const torch::NoGradGuard no_grad;
  auto read = this->read(text);
  lm::Hooks hooks;
  hooks.add(point(layer), [&](std::string_view, const torch::Tensor& value) {
    const auto column =
        rows_of(model_->blocks[layer].ffn, value, read.begins).select(1, neuron).contiguous();
    read.answer["activations"] =
        std::vector<float>(column.data_ptr<float>(), column.data_ptr<float>() + column.numel());
    return torch::Tensor();
  });
  hooks.stop_after(point(layer));
  model_->forward(read.ids, {.hooks = &hooks});
  return std::move(read.answer);
}

}  // namespace cajal::atlas
