#include <unistd.h>

#include <deque>
#include <numbers>
#include <numeric>

#include "bench.h"
#include "bench_skip_learned.h"
#include "cajal/atlas/measure.h"
#include "cajal/core/machine.h"
#include "cajal/core/progress.h"
#include "cajal/core/timing.h"
#include "cajal/data/text.h"
#include "cajal/engine/banks.h"
#include "cajal/surgery/regroup.h"
#include "language_model.h"

namespace cajal {
namespace {

namespace fs = std::filesystem;
using bench_skip::LearnOptions;
using engine::Form;
using engine::Network;

struct Options {
  std::string model, text, calibration;
  std::vector<std::string> formats = {"q8_0", "q4_0"};
  LearnOptions learn;
  int64_t judged_tokens = 4096, decoded = 64;
  std::vector<double> recalls = {0.9, 0.97};  // that predictors are set to
  int threads = 0, rounds = 7;
  bool planned = false, json = false;
};

/// A folder that goes away again.
struct TemporaryFolder {
  fs::path path = fs::temp_directory_path() / fmt::format("cajal-bench-{}", getpid());
  TemporaryFolder() { fs::create_directories(path); }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

/// One way to run the model.
struct Candidate {
  std::string name;
  std::unique_ptr<Network> network;
  std::unique_ptr<engine::PassCount> count = std::make_unique<engine::PassCount>();
  bool dense = false;
  double recall = 0;  // of a predictor
  double bits_per_byte = 0, nats_per_token = 0, over_fastest_dense = 0, active = 1,
         bytes_a_token = 0, tokens_per_second = 0, speed = 1;
  double largest_difference = -1;  // of its logits from those of the dense form it stands for
};

class SkipBench {
 public:
  explicit SkipBench(const Options& o)
      : o_(o), source_(open_language_model(o.model, o.threads)), threads_(o.threads) {
    require(!source_.model->config.vision(), "{} reads images", o.model);
    read_texts();
  }

  Json run() {
    learned_ = bench_skip::learn(source_.model, calibration_, o_.learn);
    add_dense("dense, as stored", source_.folder);
    for (const auto& name : o_.formats) add_format(from_name<Format>(name, "--format"));
    if (o_.planned) add_planned();
    Progress progress("reading the text", std::ssize(candidates_), "forms");
    for (auto& candidate : candidates_) judge(candidate), progress.add(1);
    time();
    return report();
  }

 private:
  void read_texts() {
    const auto& tokenizer = source_.need_tokenizer();
    const auto text = data::read_text(o_.text);
    judged_ = tokenizer.encode(text, text::Specials::without);
    if (o_.calibration.empty()) {  // the first half learns, the second judges
      calibration_.assign(judged_.begin(), judged_.begin() + std::ssize(judged_) / 2);
      judged_.erase(judged_.begin(), judged_.begin() + std::ssize(judged_) / 2);
    } else {
      calibration_ = tokenizer.encode(data::read_text(o_.calibration), text::Specials::without);
    }
    const auto limit = [](std::vector<int32_t>& ids, int64_t most) {
      if (std::ssize(ids) > most) ids.resize(static_cast<size_t>(most));
    };
    limit(calibration_, o_.learn.tokens), limit(judged_, o_.judged_tokens);
    require(std::ssize(judged_) > o_.decoded + 16 && std::ssize(calibration_) > 64,
            "{}: {} tokens to learn from and {} to judge by are too few", o_.text,
            calibration_.size(), judged_.size());
    judged_bytes_ = std::ssize(tokenizer.decode(judged_));
  }

  Candidate& add(const std::string& name, const fs::path& path) {
    auto& out = candidates_.emplace_back();
    out.name = name;
    out.network =
        std::make_unique<Network>(Network::open(path, {.layout = engine::Layout::stored}));
    return out;
  }
  void add_dense(const std::string& name, const fs::path& path) {
    auto& out = add(name, path);
    out.dense = true;
    out.network->pack(threads_);
  }

  void add_banks(const std::string& name, const fs::path& path, const engine::BanksOptions& how,
                 const engine::LayerSelector& selector) {
    auto& out = add(name, path);
    engine::use_banks(*out.network, how, selector, out.count.get());
    out.network->pack(threads_);
  }

  static engine::Selector all(int64_t, const engine::NeuronBank&) { return engine::select_all(); }
  static engine::Selector skip(int64_t, const engine::NeuronBank&) { return engine::skip_silent(); }

  void add_format(Format format) {
    const auto name = to_name(format);
    const auto path = temporary_.path / name;
    const auto plan = surgery::make_plan("all=" + name, atlas::blank(source_.model));
    bench_skip::write_planned(source_.folder, plan, format, path);
    add_dense("dense " + name, path);
    add_banks("dense " + name + ", all in tiles", path, {}, all);
    candidates_.back().dense = true;
    add_skipping(name, path);
    if (learned_.silent()) {
      add_banks(name + ", skip groups, natural order", path, {}, skip);
      add_banks(name + ", skip groups, co-activation", path, {.order = learned_.coactivation},
                skip);
      for (const double recall : o_.recalls)
        if (!learned_.predictors.empty()) add_predicted(name, path, recall);
    } else if (!learned_.thresholds.empty()) {
      add_teal(name, path);
      add_heavy(name, path);
    }
  }

  /// What needs no guess: silent neurons, or gates below a threshold.
  void add_skipping(const std::string& name, const fs::path& path) {
    const auto key = source_.model->config.gated ? Form::neurons : Form::groups;
    const engine::BanksOptions how{.key = key, .value = Form::neurons};
    if (learned_.silent()) {
      add_banks(name + ", by neuron, none skipped", path, how, all);
      exact_.push_back({candidates_.size(), candidates_.size() - 1});
      add_banks(name + ", exact skip", path, how, skip);
    } else if (!learned_.thresholds.empty()) {
      add_banks(
          fmt::format("{}, CATS {:.0f} %", name, 100 * o_.learn.share), path, how,
          [&](int64_t layer, const auto&) {
            return engine::threshold_gate(learned_.thresholds[static_cast<size_t>(layer)].gate);
          });
    }
  }

  void add_teal(const std::string& name, const fs::path& path) {
    add_banks(fmt::format("{}, TEAL {:.0f} %", name, 100 * o_.learn.share), path,
              {.key = Form::inputs, .gate = Form::inputs, .value = Form::neurons},
              [&](int64_t layer, const auto&) {
                const auto& of = learned_.thresholds[static_cast<size_t>(layer)];
                return engine::threshold_inputs(of.input, of.active);
              });
  }

  void add_heavy(const std::string& name, const fs::path& path) {
    add_banks(fmt::format("{}, heaviest {:.0f} %", name, 100 * (1 - o_.learn.share)), path,
              {.order = learned_.heavy}, [&](int64_t, const engine::NeuronBank& bank) {
                std::vector<int32_t> groups(static_cast<size_t>(
                    std::ceil((1 - o_.learn.share) * static_cast<double>(bank.groups()))));
                std::iota(groups.begin(), groups.end(), 0);
                return engine::select_groups(groups);
              });
  }

  // Layers where a predictor does not pay skip exactly.
  void add_predicted(const std::string& name, const fs::path& path, double recall) {
    engine::BanksOptions how{.value = Form::neurons};
    std::vector<surgery::Predictor> set;
    double found = 0;
    int64_t paying = 0;
    for (size_t l = 0; l < learned_.predictors.size(); ++l) {
      auto [predictor, pays] = bench_skip::set_predictor(learned_, l, recall);
      how.layer_key.push_back(pays ? Form::neurons : Form::groups);
      found += pays ? predictor.recall : 0, paying += pays;
      set.push_back(std::move(predictor));
    }
    if (paying == 0) return;
    add_banks(fmt::format("{}, predicted at {} in {} layers", name, recall, paying), path, how,
              [&](int64_t layer, const engine::NeuronBank& bank) {
                return bank.key_form() == Form::neurons
                           ? bench_skip::selector_of(set[static_cast<size_t>(layer)], bank)
                           : engine::skip_silent();
              });
    candidates_.back().recall = found / static_cast<double>(paying);
  }

  void add_planned() {
    const auto path = temporary_.path / "planned";
    const auto plan = bench_skip::planned(source_.model, calibration_, o_.learn.tokens);
    bench_skip::write_planned(source_.folder, plan, Format::q8_0, path);
    add_banks("dense, planned formats", path, {}, all);
    candidates_.back().dense = true;
    add_skipping("planned formats", path);
  }

  // Bits a byte over the text to be judged, and what is read for a token that is decoded.
  void judge(Candidate& candidate) {
    const auto& network = *candidate.network;
    const int64_t context = std::min<int64_t>(512, network.config().context);
    const int64_t vocabulary = network.config().vocabulary;
    double nats = 0;
    for (int64_t begin = 0; begin + 1 < std::ssize(judged_); begin += context) {
      const int64_t count = std::min<int64_t>(context, std::ssize(judged_) - 1 - begin);
      engine::Cache cache(network.config(), count, network.cache_format());
      const auto logits = network.forward(
          std::span(judged_).subspan(static_cast<size_t>(begin), static_cast<size_t>(count)), count,
          cache, threads_);
      for (int64_t t = 0; t < count; ++t) {
        const float* row = logits.data() + t * vocabulary;
        const double most = *std::max_element(row, row + vocabulary);
        double sum = 0;
        for (int64_t v = 0; v < vocabulary; ++v) sum += std::exp(row[v] - most);
        nats += most + std::log(sum) - row[judged_[static_cast<size_t>(begin + t + 1)]];
      }
    }
    candidate.nats_per_token = nats / static_cast<double>(std::ssize(judged_) - 1);
    candidate.bits_per_byte = nats / std::numbers::ln2 / static_cast<double>(judged_bytes_);
    *candidate.count = {};
    const auto logits = decode(candidate);
    const auto& count = *candidate.count;
    candidate.bytes_a_token = static_cast<double>(network.bytes_per_token());
    if (count.of == 0) return;
    candidate.active = static_cast<double>(count.neurons) / static_cast<double>(count.of);
    for (const auto& layer : network.layers)
      candidate.bytes_a_token -= static_cast<double>(layer.stored->bytes());
    candidate.bytes_a_token += static_cast<double>(count.bytes) / static_cast<double>(o_.decoded);
    for (const auto& [exact, dense] : exact_) {
      if (&candidates_[exact] != &candidate) continue;
      const auto expected = decode(candidates_[dense]);
      candidate.largest_difference = 0;
      for (size_t i = 0; i < logits.size(); ++i)
        candidate.largest_difference = std::max(
            candidate.largest_difference, static_cast<double>(std::fabs(logits[i] - expected[i])));
    }
  }

  // Reads the text to be judged one token after another; the logits of the last one.
  std::vector<float> decode(const Candidate& candidate) {
    const auto& network = *candidate.network;
    engine::Cache cache(network.config(), o_.decoded, network.cache_format());
    std::vector<float> logits;
    for (int64_t t = 0; t < o_.decoded; ++t)
      logits = network.forward(std::span(judged_).subspan(static_cast<size_t>(t), 1), 1, cache,
                               threads_);
    return logits;
  }

  void time() {
    std::vector<std::function<void()>> calls;
    for (const auto& candidate : candidates_) calls.push_back([&] { decode(candidate); });
    const auto times = time_interleaved(calls, o_.rounds);
    for (size_t i = 0; i < candidates_.size(); ++i) {
      candidates_[i].tokens_per_second = static_cast<double>(o_.decoded) / times.median_seconds(i);
      candidates_[i].speed = times.ratio(0, i);
    }
    for (size_t i = 0; i < candidates_.size(); ++i) {
      auto& of = candidates_[i];
      for (size_t d = 0; d < candidates_.size(); ++d) {  // the fastest dense one as good
        const bool as_good = candidates_[d].nats_per_token <= of.nats_per_token + 0.01;
        if (!candidates_[d].dense || !as_good) continue;
        const double ratio = times.ratio(d, i);
        if (of.over_fastest_dense == 0 || ratio < of.over_fastest_dense)
          of.over_fastest_dense = ratio;
      }
    }
  }

  Json report() {
    Json json = {{"model", o_.model},
                 {"threads", threads_.size()},
                 {"machine", provenance()},
                 {"rows", Json::array()},
                 {"groups", Json::array()}};
    const auto& dense = candidates_.front();
    for (const auto& c : candidates_)
      json["rows"].push_back(
          {{"form", c.name},
           {"megabytes_a_token", c.bytes_a_token / 1e6},
           {"bits_per_byte", c.bits_per_byte},
           {"perplexity_change", std::exp(c.nats_per_token - dense.nats_per_token) - 1},
           {"active_share", c.active},
           {"recall", c.recall},
           {"tokens_per_second", c.tokens_per_second},
           {"times_first", c.speed},
           {"times_fastest_dense_as_good", c.over_fastest_dense},
           {"largest_logit_difference", c.largest_difference}});
    for (size_t l = 0; l < learned_.firing.size(); ++l) {
      const auto& fires = learned_.firing[l].fires;
      json["groups"].push_back(
          {{"layer", l},
           {"fires", fires.to(torch::kFloat).mean().item<double>()},
           {"live_groups", surgery::live_groups(fires, {}, kTileRows)},
           {"live_groups_regrouped",
            surgery::live_groups(fires, learned_.coactivation[l], kTileRows)}});
    }
    return json;
  }

  const Options& o_;
  LanguageModel source_;
  ThreadPool threads_;
  TemporaryFolder temporary_;
  std::vector<int32_t> calibration_, judged_;
  int64_t judged_bytes_ = 0;
  bench_skip::Learned learned_;
  std::deque<Candidate> candidates_;
  std::vector<std::pair<size_t, size_t>> exact_;  // a form that skips, and its dense form
};

void print(const Json& json) {
  fmt::print("{:<42}{:>10}{:>10}{:>11}{:>9}{:>8}{:>10}{:>8}{:>8}\n", "form", "MB/token",
             "bits/byte", "perplexity", "active", "recall", "tokens/s", "times", "dense");
  for (const auto& row : json.at("rows")) {
    const auto figure = [&](const char* name) { return row.at(name).get<double>(); };
    fmt::print(
        "{:<42}{:>10.2f}{:>10.4f}{:>+9.2f} %{:>7.1f} %{:>8}{:>10.1f}{:>8.2f}{:>8.2f}",
        row.at("form").get<std::string>(), figure("megabytes_a_token"), figure("bits_per_byte"),
        100 * figure("perplexity_change"), 100 * figure("active_share"),
        figure("recall") > 0 ? fmt::format("{:.0f} %", 100 * figure("recall")) : "",
        figure("tokens_per_second"), figure("times_first"), figure("times_fastest_dense_as_good"));
    if (figure("largest_logit_difference") >= 0)
      fmt::print("  logits differ by {:.1e}", figure("largest_logit_difference"));
    fmt::print("\n");
  }
  if (json.at("groups").empty()) return;
  fmt::print("\n{:<8}{:>10}{:>24}{:>24}\n", "layer", "fires", "groups of 32 alive", "regrouped");
  for (const auto& row : json.at("groups"))
    fmt::print("{:<8}{:>8.1f} %{:>22.1f} %{:>22.1f} %\n", row.at("layer").get<int64_t>(),
               100 * row.at("fires").get<double>(), 100 * row.at("live_groups").get<double>(),
               100 * row.at("live_groups_regrouped").get<double>());
}

void setup(CommandLine& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "checkpoint folder with a tokenizer")->required();
  app.add_option("--text", o->text, "text file that is decoded and judged by")->required();
  app.add_option("--calibration", o->calibration,
                 "text that predictors and orders learn from (default: the first half of --text)");
  app.add_option("--format", o->formats, "of the weights, as q8_0,q4_0")->delimiter(',');
  app.add_option("--calibration-tokens", o->learn.tokens)->capture_default_str();
  app.add_option("--judged-tokens", o->judged_tokens)->capture_default_str();
  app.add_option("--tokens", o->decoded, "decoded in a round")->capture_default_str();
  app.add_option("--rank", o->learn.rank, "of the predictors")->capture_default_str();
  app.add_option("--epochs", o->learn.epochs, "that predictors are trained for")
      ->capture_default_str();
  app.add_option("--recall", o->recalls, "of firing neurons that predictors are set to find")
      ->delimiter(',');
  app.add_option("--predictors", o->learn.predictors,
                 "file that keeps what was trained, and is read when it is there");
  app.add_option("--share", o->learn.share, "of a SwiGLU model's numbers below the thresholds")
      ->capture_default_str();
  app.add_flag("--planned", o->planned, "formats that the planner chooses, too");
  app.add_option("--rounds", o->rounds, "of all forms in turn")->capture_default_str();
  app.add_option("--threads", o->threads, "0: all");
  app.add_flag("--json", o->json, "print one JSON object");
  app.callback([o] {
    const auto json = SkipBench(*o).run();
    if (o->json) return fmt::print("{}\n", json.dump());
    print(json);
  });
}

const auto registered = benches().add(
    "skip", {"a trained model with silent neurons skipped: speed, quality, what is read", setup});

}  // namespace
}  // namespace cajal
