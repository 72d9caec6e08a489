#include "bench_skip_learned.h"

#include "cajal/atlas/measure.h"
#include "cajal/core/torch_tensors.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/surgery/errors.h"
#include "cajal/surgery/inputs.h"
#include "cajal/surgery/regroup.h"
#include "cajal/surgery/scores.h"
#include "cajal/surgery/sparsity.h"
#include "cajal/surgery/split.h"
#include "cajal/surgery/write.h"

namespace cajal::bench_skip {
namespace {

std::vector<surgery::Predictor> load_predictors(const lm::Transformer& model,
                                                const std::string& path) {
  const auto stored = load_tensors(path);
  const auto& config = model->config;
  std::vector<surgery::Predictor> out;
  for (size_t l = 0; l < model->blocks.size(); ++l) {
    const auto tensor = [&](const char* name) {
      const auto found = stored.find(fmt::format("{}.{}", l, name));
      require(found != stored.end(), "{}: no tensor {}.{}", path, l, name);
      return found->second;
    };
    surgery::Predictor p{tensor("down"), tensor("up"), tensor("shift"), 0, 0};
    require(p.down.dim() == 2 && p.down.size(1) == config.width && p.up.dim() == 2 &&
                p.up.size(1) == p.down.size(0) && p.shift.dim() == 1 &&
                p.shift.size(0) == p.up.size(0),
            "{}: the predictor of layer {} does not fit a width of {}", path, l, config.width);
    out.push_back(std::move(p));
  }
  return out;
}

void save_predictors(const std::vector<surgery::Predictor>& predictors, const std::string& path) {
  NamedTensors tensors;
  for (size_t l = 0; l < predictors.size(); ++l) {
    const auto& p = predictors[l];
    tensors[fmt::format("{}.down", l)] = p.down;
    tensors[fmt::format("{}.up", l)] = p.up;
    tensors[fmt::format("{}.shift", l)] = p.shift;
  }
  save_tensors(path, tensors);
}

std::vector<surgery::Predictor> find_predictors(lm::Transformer& model,
                                                std::span<const int32_t> ids,
                                                const LearnOptions& o) {
  if (!o.predictors.empty() && std::filesystem::exists(o.predictors))
    return load_predictors(model, o.predictors);
  auto out = surgery::train_predictors(
      model, ids, {.rank = o.rank, .epochs = o.epochs, .batch = 256, .tokens = o.tokens});
  if (!o.predictors.empty()) save_predictors(out, o.predictors);
  return out;
}

std::vector<LayerThresholds> find_layer_thresholds(lm::Transformer& model,
                                                   std::span<const int32_t> ids,
                                                   const LearnOptions& o) {
  const auto at = [&](surgery::SparseRule rule) {
    return surgery::find_thresholds(model, rule, o.share, ids, std::min<int64_t>(4096, o.tokens));
  };
  const auto gates = at(surgery::SparseRule::cats), all = at(surgery::SparseRule::teal);
  const auto size = [](const std::vector<surgery::Threshold>& in, const std::string& point) {
    for (const auto& of : in)
      if (of.point == point) return static_cast<float>(of.size);
    fail("no threshold for {}", point);
  };
  std::vector<LayerThresholds> out;
  for (size_t l = 0; l < model->blocks.size(); ++l)
    out.push_back({size(gates, fmt::format("blocks.{}.mlp.hook_pre", l)),
                   size(all, surgery::FfnInput(model, l).point()),
                   size(all, fmt::format("blocks.{}.mlp.hook_post", l))});
  return out;
}

}  // namespace

Learned learn(lm::Transformer& model, std::span<const int32_t> ids, const LearnOptions& o) {
  Learned out;
  const auto& config = model->config;
  if (surgery::falls_silent(config.law)) {
    const auto trains = std::min(o.tokens, std::ssize(ids)) * 3 / 4;
    const auto rest = ids.subspan(static_cast<size_t>(trains));
    out.firing = surgery::firing(model, rest, o.tokens - trains);
    if (!config.gated)
      out.predictors = find_predictors(model, ids.first(static_cast<size_t>(trains)), o);
    for (const auto& layer : out.firing)
      out.coactivation.push_back(surgery::coactivation_order(layer.fires, kTileRows));
  } else if (config.gated) {
    out.thresholds = find_layer_thresholds(model, ids, o);
    const auto census = atlas::measure(model, ids);
    for (const auto& layer : census.layers)
      out.heavy.push_back(surgery::ranking(layer, surgery::Score::hits, 0));
  }
  return out;
}

surgery::Plan planned(lm::Transformer& model, std::span<const int32_t> ids, int64_t tokens) {
  const auto some = std::min<int64_t>({4096, tokens, std::ssize(ids)});
  const auto census = atlas::measure(model, ids.first(static_cast<size_t>(some)));
  auto how = surgery::fine_errors();
  how.tokens = some;
  const auto& config = model->config;
  const auto bytes = [&](const char* words) {
    return surgery::plan_bytes(surgery::make_plan(words, census), config.width, config.gated);
  };
  return surgery::plan_for_budget(surgery::measure_errors(model, census, ids, how),
                                  (bytes("all=q4_0") + bytes("all=q8_0")) / 2);
}

SetPredictor set_predictor(const Learned& learned, size_t l, double recall) {
  const auto& [x, fires] = learned.firing[l];
  SetPredictor out;
  out.predictor = surgery::at_recall(learned.predictors[l], x, fires, recall);
  const auto keys = static_cast<double>(x.size(1) * fires.size(1));
  // Rows that lie apart are read more slowly than tiles.
  out.pays = static_cast<double>(out.predictor.bytes(1)) / keys + out.predictor.density < 0.7;
  return out;
}

engine::Selector selector_of(const surgery::Predictor& p, const engine::NeuronBank& bank) {
  const auto down = surgery::encode(Format::q8_0, p.down.contiguous());
  const auto up = surgery::encode(Format::q8_0, p.up.contiguous());
  const auto shift = p.shift.contiguous();
  engine::Predictor out;
  out.down = row_matrix(Format::q8_0, down.data_ptr(), p.down.size(0), p.down.size(1), "down");
  out.up = row_matrix(Format::q8_0, up.data_ptr(), p.up.size(0), p.up.size(1), "up");
  out.shift.assign(shift.data_ptr<float>(), shift.data_ptr<float>() + shift.numel());
  auto selector = engine::predict(out, bank, engine::Selection::Unit::places);
  selector.silent = 0.0f;  // and of those guessed, what is silent
  return selector;
}

void write_planned(const std::filesystem::path& from, const surgery::Plan& plan, Format rest,
                   const std::filesystem::path& to) {
  auto model = lm::load(from);
  surgery::split(model, plan, atlas::blank(model));
  surgery::requantise(model, {.attention = rest, .embedding = rest});
  surgery::write(model, from, to);
}

}  // namespace cajal::bench_skip
