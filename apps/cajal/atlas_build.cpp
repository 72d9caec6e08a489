#include "atlas_build.h"

#include "atlas_report.h"
#include "cajal/atlas/report.h"
#include "cajal/atlas/store.h"
#include "cajal/core/machine.h"
#include "cajal/core/timing.h"
#include "cajal/core/torch.h"
#include "cajal/models/lm/checkpoint.h"

namespace cajal {
namespace {

namespace fs = std::filesystem;

void read_shard(const std::string& text, atlas::MeasureOptions& options) {
  const auto slash = text.find('/');
  try {
    size_t used = 0, used_more = 0;
    const auto first = text.substr(0, slash), second = text.substr(slash + 1);
    options.shard = std::stoll(first, &used), options.shards = std::stoll(second, &used_more);
    if (slash != std::string::npos && used == first.size() && used_more == second.size()) return;
  } catch (const std::exception&) {
  }
  fail("--shard {}: expected PART/PARTS, for example 2/4", text);
}

std::string name_of(const fs::path& folder) {
  const auto path = fs::absolute(folder).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

// What an earlier run of the same command left behind, if a kill ended it.
std::optional<atlas::Census> left_behind(const fs::path& file) {
  if (!fs::exists(file)) return {};
  try {
    return atlas::load(file);
  } catch (const Error& error) {
    fmt::print(stderr, "{}; beginning anew\n", error.what());
    return {};
  }
}

std::optional<atlas::Findings> find(const atlas::Census& census, lm::Transformer& model,
                                    const atlas::Reading* reading, int64_t ablation) {
  if (!census.complete() || census.token_totals.empty()) return {};
  const auto& config = model->config;
  if (config.head != lm::Head::language || !config.final_norm) {
    fmt::print(stderr,
               "no findings: they need a model that predicts the next token after a norm\n");
    return {};
  }
  int64_t neurons = 0;
  for (const auto& layer : census.layers) neurons += layer.neurons;
  Progress progress("findings", neurons + census.layers.back().neurons, "neurons");
  atlas::DescribeOptions options;
  options.ablation_tokens = ablation;
  return atlas::describe(census, model, reading, options, &progress);
}

// The forward pass alone, logits included, over what the census has just read: beside it, unit by
// unit in turn, so that drift of the machine's speed falls on both alike.
class PlainPass {
 public:
  PlainPass(lm::Transformer& model, int64_t context) : model_(model), context_(context) {}

  void operator()(std::span<const int32_t> ids) {
    const torch::NoGradGuard no_grad;
    const Stopwatch watch;
    const auto whole = std::ssize(ids) / context_ * context_;
    if (whole > 0) model_->forward(atlas::windows(model_->config, ids.first(whole), context_));
    if (const auto rest = ids.subspan(whole); !rest.empty())
      model_->forward(atlas::windows(model_->config, rest, std::ssize(rest)));
    seconds += watch.seconds();
    tokens += std::ssize(ids);
  }

  double seconds = 0;
  int64_t tokens = 0;

 private:
  lm::Transformer& model_;
  int64_t context_;
};

struct Merge {
  std::vector<std::string> files;
  std::string output, model, text;
  int64_t ablation = 512;
};

void merge(const Merge& from) {
  auto census = atlas::load(from.files.front());
  for (size_t k = 1; k < from.files.size(); ++k)
    census = atlas::merge(std::move(census), atlas::load(from.files[k]), from.files.front(),
                          from.files[k]);
  std::optional<atlas::Findings> findings;
  if (!from.model.empty()) {
    const auto folder = lm::find_model(from.model);
    auto model = lm::load(folder);
    set_torch_threads(0);
    std::optional<atlas::Reading> reading;
    if (!from.text.empty())
      reading = atlas::read_text(folder, model->config.vocabulary, from.text, census.text_tokens);
    findings = find(census, model, reading ? &*reading : nullptr, from.ablation);
  }
  atlas::save(census, from.output, findings ? &*findings : nullptr);
  fmt::print(stderr, "{}\n", layer_table(census));
}

struct Match {
  std::string file, model, text, baseline = "orthogonal";
  std::vector<std::string> others;
  int64_t tokens = 32768, memory = 4096;
  bool bf16 = false;
  atlas::CorrelateOptions options;
};

void match(Match& from) {
  from.options.turned = from_name<atlas::Basis>(from.baseline, "--baseline");
  require(from.options.turned != atlas::Basis::own, "--baseline own: nothing would be turned");
  from.options.memory = from.memory << 20;
  if (from.bf16) from.options.precision = Precision::bf16;
  const auto census = atlas::load(from.file);
  auto findings = atlas::load_findings(from.file);
  require(findings.has_value(), "{}: an atlas without findings; build it with tables", from.file);
  const auto folder = lm::find_model(from.model);
  auto model = lm::load(folder);
  require(census.model_hash == atlas::fingerprint(model), "{}: atlas of another model than {}",
          from.file, from.model);
  set_torch_threads(0);
  const auto reading = atlas::read_text(folder, model->config.vocabulary, from.text, from.tokens);
  for (const auto& name : from.others) {
    const auto place = lm::find_model(name);
    auto other = lm::load(place);
    // As many tokens do not mean the same tokens.
    const auto& config = other->config;
    require(
        config.vocabulary == model->config.vocabulary &&
            atlas::read_text(place, config.vocabulary, from.text, from.tokens).ids == reading.ids,
        "{} and {} read {} as different tokens; only models of one tokenizer can be matched",
        from.model, name, from.text);
    Progress progress("match " + name, std::ssize(reading.ids), "tokens");
    const auto matches = atlas::correlate(model, other, reading.ids, from.options, &progress);
    atlas::add_matches(*findings, name_of(place), other, matches);
  }
  atlas::save(census, from.file, &*findings);
  fmt::print(stderr, "{}", universal_table(*findings));
}

}  // namespace

void build_atlas(AtlasBuild& from) {
  read_shard(from.shard, from.options);
  from.options.tables = !from.no_tables;
  const auto folder = fs::absolute(lm::find_model(from.model)).lexically_normal();
  auto model = lm::load(folder);
  set_torch_threads(0);
  const auto reading = atlas::read_text(folder, model->config.vocabulary, from.text, from.tokens);
  if (from.options.tables && !from.options.by_layer) {
    const auto& c = model->config;
    const double bytes =
        4.0 * static_cast<double>(c.layers * c.neurons) * static_cast<double>(c.vocabulary);
    const auto memory = static_cast<double>(this_machine().memory_bytes);
    require(
        bytes < 0.6 * memory,
        "{}: counts of every token would take {:.0f} GB of the {:.0f} GB here; --by-layer holds "
        "one layer's, --no-tables none",
        from.model, bytes / 1e9, memory / 1e9);
  }
  const fs::path unfinished = from.output + ".unfinished";
  const auto& config = model->config;
  const auto context =
      from.options.context > 0 ? from.options.context : std::min<int64_t>(512, config.context);
  PlainPass plain(model, context - (config.begin_id >= 0));
  if (from.compare_plain) from.options.after_unit = std::ref(plain);
  if (from.options.by_layer) from.options.scratch = fs::absolute(from.output).parent_path();
  const Stopwatch watch;
  atlas::Checkpoint checkpoint{
      .begun = left_behind(unfinished),
      .save = [&](const atlas::Census& census) { atlas::save(census, unfinished); },
      .seconds = from.save_every};
  if (from.save_every <= 0) checkpoint.save = {};
  auto census = [&] {
    const auto share = std::ssize(reading.ids) / std::max<int64_t>(1, from.options.shards);
    Progress progress("atlas", share * (from.options.by_layer ? model->config.layers : 1),
                      "tokens");
    return atlas::measure(model, reading.ids, from.options, &progress, checkpoint);
  }();
  const auto seconds = watch.seconds() - plain.seconds;
  census.model = name_of(folder);
  census.text = reading.name;
  atlas::add_contexts(census, reading);
  const auto findings = find(census, model, &reading, from.ablation);
  atlas::save(census, from.output, findings ? &*findings : nullptr);
  fs::remove(unfinished);
  fmt::print(
      stderr, "{}\n{} tokens in {:.1f} s ({:.0f} tokens/s, peak memory {} MB), written to {}\n",
      layer_table(census), census.tokens(), seconds, static_cast<double>(census.tokens()) / seconds,
      peak_memory_bytes() >> 20, from.output);
  if (from.compare_plain)
    fmt::print(stderr,
               "the forward pass alone, logits included: {} tokens in {:.1f} s; the census took "
               "{:.2f} times as long\n",
               plain.tokens, plain.seconds, seconds / plain.seconds);
}

void setup_atlas_build(CommandLine& app) {
  auto from = std::make_shared<AtlasBuild>();
  app.add_option("MODEL", from->model, "checkpoint folder")->required();
  app.add_option("--text", from->text, "text file")->required();
  app.add_option("--output", from->output, "the atlas, an SQLite file")->required();
  app.add_option("--tokens", from->tokens, "of the text; 0 = all")->capture_default_str();
  app.add_option("--context", from->options.context, "tokens a window; 0 = 512 or the model's");
  app.add_option("--batch", from->options.batch, "windows in one go")->capture_default_str();
  app.add_option("--samples", from->options.samples, "tokens whose activations are kept")
      ->capture_default_str();
  app.add_option("--seed", from->options.seed, "of the sample")->capture_default_str();
  app.add_option("--shard", from->shard, "PART/PARTS: count only this part of the text")
      ->capture_default_str();
  app.add_option("--orders", from->options.orders, "n-grams of 2 to so many tokens, at most 5")
      ->capture_default_str();
  app.add_option("--gram-limit", from->options.gram_limit,
                 "different n-grams of a neuron; one with more is given up")
      ->capture_default_str();
  app.add_option("--threshold", from->options.threshold,
                 "fired: |a| above this; 0 = input to the law (or gate) above 0")
      ->capture_default_str();
  app.add_flag("--no-tables", from->no_tables, "sums only: no shapes, positions, tokens, findings");
  app.add_flag("--by-layer", from->options.by_layer,
               "one layer in memory at a time, the stream in a file beside the output");
  app.add_flag("--compare-plain", from->compare_plain,
               "time the forward pass alone on the same text, in turn with the census");
  app.add_option("--ablation", from->ablation,
                 "tokens on which neurons of the last layer are ablated; 0 = none are")
      ->capture_default_str();
  app.add_option("--save-every", from->save_every,
                 "seconds between saves from which a killed run goes on; 0 = none")
      ->capture_default_str();
  app.callback([from] { build_atlas(*from); });
}

void setup_atlas_merge(CommandLine& app) {
  auto from = std::make_shared<Merge>();
  app.add_option("FILES", from->files, "atlases of parts of one text")->required()->expected(1, -1);
  app.add_option("--output", from->output, "the atlas of all")->required();
  app.add_option("--model", from->model, "the model, to say what its neurons do");
  app.add_option("--text", from->text, "the text, for words and ablations");
  app.add_option("--ablation", from->ablation, "tokens of ablations")->capture_default_str();
  app.callback([from] { merge(*from); });
}

void setup_atlas_match(CommandLine& app) {
  auto from = std::make_shared<Match>();
  app.add_option("ATLAS", from->file, "atlas of MODEL, which is changed")->required();
  app.add_option("MODEL", from->model, "checkpoint folder")->required();
  app.add_option("--with", from->others, "models of the same tokenizer")->required();
  app.add_option("--text", from->text, "text file")->required();
  app.add_option("--tokens", from->tokens, "of the text; 0 = all")->capture_default_str();
  app.add_option("--baseline", from->baseline, "turn of the other basis: orthogonal or gaussian")
      ->capture_default_str();
  app.add_flag("--bf16", from->bf16, "products of numbers of 8 bits: faster, rho to about 1e-3");
  app.add_option("--memory", from->memory, "MB for sums; more neurons take more passes")
      ->capture_default_str();
  app.add_option("--seed", from->options.seed, "of the turn")->capture_default_str();
  app.callback([from] { match(*from); });
}

}  // namespace cajal
