#include <algorithm>
#include <memory>

#include "bench.h"
#include "cajal/core/machine.h"
#include "cajal/core/random.h"
#include "cajal/core/timing.h"
#include "cajal/core/torch.h"
#include "cajal/kernels/gemm_feed_forward.h"
#include "cajal/kernels/memory.h"

namespace cajal {
namespace {

struct PrefillArguments : ColdArguments {
  int64_t width = 2048, neurons = 8192, rows = 512;
  std::vector<std::string> formats = {"bf16", "q8_0", "q4_0", "q4_K", "q6_K"};
};

/// Gated feed-forward blocks in a format, together more than the caches hold; every second one has
/// the weights of the first.
class Blocks {
 public:
  Blocks(Format format, const PrefillArguments& a) {
    const int64_t row = row_bytes(format, a.width), matrix = row * a.neurons;
    const int64_t count = std::max<int64_t>(1, (a.cold_mib << 20) / (3 * matrix));
    memory_ = WeightMemory(3 * matrix * count);
    auto* const data = reinterpret_cast<uint8_t*>(memory_.data());
    Random random(1);
    std::vector<float> values(a.width);
    for (int64_t r = 0; r < 3 * a.neurons; ++r) {
      for (auto& value : values) value = static_cast<float>(random.normal()) * 0.02f;
      encode_row(format, values.data(), a.width, data + r * row);
    }
    for (int64_t i = 1; i < count; ++i) std::copy_n(data, 3 * matrix, data + i * 3 * matrix);
    for (int64_t i = 0; i < count; ++i) {
      const auto part = [&](int64_t k) {
        return row_matrix(format, data + (3 * i + k) * matrix, a.neurons, a.width, "bench");
      };
      blocks_.push_back({.key = part(0), .gate = part(1), .value = part(2)});
    }
  }
  const FeedForwardRows& next() { return blocks_[turn_++ % blocks_.size()]; }

 private:
  WeightMemory memory_;
  std::vector<FeedForwardRows> blocks_;
  size_t turn_ = 0;
};

/// The same block written with libtorch's operations, its weights as torch::nn::Linear has them.
class TorchBlocks {
 public:
  TorchBlocks(torch::Dtype dtype, const PrefillArguments& a) : x_(torch::randn({a.rows, a.width})) {
    x_ = x_.to(dtype);
    const int64_t bytes = 3 * a.neurons * a.width * static_cast<int64_t>(x_.element_size());
    for (int64_t i = 0; i < std::max<int64_t>(1, (a.cold_mib << 20) / bytes); ++i)
      for (const auto& shape : {std::pair(a.neurons, a.width), std::pair(a.neurons, a.width),
                                std::pair(a.width, a.neurons)})
        weights_.push_back((torch::randn({shape.first, shape.second}) * 0.02).to(dtype));
  }
  void run() {
    const torch::NoGradGuard no_gradients;
    const auto* const w = &weights_[3 * (turn_++ % (weights_.size() / 3))];
    const auto hidden = torch::silu(torch::linear(x_, w[0])).mul_(torch::linear(x_, w[1]));
    torch::linear(hidden, w[2]);
  }

 private:
  torch::Tensor x_;
  std::vector<torch::Tensor> weights_;
  size_t turn_ = 0;
};

void run(const PrefillArguments& a) {
  require(a.width > 0 && a.neurons > 0 && a.rows > 0 && a.rounds > 0,
          "bench prefill: width, neurons, rows and rounds must be positive");
  const int threads = a.threads > 0 ? a.threads : available_processors();
  ThreadPool pool(threads);
  set_torch_threads(threads);
  Random random(2);
  std::vector<float> x(a.rows * a.width), y(a.rows * a.width);
  for (auto& value : x) value = static_cast<float>(random.normal());

  std::vector<std::string> names = {"libtorch f32", "libtorch bf16"};
  std::vector<std::unique_ptr<TorchBlocks>> torch_blocks;
  std::vector<std::unique_ptr<Blocks>> blocks;
  std::vector<std::function<void()>> candidates;
  for (const auto dtype : {torch::kFloat32, torch::kBFloat16}) {
    torch_blocks.push_back(std::make_unique<TorchBlocks>(dtype, a));
    candidates.push_back([of = torch_blocks.back().get()] { of->run(); });
  }
  const auto add = [&](const std::string& name, Format format, Precision precision) {
    names.push_back(name);
    blocks.push_back(std::make_unique<Blocks>(format, a));
    candidates.push_back([&, precision, of = blocks.back().get()] {
      feed_forward_many(of->next(), x.data(), a.rows, y.data(), pool, precision);
    });
  };
  add("f32", Format::f32, Precision::f32);
  for (const auto& name : a.formats)
    add(name, from_name<Format>(name, "bench prefill: --format"), Precision::bf16);

  const double peaks[] = {measure_peak(Precision::f32, pool), measure_peak(Precision::bf16, pool)};
  const auto times = time_interleaved(candidates, a.rounds);
  const double work = 6.0 * static_cast<double>(a.width * a.neurons) * static_cast<double>(a.rows);
  Json rows = Json::array();
  if (!a.json)
    fmt::print(
        "gated feed-forward block {} - {}, {} rows, {} threads; peak {:.0f} GFLOP/s f32, {:.0f} "
        "{}\n{:14} {:>9} {:>9} {:>9} {:>15}\n",
        a.width, a.neurons, a.rows, threads, peaks[0] / 1e9, peaks[1] / 1e9,
        has_matrix_unit() ? "bf16 (AMX)" : "without a matrix unit", "", "ms", "GFLOP/s", "of peak",
        "x libtorch bf16");
  for (size_t i = 0; i < names.size(); ++i) {
    const double seconds = times.median_seconds(i), rate = work / seconds;
    const double peak = peaks[i == 0 || names[i] == "f32" ? 0 : 1];
    rows.push_back({{"name", names[i]},
                    {"seconds", seconds},
                    {"gflops", rate / 1e9},
                    {"of_peak", rate / peak},
                    {"over_libtorch_bf16", times.ratio(1, i)}});
    if (!a.json)
      fmt::print("{:14} {:>9.2f} {:>9.0f} {:>9.2f} {:>15.2f}\n", names[i], seconds * 1e3,
                 rate / 1e9, rate / peak, times.ratio(1, i));
  }
  if (a.json)
    fmt::print("{}\n", Json{{"machine", provenance()},
                            {"width", a.width},
                            {"neurons", a.neurons},
                            {"rows", a.rows},
                            {"threads", threads},
                            {"peak_f32_gflops", peaks[0] / 1e9},
                            {"peak_bf16_gflops", peaks[1] / 1e9},
                            {"results", rows}}
                           .dump());
}

void setup(CommandLine& app) {
  const auto a = std::make_shared<PrefillArguments>();
  app.add_option("--width", a->width, "features in and out")->capture_default_str();
  app.add_option("--neurons", a->neurons, "hidden neurons")->capture_default_str();
  app.add_option("--rows", a->rows, "tokens at once")->capture_default_str();
  app.add_option("--format", a->formats, "formats of the weights")->capture_default_str();
  a->cold_mib = 512, a->rounds = 7;
  add_cold_options(app, *a);
  app.callback([a] { run(*a); });
}

const auto registered = benches().add(
    "prefill", {"a gated feed-forward block of many tokens in each format, with libtorch", setup});

}  // namespace
}  // namespace cajal
