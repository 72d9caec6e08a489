#include "cajal/surgery/edit.h"

#include <torch/optim/adam.h>

#include <algorithm>

#include "cajal/core/error.h"
#include "cajal/surgery/brick_parts.h"

namespace cajal::surgery {
namespace {

void check_layer(const lm::Transformer& model, int64_t layer) {
  require(layer >= 0 && layer < model->config.layers, "edit: layer {}, expected 0 to {}", layer,
          model->config.layers - 1);
}

void check_fact(const lm::Transformer& model, const Fact& fact) {
  require(!fact.prompt.empty() && std::ssize(fact.prompt) <= model->config.context,
          "edit: a prompt of {} tokens, expected 1 to {}", fact.prompt.size(),
          model->config.context);
  require(fact.answer >= 0 && fact.answer < model->config.vocabulary,
          "edit: answer {}, expected 0 to {}", fact.answer, model->config.vocabulary - 1);
}

torch::Tensor one_row(const std::vector<int32_t>& ids) {
  return torch::tensor(ids).to(torch::kLong).unsqueeze(0);
}

std::string post_of(int64_t layer) { return fmt::format("blocks.{}.mlp.hook_post", layer); }

}  // namespace

torch::Tensor second_moment(lm::Transformer& model, int64_t layer, std::span<const int32_t> ids,
                            int64_t tokens, int64_t context, double ridge) {
  check_layer(model, layer);
  const auto windows = std::min<int64_t>(tokens, std::ssize(ids)) / std::max<int64_t>(context, 1);
  require(windows > 0 && context <= model->config.context,
          "edit: {} tokens of text in windows of {}", ids.size(), context);
  const torch::NoGradGuard no_grad;
  torch::Tensor sum;
  int64_t count = 0;
  lm::Hooks hooks;
  hooks.add(post_of(layer), [&](std::string_view, const torch::Tensor& post) {
    const auto k = post.flatten(0, 1).to(torch::kDouble);
    const auto part = torch::mm(k.t(), k);
    sum = sum.defined() ? sum + part : part;
    count += k.size(0);
    return torch::Tensor();
  });
  const auto all = torch::tensor(std::vector<int32_t>(ids.begin(), ids.end())).to(torch::kLong);
  lm::Pass pass;
  pass.hooks = &hooks;
  for (int64_t w = 0; w < windows; w += 16)
    model->forward(
        all.slice(0, w * context, std::min(windows, w + 16) * context).view({-1, context}), pass);
  const auto moment = sum / static_cast<double>(count);
  const auto mean = moment.diagonal().mean();
  require(mean.item<double>() > 0, "edit: no neuron of layer {} fires on the text", layer);
  return moment + ridge * mean * torch::eye(moment.size(0), torch::kDouble);
}

torch::Tensor fact_key(lm::Transformer& model, const Fact& fact, const EditOptions& options) {
  check_layer(model, options.layer);
  check_fact(model, fact);
  const torch::NoGradGuard no_grad;
  auto prefixes = options.prefixes;
  if (prefixes.empty()) prefixes.emplace_back();
  torch::Tensor sum;
  for (auto text : prefixes) {
    text.insert(text.end(), fact.prompt.begin(), fact.prompt.end());
    lm::Hooks hooks;
    hooks.stop_after(post_of(options.layer));
    lm::Pass pass;
    pass.hooks = &hooks;
    const auto key = model->forward(one_row(text), pass)[0][-1].to(torch::kDouble);
    sum = sum.defined() ? sum + key : key;
  }
  return sum / static_cast<double>(prefixes.size());
}

torch::Tensor fact_change(lm::Transformer& model, const Fact& fact, const EditOptions& options) {
  check_layer(model, options.layer);
  check_fact(model, fact);
  require(options.steps > 0 && options.rate > 0, "edit: {} steps at rate {}", options.steps,
          options.rate);
  const auto input = one_row(fact.prompt);
  const auto answer = torch::full({1}, int64_t{fact.answer}, torch::kLong);
  auto change = torch::zeros({model->config.width}).requires_grad_();
  torch::optim::Adam adam({change}, torch::optim::AdamOptions(options.rate));
  const auto last =
      torch::arange(input.size(1)).eq(input.size(1) - 1).to(torch::kFloat).view({1, -1, 1});
  double length = 0;  // of what the FFN writes there now
  lm::Hooks hooks;
  hooks.add(fmt::format("blocks.{}.hook_mlp_out", options.layer),
            [&](std::string_view, const torch::Tensor& out) {
              if (length == 0) length = std::max(1e-6, out[0][-1].norm().item<double>());
              return out + last * change;
            });
  lm::Pass pass;
  pass.hooks = &hooks;
  pass.last_token_only = true;
  for (int64_t step = 0; step < options.steps; ++step) {
    adam.zero_grad();
    const auto logits = model->forward(input, pass)[0];
    const auto loss = torch::nll_loss(torch::log_softmax(logits, -1), answer);
    (loss + options.decay * change.square().sum() / (length * length)).backward();
    adam.step();
  }
  return change.detach();
}

Brick rank_one(const std::string& id, const lm::Transformer& model, int64_t layer,
               const torch::Tensor& key, const torch::Tensor& change, const torch::Tensor& moment) {
  check_layer(model, layer);
  const torch::NoGradGuard no_grad;
  require(key.dim() == 1 && moment.dim() == 2 && moment.size(0) == key.size(0) &&
              moment.size(1) == key.size(0) && change.size(-1) == model->config.width,
          "edit: key {}, change {}, moment {} do not fit together", shape_text(key.sizes()),
          shape_text(change.sizes()), shape_text(moment.sizes()));
  const auto k = key.to(torch::kDouble);
  const auto solved = at::linalg_solve(moment, k.unsqueeze(1)).squeeze(1);
  const double length = k.dot(solved).item<double>();
  require(length > 0, "edit: no neuron of layer {} fires at the prompt", layer);
  Brick out{.card = {.id = id,
                     .kind = BrickKind::low_rank,
                     .layer = layer,
                     .module = "ffn.value",
                     .tags = {},
                     .base = ""},
            .tensors = {}};
  out.tensors["left"] = (solved / length).to(torch::kFloat).unsqueeze(1);
  out.tensors["right"] = change.to(torch::kFloat).unsqueeze(1);
  return out;
}

Brick edit(const std::string& id, lm::Transformer& model, const Fact& fact,
           const torch::Tensor& moment, const EditOptions& options) {
  return rank_one(id, model, options.layer, fact_key(model, fact, options),
                  fact_change(model, fact, options), moment);
}

EditedFacts edit_in_turn(const lm::Transformer& model, std::span<const Fact> facts,
                         const torch::Tensor& moment, const EditOptions& options) {
  auto edited = own_copy(model);
  EditedFacts out;
  for (size_t i = 0; i < facts.size(); ++i) {
    const auto key = fact_key(edited, facts[i], options);
    const auto change = fact_change(edited, facts[i], options);
    auto brick = rank_one(fmt::format("fact-{}", i), edited, options.layer, key, change, moment);
    const torch::NoGradGuard no_grad;
    const auto written = [&] {
      return matrix_at(edited, options.layer, "ffn.value")
          .apply(key.to(torch::kFloat).unsqueeze(0))
          .squeeze(0);
    };
    const auto wanted = written() + change;
    apply_low_rank(edited, brick);
    out.largest_error =
        std::max(out.largest_error, (written() - wanted).abs().max().item<double>());
    out.configuration.active.push_back({brick.card.id, 1});
    out.registry.add(std::move(brick));
  }
  return out;
}

double share_said(lm::Transformer model, std::span<const Fact> facts,
                  const std::vector<int32_t>& before) {
  require(!facts.empty(), "edit: no facts to ask for");
  int64_t said = 0;
  for (const auto& fact : facts) {
    auto prompt = before;
    prompt.insert(prompt.end(), fact.prompt.begin(), fact.prompt.end());
    const bool fits = std::ssize(prompt) <= model->config.context;
    said += likeliest(model, fits ? prompt : fact.prompt) == fact.answer;
  }
  return static_cast<double>(said) / static_cast<double>(facts.size());
}

int32_t likeliest(lm::Transformer& model, const std::vector<int32_t>& prompt) {
  check_fact(model, {prompt, 0});
  const torch::NoGradGuard no_grad;
  lm::Pass pass;
  pass.last_token_only = true;
  return static_cast<int32_t>(
      model->forward(one_row(prompt), pass).flatten().argmax().item<int64_t>());
}

void apply_low_rank(lm::Transformer& model, const Brick& brick) {
  const torch::NoGradGuard no_grad;
  require(brick.card.kind == BrickKind::low_rank, "brick '{}' is not low_rank", brick.card.id);
  Matrix& matrix = matrix_at(model, brick.card.layer, brick.card.module);
  const auto delta = torch::mm(brick.tensors.at("right"), brick.tensors.at("left").t());
  matrix = Matrix::dense(matrix.stored() + (matrix.major() == Major::input ? delta.t() : delta),
                         matrix.major());
}

}  // namespace cajal::surgery
