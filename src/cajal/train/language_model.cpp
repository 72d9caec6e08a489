#include "cajal/train/language_model.h"

#include <cmath>
#include <numbers>

#include "cajal/core/error.h"
#include "cajal/core/timing.h"
#include "cajal/data/text.h"
#include "cajal/engine/checkpoint.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/text/bpe_trainer.h"
#include "cajal/train/card.h"
#include "cajal/train/graph.h"
#include "cajal/train/trainer.h"

namespace cajal::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTokenizerFiles[] = {
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json",
    "merges.txt",     "added_tokens.json",     "tokenizer.model",         "vocab.txt"};

// Puts the tokenizer's files into the output folder: copies, or what training makes of the text.
void provide_tokenizer(const LanguageDataOptions& data, const fs::path& output) {
  const auto copy_from = [&](const fs::path& folder) {
    bool any = false;
    for (const char* name : kTokenizerFiles)
      if (fs::exists(folder / name)) {
        fs::copy_file(folder / name, output / name, fs::copy_options::overwrite_existing);
        any = true;
      }
    require(any, "data.tokenizer: {} holds no tokenizer", folder.string());
  };
  if (data.tokenizer.is_string()) {
    const fs::path path = data.tokenizer.get<std::string>();
    require(fs::exists(path), "data.tokenizer: {} is not there", path.string());
    return copy_from(fs::is_directory(path) ? path : path.parent_path());
  }
  require(
      data.tokenizer.is_object() && data.tokenizer.size() == 1 && data.tokenizer.contains("train"),
      "data.tokenizer: expected a folder, or {{\"train\": {{...}}}}");
  const auto options =
      options::parse<text::BpeTrainerOptions>(data.tokenizer.at("train"), "data.tokenizer.train");
  if (fs::exists(output / "tokenizer.json")) return;  // a resumed run made it
  text::BpeTrainer trainer(options);
  const auto corpus = data::read_text(data.train);
  for (const auto document : data::documents(corpus)) trainer.add(document);
  const fs::path made = output / "tokenizer";
  fs::remove_all(made);
  text::write_tokenizer(made, trainer.train(), options);
  copy_from(made);
  fs::remove_all(made);
}

uint64_t tokenizer_key(const fs::path& folder) {
  std::string all;
  for (const char* name : kTokenizerFiles)
    if (fs::exists(folder / name)) all += read_file(folder / name);
  return content_key(all);
}

Dtype saved_dtype(const std::string& name) {
  for (const auto& [known, dtype] :
       {std::pair{"bf16", Dtype::bf16}, {"f16", Dtype::f16}, {"f32", Dtype::f32}})
    if (name == known) return dtype;
  fail("dtype: '{}' is not one of bf16, f16, f32", name);
}

void claim_output(const fs::path& output, bool resume) {
  require(!fs::exists(output) || fs::is_directory(output), "{}: is in the way", output.string());
  const bool taken = fs::exists(output) && !fs::is_empty(output);
  require(!taken || resume, "{}: is not empty; --resume goes on, another --output begins anew",
          output.string());
  fs::create_directories(output);
}

lm::Transformer initial_model(const LanguageModelOptions& options, const LanguageModelRun& run,
                              int32_t tokens) {
  if (!run.init.empty()) {
    auto model = lm::load(lm::find_model(run.init.string()));
    lm::make_trainable(model);
    return model;
  }
  Json json = options.model;
  require(json.is_object(), "model: expected an object as in config.json");
  if (!json.contains("vocab_size")) json["vocab_size"] = tokens;
  return lm::initialise(lm::config_from_json(json, "model"), options.seed, options.deviation);
}

lm::Transformer make_model(const LanguageModelOptions& options, const LanguageModelRun& run,
                           int32_t tokens) {
  auto model = initial_model(options, run, tokens);
  if (!options.law.empty()) model->config.law = activation_from_hf(options.law, "law");
  return model;
}

struct Texts {
  TokenFile train, valid;
};

/// What is trained: a model's own weights, or the adapters around it.
class Subject {
 public:
  Subject(lm::Transformer model, const LanguageModelOptions& options, torch::Device device)
      : model_(std::move(model)), plain_(model_) {
    if (!options.adapters) return;
    require(device.is_cpu() || options.adapters->attention != lm::AdaptedAttention::sparse,
            "adapters.attention: sparse runs on the CPU only, not on {}", device.str());
    adapted_ = lm::Adapted(model_, *options.adapters, options.seed);
    require(!adapted_->full(), "adapters.rank: 0 tunes all weights; leave the key adapters out");
    adapted_->to(device);
  }

  const torch::nn::Module& module() const {
    return adapted_ ? static_cast<const torch::nn::Module&>(*adapted_) : *model_;
  }
  bool direct() const { return !adapted_ && plain_.direct(); }
  void train(bool on) {
    if (adapted_) adapted_->train(on);
  }
  torch::Tensor loss(const torch::Tensor& ids, const torch::Tensor& targets,
                     const torch::Tensor& penalty) {
    return adapted_ ? adapted_->loss(ids, targets) : plain_(ids, targets, penalty);
  }
  LossFunction judge() {
    return [this](const torch::Tensor& ids, const torch::Tensor& targets) {
      return loss(ids, targets, {});
    };
  }
  void save(const std::filesystem::path& folder, Dtype dtype) {
    model_->to(torch::kCPU);
    if (adapted_) adapted_->to(torch::kCPU);
    auto plain = adapted_ && adapted_->merges() ? adapted_->merged() : model_;
    lm::save(plain, folder, dtype);
    if (adapted_ && !adapted_->merges()) lm::save_adapters(adapted_, folder);
  }

 private:
  lm::Transformer model_;
  lm::TrainingLoss plain_;
  lm::Adapted adapted_{nullptr};
};

}  // namespace

void check(const SparsityOptions& options) {
  require(options.weights.size() == options.steps.size(),
          "sparsity: {} weights for {} steps, expected one each a stage", options.weights.size(),
          options.steps.size());
  for (size_t i = 0; i < options.steps.size(); ++i) {
    require(options.weights[i] >= 0, "sparsity.weights[{}]: {}, expected 0 or more", i,
            options.weights[i]);
    require(options.steps[i] > (i == 0 ? 0 : options.steps[i - 1]),
            "sparsity.steps[{}]: {}, expected rising steps", i, options.steps[i]);
  }
}

double penalty_at(const SparsityOptions& options, int64_t step) {
  double from = 0;
  int64_t begin = 0;
  for (size_t i = 0; i < options.steps.size(); ++i) {
    const double to = options.weights[i];
    if (step < options.steps[i]) {
      const double way =
          static_cast<double>(step - begin) / static_cast<double>(options.steps[i] - begin);
      return from + (to - from) * std::sin(std::numbers::pi / 2 * way);
    }
    from = to, begin = options.steps[i];
  }
  return from;
}

Json TextLoss::json() const {
  const double loss = nats / static_cast<double>(tokens);
  Json out = {{"loss", loss}, {"perplexity", std::exp(loss)}};
  if (bytes > 0) out["bits_per_byte"] = nats / std::numbers::ln2 / static_cast<double>(bytes);
  return out;
}

TextLoss evaluate(const LossFunction& loss, const TokenFile& tokens, int64_t context, int64_t batch,
                  torch::Device device) {
  const torch::NoGradGuard no_gradient;
  TextLoss out{.tokens = tokens.size() - 1, .bytes = tokens.text_bytes()};
  require(out.tokens > 0, "the text to evaluate has no two tokens");
  const int64_t windows = (out.tokens + context - 1) / context;
  for (int64_t first = 0; first < windows; first += batch) {
    const int64_t count = std::min(batch, windows - first);
    auto ids = torch::zeros({count, context}, torch::kLong);
    auto targets = torch::full({count, context}, -100, torch::kLong);
    int64_t predicted = 0;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t begin = (first + i) * context, length = std::min(context, out.tokens - begin);
      tokens.copy(begin, length, ids.data_ptr<int64_t>() + i * context);
      tokens.copy(begin + 1, length, targets.data_ptr<int64_t>() + i * context);
      predicted += length;
    }
    const auto mean = loss(ids.to(device), targets.to(device));
    out.nats += mean.item<double>() * static_cast<double>(predicted);
  }
  return out;
}

Json train_language_model(const LanguageModelOptions& options, const LanguageModelRun& run) {
  check(options.trainer);
  check(options.sparsity);
  require(options.batch > 0, "batch: {}, expected at least 1", options.batch);
  require(!options.adapters || !run.init.empty(),
          "adapters: tune a trained model; give its folder with --init");
  require(!options.data.train.empty() && !options.data.valid.empty(),
          "data: train and valid must name texts");
  const Dtype dtype = saved_dtype(options.dtype);
  auto device = pick_device(run.device);
  if (device.is_cuda() && !device.has_index())
    device = torch::Device(torch::kCUDA, static_cast<c10::DeviceIndex>(Processes::local_rank()));
  const auto processes = Processes::from_environment(device);

  // The first process makes the files; the others wait, then read them.
  const auto texts_in = run.output / "tokens";
  const auto open_texts = [&] {
    const auto tokenizer = text::Tokenizer::open(run.output);
    const uint64_t key = tokenizer_key(run.output);
    return Texts{TokenFile::of(options.data.train, tokenizer, key, texts_in),
                 TokenFile::of(options.data.valid, tokenizer, key, texts_in)};
  };
  if (processes.writes()) {
    claim_output(run.output, run.resume);
    provide_tokenizer(options.data, run.output);
    write_json(run.output / "training.json", options::write(options));
    open_texts();
  }
  processes.any(false);
  auto texts = open_texts();
  const auto tokenizer = text::Tokenizer::open(run.output);

  seed_everything(options.seed);
  auto model = make_model(options, run, tokenizer.size());
  const lm::Config& config = model->config;
  const int64_t context = options.context > 0 ? options.context : config.context;
  const int32_t largest = std::max(texts.train.largest(), tokenizer.size() - 1);
  require(largest < config.vocabulary, "model.vocab_size: {}, but the texts hold token {}",
          config.vocabulary, largest);
  require(context <= config.context, "context: {}, but the model holds {} positions", context,
          config.context);
  model->to(device);
  model->train();

  Subject subject(model, options, device);
  const bool sparse = !options.sparsity.weights.empty();
  require(!sparse || subject.direct(), "sparsity: the training of {}{} has no penalty yet",
          to_name(config.family), options.adapters ? " with adapters" : "");
  const Windows windows(texts.train, context, device);
  Task task = task_of(
      subject.module(),
      [&](const Slice& slice) -> Batch {
        Batch batch{
            windows.starts(options.seed, slice.step, options.batch, slice.part, slice.parts)};
        // A tensor, not a number: a recorded step reads what lies there when it is replayed.
        if (sparse) batch.push_back(torch::full({}, penalty_at(options.sparsity, slice.step)));
        return batch;
      },
      [&](const Batch& batch) {
        const auto starts = device.is_cuda() ? batch[0] : batch[0].cpu();
        const auto [ids, targets] = windows.at(starts);
        return subject.loss(ids, targets, sparse ? batch[1] : torch::Tensor());
      });
  const int64_t evaluation_batch =
      std::max<int64_t>(1, options.batch / (options.trainer.accumulate * processes.count()));
  task.evaluate = [&] {
    subject.train(false);
    const auto found = evaluate(subject.judge(), texts.valid, context, evaluation_batch, device);
    subject.train(true);
    return found.json();
  };
  task.items_per_step = options.batch * context;
  task.items = "tokens";
  task.precision = subject.direct() && device.is_cuda() ? Precision::bf16 : Precision::fp32;
  task.recordable = subject.direct();

  const Stopwatch clock;
  const auto result = train::run(task, options.trainer, {run.output, run.resume}, processes);
  Json report = {{"steps", result.steps},
                 {"kept_step", result.kept_step},
                 {"tokens", result.steps * task.items_per_step},
                 {"stopped", result.stopped},
                 {"training_loss", result.loss},
                 {"tokens_per_second", result.items_per_second},
                 {"seconds", clock.seconds()},
                 {"device", device_name(device)},
                 {"valid", result.evaluation}};
  if (!processes.writes()) return report;
  int64_t parameters = 0;
  for (const auto& parameter : model->parameters()) parameters += parameter.numel();
  report["parameters"] = parameters;
  if (options.adapters) {
    int64_t tuned = 0;
    for (const auto& parameter : task.parameters) tuned += parameter.tensor.numel();
    report["tuned_parameters"] = tuned;
  }
  subject.train(false);
  if (result.stopped) return report;

  if (!options.data.test.empty()) {
    const auto test =
        TokenFile::of(options.data.test, tokenizer, tokenizer_key(run.output), texts_in);
    report["test"] = evaluate(subject.judge(), test, context, evaluation_batch, device).json();
  }
  subject.save(run.output, dtype);
  report["training_tokens"] = texts.train.size();
  write_card(run.output, options, report, run.command);
  return report;
}

}  // namespace cajal::train
