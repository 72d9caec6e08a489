#include "cajal/atlas/arithmetic.h"

#include <algorithm>

#include "cajal/atlas/dense.h"
#include "cajal/atlas/logit_attribution.h"
#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/models/lm/training.h"
#include "cajal/train/trainer.h"

namespace cajal::atlas {
namespace {

Json model_json(const ArithmeticOptions& o, int64_t vocabulary) {
  Json json = {{"model_type", o.gated ? "llama" : "opt"},
               {"hidden_size", o.width},
               {"num_hidden_layers", o.layers},
               {"num_attention_heads", o.heads},
               {"vocab_size", vocabulary},
               {"max_position_embeddings", 8}};
  if (o.gated) {
    json.update({{"intermediate_size", o.neurons}, {"hidden_act", to_name(o.law)}});
  } else {
    json.update({{"ffn_dim", o.neurons},
                 {"word_embed_proj_dim", o.width},
                 {"activation_function", to_name(o.law)},
                 {"do_layer_norm_before", true}});
  }
  return json;
}

}  // namespace

ArithmeticOptions arithmetic_options(int64_t steps) {
  ArithmeticOptions o;
  o.trainer.steps = steps, o.trainer.warmup_steps = std::min<int64_t>(50, steps / 2);
  o.trainer.learning_rate = 1e-3, o.trainer.weight_decay = 1;
  o.trainer.schedule = train::Schedule::wsd, o.trainer.decay_share = 0.3;
  return o;
}

ArithmeticTask arithmetic_task(const ArithmeticOptions& o, uint64_t seed) {
  require(o.held_out >= 0 && o.held_out < 1, "arithmetic: held_out is {}, expected in [0, 1)",
          o.held_out);
  ArithmeticTask task{
      pair_grid(o.op, o.op == Operator::divide, o.operands, o.max_result), {}, {}, {}, {}, 0};
  const int64_t numbers = std::max(o.operands, o.max_result + 1), pairs = task.grid.size();
  task.vocabulary = numbers + 5;
  task.ids = torch::empty({pairs, 4}, torch::kLong);
  task.answers = torch::empty({pairs}, torch::kLong);
  auto ids = task.ids.accessor<int64_t, 2>();
  auto answers = task.answers.accessor<int64_t, 1>();
  for (int64_t p = 0; p < pairs; ++p) {
    const auto i = static_cast<size_t>(p);
    ids[p][0] = task.grid.x[i], ids[p][2] = task.grid.y[i];
    ids[p][1] = numbers + static_cast<int64_t>(o.op), ids[p][3] = numbers + 4;
    answers[p] = task.grid.result[i];
  }
  std::vector<int64_t> order(static_cast<size_t>(pairs));
  for (int64_t p = 0; p < pairs; ++p) order[static_cast<size_t>(p)] = p;
  Random random(seed, 11);
  shuffle(order, random);
  const auto shuffled = torch::tensor(order, torch::kLong);
  const auto kept = static_cast<int64_t>(static_cast<double>(pairs) * (1 - o.held_out));
  task.train = shuffled.slice(0, 0, kept), task.held_out = shuffled.slice(0, kept);
  return task;
}

lm::Transformer train_arithmetic(const ArithmeticOptions& o, const ArithmeticTask& task,
                                 uint64_t seed,
                                 const std::function<void(int64_t, lm::Transformer&)>& snapshot) {
  auto model = lm::initialise(lm::config_from_json(model_json(o, task.vocabulary), "arithmetic"),
                              seed, o.deviation);
  lm::TrainingLoss loss(model);
  auto training = train::task_of(
      *model,
      [&](const train::Slice& slice) -> train::Batch {
        Random random(seed, static_cast<uint64_t>(slice.step));
        std::vector<int64_t> rows(static_cast<size_t>(o.batch));
        for (auto& row : rows)
          row = static_cast<int64_t>(random.below(static_cast<uint64_t>(task.train.size(0))));
        const auto pairs = task.train.index_select(0, torch::tensor(rows, torch::kLong));
        const auto ids = task.ids.index_select(0, pairs);
        auto targets = torch::full_like(ids, -100);
        targets.select(1, 3).copy_(task.answers.index_select(0, pairs));
        return {ids, targets};
      },
      [&](const train::Batch& batch) { return loss(batch[0], batch[1]); });
  int64_t evaluations = 0;
  if (snapshot)
    training.evaluate = [&] {
      ++evaluations;
      const int64_t every = o.trainer.evaluate_every;
      snapshot(every ? std::min(o.trainer.steps, evaluations * every) : o.trainer.steps, model);
      return Json{{"loss", 0}};
    };
  auto options = o.trainer;
  options.keep = train::Keep::last;
  train::run(training, options);
  return model;
}

torch::Tensor right_pairs(lm::Transformer& model, const ArithmeticTask& task,
                          const torch::Tensor& pairs) {
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> right;
  for (const auto& some : pairs.split(4096)) {
    const auto logits = model->forward(task.ids.index_select(0, some), {.last_token_only = true});
    right.push_back(
        some.masked_select(logits.select(1, 0).argmax(-1).eq(task.answers.index_select(0, some))));
  }
  return torch::cat(right);
}

torch::Tensor counterfactuals(const ArithmeticTask& task, const torch::Tensor& pairs,
                              uint64_t seed) {
  Random random(seed, 12);
  std::vector<int64_t> out;
  for (int64_t i = 0; i < pairs.size(0); ++i) {
    const auto answer = task.answers[pairs[i].item<int64_t>()].item<int64_t>();
    int64_t other = 0;
    for (int tries = 0; tries < 1000; ++tries) {
      other = static_cast<int64_t>(random.below(static_cast<uint64_t>(task.grid.size())));
      if (task.grid.result[static_cast<size_t>(other)] != answer) break;
    }
    out.push_back(other);
  }
  return torch::tensor(out, torch::kLong);
}

ActivationMaps activation_maps(lm::Transformer& model, const ArithmeticTask& task, int64_t layer,
                               const torch::Tensor& neurons) {
  const torch::NoGradGuard no_grad;
  const auto point = fmt::format("blocks.{}.mlp.hook_post", layer);
  std::vector<torch::Tensor> parts;
  lm::Hooks hooks;
  hooks.add(point, [&](std::string_view, const torch::Tensor& post) {
    parts.push_back(post.select(1, -1).index_select(-1, neurons));
    return torch::Tensor();
  });
  hooks.stop_after(point);
  for (const auto& some : task.ids.split(4096)) model->forward(some, {.hooks = &hooks});
  const auto maps = torch::cat(parts).t().to(torch::kFloat).contiguous();
  const auto value = dense_ffn(model->config, model->blocks[static_cast<size_t>(layer)].ffn)
                         .value.index_select(0, neurons);
  const auto effect = torch::matmul(value, folded_unembedding(model).t());  // [neurons, vocabulary]
  return {maps, (maps * effect.index_select(1, task.answers)).contiguous()};
}

}  // namespace cajal::atlas
