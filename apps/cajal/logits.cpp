#include <algorithm>
#include <set>

#include "../verb.h"
#include "cajal/core/torch_tensors.h"
#include "cajal/engine/network.h"
#include "language_model.h"

namespace cajal {
namespace {

constexpr int64_t kShown = 10;

struct LogitsArguments {
  std::string model, tokens, inputs, output;
  std::vector<std::string> hooks;
  std::string engine;
  bool json = false;
};

struct Inputs {
  torch::Tensor values;  // ids or pixels
  lm::Pass pass;
};

torch::Tensor integers(const NamedTensors& tensors, const std::string& name,
                       const std::string& where) {
  const auto it = tensors.find(name);
  if (it == tensors.end()) return {};
  require(!it->second.is_floating_point(), "{}: tensor '{}' is {}, expected I64 or I32", where,
          name, dtype_name(stored_dtype(it->second.scalar_type(), name)));
  return it->second.to(torch::kLong);
}

Inputs read_inputs(const LogitsArguments& arguments, const lm::Config& config) {
  Inputs in;
  if (!arguments.tokens.empty()) {
    require(!config.vision(), "--tokens: a {} model reads images; give --inputs with pixel_values",
            to_name(config.family));
    const auto ids = parse_ids(arguments.tokens, "--tokens");
    in.values = torch::tensor(ids, torch::kInt).to(torch::kLong).unsqueeze(0);
    return in;
  }
  require(!arguments.inputs.empty(), "logits: give --tokens 1,2,3 or --inputs FILE.safetensors");
  const auto tensors = load_tensors(arguments.inputs);
  const std::string name = config.vision() ? "pixel_values" : "input_ids";
  const auto it = tensors.find(name);
  require(it != tensors.end(), "{}: tensor '{}' is missing; a {} model reads it", arguments.inputs,
          name, to_name(config.family));
  if (config.vision()) {
    require(it->second.is_floating_point(), "{}: tensor '{}' is not of a floating type",
            arguments.inputs, name);
    in.values = it->second.to(torch::kFloat);
    return in;
  }
  in.values = integers(tensors, name, arguments.inputs);
  in.pass.mask = integers(tensors, "attention_mask", arguments.inputs);
  in.pass.token_types = integers(tensors, "token_type_ids", arguments.inputs);
  return in;
}

// Points that no pass of this model comes by are refused with the nearest there is.
void refuse_unvisited(const std::vector<std::string>& patterns, const NamedTensors& found,
                      lm::Transformer& model, const Inputs& in) {
  for (const auto& given : patterns) {
    const auto pattern = lm::full_hook_name(given);
    const bool met = std::any_of(found.begin(), found.end(), [&](const auto& entry) {
      return lm::matches(pattern, entry.first);
    });
    if (met) continue;
    std::set<std::string> all;
    lm::Hooks hooks;
    hooks.add("*", [&](std::string_view name, const torch::Tensor&) {
      all.insert(std::string(name));
      return torch::Tensor();
    });
    auto pass = in.pass;
    pass.hooks = &hooks;
    model->forward(in.values, pass);
    fail("--hooks: no point of this model is called '{}'{}", given,
         did_you_mean(pattern, {all.begin(), all.end()}));
  }
}

NamedTensors compute(lm::Transformer& model, Inputs& in, const std::vector<std::string>& patterns) {
  NamedTensors out, hooked;
  lm::Hooks hooks;
  const auto keep = [](NamedTensors& into, std::string key) {
    return [&into, key](std::string_view name, const torch::Tensor& value) {
      into[key.empty() ? std::string(name) : key] = value.to(torch::kFloat).clone();
      return torch::Tensor();
    };
  };
  for (const auto& pattern : patterns) hooks.add(pattern, keep(hooked, ""));
  hooks.add("pooler.hook_pooler_out", keep(out, "pooler_output"));
  hooks.add("nsp_head.hook_nsp_out", keep(out, "seq_relationship_logits"));
  auto pass = in.pass;
  pass.hooks = &hooks;
  const auto answer = model->forward(in.values, pass).to(torch::kFloat);
  refuse_unvisited(patterns, hooked, model, in);
  out[model->config.head == lm::Head::none ? "last_hidden_state" : "logits"] = answer;
  out.merge(hooked);
  return out;
}

// The same by the engine, without libtorch.
NamedTensors compute_by_engine(const std::filesystem::path& path, const std::string& arithmetic,
                               const torch::Tensor& ids) {
  const auto network = engine::Network::open(
      path, {.arithmetic = from_name<engine::Arithmetic>(arithmetic, "--engine")});
  ThreadPool threads;
  const int64_t batch = ids.size(0), tokens = ids.size(1);
  auto logits = torch::empty({batch, tokens, network.config().vocabulary});
  for (int64_t b = 0; b < batch; ++b) {
    const auto row = ids[b].to(torch::kInt).contiguous();
    engine::Cache cache(network.config(), tokens, CacheFormat::f32);
    const auto one = network.forward({row.data_ptr<int32_t>(), static_cast<size_t>(tokens)}, tokens,
                                     cache, threads);
    std::copy(one.begin(), one.end(), logits[b].data_ptr<float>());
  }
  return {{"logits", logits}};
}

std::string label(const LanguageModel& opened, int64_t id) {
  const auto& config = opened.model->config;
  if (config.head != lm::Head::classes)
    return opened.tokenizer && opened.tokenizer->contains(id)
               ? opened.text_of(std::vector{static_cast<int32_t>(id)})
               : "";
  const auto labels = config.source.find("id2label");
  const auto key = std::to_string(id);
  if (labels == config.source.end() || !labels->contains(key)) return "";
  const auto& name = labels->at(key);
  return name.is_string() ? name.get<std::string>() : name.dump();
}

void print_likeliest(const LanguageModel& opened, const torch::Tensor& logits, bool json) {
  const auto last = logits.dim() == 3 ? logits.select(0, 0).select(0, -1) : logits.select(0, 0);
  const auto [values, ids] = last.topk(std::min(kShown, last.size(0)));
  const auto probability = torch::softmax(last, 0).index_select(0, ids);
  Json rows = Json::array();
  for (int64_t i = 0; i < ids.size(0); ++i) {
    const auto id = ids[i].item<int64_t>();
    rows.push_back({{"id", id},
                    {"text", label(opened, id)},
                    {"logit", values[i].item<float>()},
                    {"probability", probability[i].item<float>()}});
  }
  if (json) return fmt::print("{}\n", Json{{"likeliest", rows}}.dump());
  for (const auto& row : rows)
    fmt::print("{:>7}  {:6.2f} %  {:8.3f}  {}\n", row["id"].get<int64_t>(),
               100 * row["probability"].get<double>(), row["logit"].get<double>(),
               row["text"].dump());
}

void run(const LogitsArguments& arguments) {
  const torch::NoGradGuard no_grad;
  auto opened = open_language_model(arguments.model);
  auto in = read_inputs(arguments, opened.model->config);
  auto patterns = arguments.hooks;
  for (auto& pattern : patterns)
    if (pattern == "all") pattern = "*";
  require(patterns.empty() || !arguments.output.empty(), "--hooks needs --output FILE.safetensors");
  require(arguments.engine.empty() || (patterns.empty() && !in.pass.mask.defined()),
          "--engine runs without hooks and masks");
  const auto out = arguments.engine.empty()
                       ? compute(opened.model, in, patterns)
                       : compute_by_engine(opened.folder, arguments.engine, in.values);
  if (!arguments.output.empty()) {
    save_tensors(arguments.output, out);
    if (!arguments.json) return;
    Json shapes = Json::object();
    for (const auto& [name, value] : out) shapes[name] = value.sizes().vec();
    return fmt::print("{}\n", Json{{"output", arguments.output}, {"tensors", shapes}}.dump());
  }
  require(out.count("logits"), "{}: a model without a head has no logits; give --output",
          opened.folder.string());
  print_likeliest(opened, out.at("logits"), arguments.json);
}

void setup(CommandLine& app, int&) {
  const auto arguments = std::make_shared<LogitsArguments>();
  app.add_option("MODEL", arguments->model,
                 "checkpoint folder, GGUF file, or an embedded model's name")
      ->required();
  auto* tokens = app.add_option("--tokens", arguments->tokens, "token ids, as 1,2,3");
  app.add_option("--inputs", arguments->inputs,
                 "safetensors with input_ids [batch, tokens] (attention_mask, token_type_ids) or "
                 "pixel_values")
      ->excludes(tokens);
  app.add_option("--output", arguments->output, "safetensors to write logits and hooks to");
  app.add_option("--hooks", arguments->hooks,
                 "points to write too, as blocks.0.mlp.hook_post,pattern3; * and all allowed")
      ->delimiter(',');
  app.add_option("--engine", arguments->engine,
                 "run without libtorch: exact (fp32 activations), or rounded as in decoding");
  app.add_flag("--json", arguments->json, "print one JSON object");
  app.callback([=] { run(*arguments); });
}

const auto registered =
    verbs().add("logits", {"what a model answers, and any point inside it", setup});

}  // namespace
}  // namespace cajal
