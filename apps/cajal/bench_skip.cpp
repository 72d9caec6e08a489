#include <unistd.h>

#include <deque>
#include <numbers>

#include "bench.h"
#include "cajal/atlas/measure.h"
#include "cajal/core/machine.h"
#include "cajal/core/progress.h"
#include "cajal/core/timing.h"
#include "cajal/data/text.h"
#include "cajal/engine/banks.h"
#include "cajal/surgery/predictor.h"
#include "cajal/surgery/regroup.h"
#include "cajal/surgery/sparsity.h"
#include "cajal/surgery/split.h"
#include "cajal/surgery/write.h"
#include "language_model.h"

namespace cajal {
namespace {

namespace fs = std::filesystem;
using engine::Form;
using engine::Network;

struct Options {
  std::string model, text, calibration;
  std::vector<std::string> formats = {"q8_0", "q4_0"};
  int64_t calibration_tokens = 16384, judged_tokens = 4096, decoded = 64;
  int64_t rank = 64, epochs = 10;
  std::vector<double> recalls = {0.9, 0.97};  // that predictors are set to
  double share = 0.5;  // that thresholds leave out, where no neuron falls silent
  int threads = 0, rounds = 7;
  bool json = false;
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
    learn();
    add_dense("dense, as stored", source_.folder);
    for (const auto& name : o_.formats) add_format(from_name<Format>(name, "--format"));
    Progress progress("reading the text", std::ssize(candidates_), "forms");
    for (auto& candidate : candidates_) judge(candidate), progress.add(1);
    time();
    return report();
  }

 private:
  bool silent() const { return !firing_.empty(); }

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
    limit(calibration_, o_.calibration_tokens), limit(judged_, o_.judged_tokens);
    require(std::ssize(judged_) > o_.decoded + 16 && std::ssize(calibration_) > 64,
            "{}: {} tokens to learn from and {} to judge by are too few", o_.text,
            calibration_.size(), judged_.size());
    judged_bytes_ = std::ssize(tokenizer.decode(judged_));
  }

  // Predictors and orders where neurons fall silent, thresholds on gates where they do not.
  void learn() {
    auto& model = source_.model;
    const bool falls_silent =
        activate(model->config.law, torch::full({1}, -100.f)).item<float>() == 0;
    if (falls_silent) {
      firing_ = surgery::firing(model, calibration_, o_.calibration_tokens);
      predictors_ = surgery::train_predictors(
          model, calibration_,
          {.rank = o_.rank, .epochs = o_.epochs, .tokens = o_.calibration_tokens});
      for (const auto& layer : firing_)
        orders_.push_back(surgery::coactivation_order(layer.fires, kTileRows));
    } else if (model->config.gated) {
      thresholds_ = surgery::find_thresholds(model, surgery::SparseRule::cats, o_.share,
                                             calibration_, o_.calibration_tokens);
    }
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

  void add_format(Format format) {
    const auto name = to_name(format);
    const auto path = quantised(format);
    add_dense("dense " + name, path);
    const bool gated = source_.model->config.gated;
    const auto key = gated ? Form::neurons : Form::groups;
    const auto all = [](int64_t, const auto&) { return engine::select_all(); };
    const auto skip = [](int64_t, const auto&) { return engine::skip_silent(); };
    add_banks("dense " + name + ", all in tiles", path, {}, all);
    candidates_.back().dense = true;
    add_banks("bank " + name + ", every neuron", path, {.key = key, .value = Form::neurons}, all);
    if (silent()) {
      exact_.push_back({candidates_.size(), candidates_.size() - 1});
      add_banks("bank " + name + ", exact skip", path, {.key = key, .value = Form::neurons}, skip);
      add_banks("bank " + name + ", skip groups, natural order", path, {}, skip);
      add_banks("bank " + name + ", skip groups, co-activation", path, {.order = orders_}, skip);
      if (gated) return;
      for (const double recall : o_.recalls) add_predicted(name, path, recall);
    } else if (!thresholds_.empty()) {
      add_banks(fmt::format("bank {}, CATS {:.0f} %", name, 100 * o_.share), path,
                {.key = key, .value = Form::neurons}, [&](int64_t layer, const auto&) {
                  return engine::threshold_gate(
                      static_cast<float>(thresholds_[static_cast<size_t>(layer)].size));
                });
    }
  }

  // Thresholds are chosen on the last tenth of the calibration text, which trained nothing.
  void add_predicted(const std::string& name, const fs::path& path, double recall) {
    const engine::BanksOptions how{.order = orders_, .value = Form::neurons};
    double found = 0;
    add_banks(fmt::format("bank {}, predicted, recall {}", name, recall), path, how,
              [&](int64_t layer, const engine::NeuronBank& bank) {
                const auto& [x, fires] = firing_[static_cast<size_t>(layer)];
                const auto held = x.size(0) - x.size(0) / 10;
                const auto p = surgery::at_recall(predictors_[static_cast<size_t>(layer)],
                                                  x.slice(0, held), fires.slice(0, held), recall);
                found += p.recall / static_cast<double>(predictors_.size());
                return selector_of(p, bank);
              });
    candidates_.back().recall = found;
  }

  static engine::Selector selector_of(const surgery::Predictor& p, const engine::NeuronBank& bank) {
    const auto down = surgery::encode(Format::q8_0, p.down.contiguous());
    const auto up = surgery::encode(Format::q8_0, p.up.contiguous());
    const auto shift = p.shift.contiguous();
    engine::Predictor out;
    out.down = row_matrix(Format::q8_0, down.data_ptr(), p.down.size(0), p.down.size(1), "down");
    out.up = row_matrix(Format::q8_0, up.data_ptr(), p.up.size(0), p.up.size(1), "up");
    out.shift.assign(shift.data_ptr<float>(), shift.data_ptr<float>() + shift.numel());
    return engine::predict(out, bank, engine::Selection::Unit::places);
  }

  fs::path quantised(Format format) {
    const auto path = temporary_.path / to_name(format);
    auto model = lm::load(source_.folder);
    const auto census = atlas::blank(model);
    surgery::split(model, surgery::make_plan("all=" + to_name(format), census), census);
    surgery::requantise(model, {.attention = format, .embedding = format});
    surgery::write(model, source_.folder, path);
    return path;
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
    for (size_t l = 0; l < firing_.size(); ++l)
      json["groups"].push_back(
          {{"layer", l},
           {"fires", firing_[l].fires.to(torch::kFloat).mean().item<double>()},
           {"live_groups", surgery::live_groups(firing_[l].fires, {}, kTileRows)},
           {"live_groups_regrouped",
            surgery::live_groups(firing_[l].fires, orders_[l], kTileRows)}});
    return json;
  }

  const Options& o_;
  LanguageModel source_;
  ThreadPool threads_;
  TemporaryFolder temporary_;
  std::vector<int32_t> calibration_, judged_;
  int64_t judged_bytes_ = 0;
  std::vector<surgery::Firing> firing_;
  std::vector<surgery::Predictor> predictors_;
  std::vector<std::vector<int32_t>> orders_;
  std::vector<surgery::Threshold> thresholds_;
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
  app.add_option("--calibration-tokens", o->calibration_tokens)->capture_default_str();
  app.add_option("--judged-tokens", o->judged_tokens)->capture_default_str();
  app.add_option("--tokens", o->decoded, "decoded in a round")->capture_default_str();
  app.add_option("--rank", o->rank, "of the predictors")->capture_default_str();
  app.add_option("--epochs", o->epochs, "that predictors are trained for")->capture_default_str();
  app.add_option("--recall", o->recalls, "of firing neurons that predictors are set to find")
      ->delimiter(',');
  app.add_option("--share", o->share, "of a SwiGLU model's gates below the threshold")
      ->capture_default_str();
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
