#include <optional>

#include "bench.h"
#include "cajal/atlas/correlate.h"
#include "cajal/core/error.h"
#include "cajal/core/json.h"
#include "cajal/core/machine.h"
#include "cajal/core/timing.h"

namespace cajal {
namespace {

struct Options {
  int64_t neurons = 3072, others = 3072, tokens = 4096;
  int rounds = 7;
  bool json = false;
};

/// Correlation as notebooks write it: centred sums of products with libtorch, all in fp32.
void with_libtorch(const torch::Tensor& a, const torch::Tensor& b, torch::Tensor& total) {
  const auto x = a - a.mean(0), y = b - b.mean(0);
  x.square().sum(0), y.square().sum(0);
  total += torch::mm(x.t(), y);
}

Json run(const Options& o) {
  require(o.neurons > 0 && o.others > 0 && o.tokens > 0 && o.rounds > 0,
          "bench correlate: sizes and rounds must be positive");
  set_torch_threads(0);
  const torch::NoGradGuard no_grad;
  const auto a = torch::randn({o.tokens, o.neurons}).clamp_min(0);
  const auto b = torch::randn({o.tokens, o.others}).clamp_min(0);
  const auto sums = [&](Precision precision) {
    return std::make_unique<atlas::Pearson>(o.neurons, o.others,
                                            std::vector{std::pair<int64_t, int64_t>(0, o.others)},
                                            /*within=*/false, precision);
  };
  const auto single = sums(Precision::f32), rounded = sums(Precision::bf16);
  auto total = torch::zeros({o.neurons, o.others});
  torch::Tensor product;
  ThreadPool threads;
  const double peaks[] = {measure_peak(Precision::f32, threads),
                          measure_peak(Precision::bf16, threads)};
  const auto times = time_interleaved(
      {[&] { single->add(a, b); }, [&] { rounded->add(a, b); }, [&] { with_libtorch(a, b, total); },
       [&] { product = torch::mm(a.t(), b); }},
      o.rounds);
  const double pairs = static_cast<double>(o.neurons) * static_cast<double>(o.others) *
                       static_cast<double>(o.tokens);
  Json rows = Json::array();
  const char* const names[] = {"streaming, fp32", "streaming, bf16 products", "libtorch, one piece",
                               "libtorch's product alone"};
  for (size_t i = 0; i < std::size(names); ++i) {
    const double rate = pairs / times.median_seconds(i);
    rows.push_back({{"form", names[i]},
                    {"pair_tokens_per_second", rate},
                    {"gflops", 2e-9 * rate},
                    {"of_libtorch_gemm", times.ratio(3, i)},
                    {"of_peak", 2 * rate / peaks[i == 1]}});
  }
  return {{"neurons", {o.neurons, o.others}},
          {"tokens", o.tokens},
          {"machine", provenance()},
          {"peak_gflops", {{"fp32", peaks[0] / 1e9}, {"bf16", peaks[1] / 1e9}}},
          {"bf16_error",
           (single->rho(0, o.neurons) - rounded->rho(0, o.neurons)).abs().max().item<double>()},
          {"rows", rows}};
}

void print(const Json& json) {
  fmt::print("{:<28}{:>22}{:>10}{:>18}{:>10}\n", "form", "neuron-pair-tokens/s", "GFLOP/s",
             "of libtorch GEMM", "of peak");
  for (const auto& row : json.at("rows"))
    fmt::print("{:<28}{:>22.3e}{:>10.0f}{:>18.2f}{:>10.2f}\n", row.at("form").get<std::string>(),
               row.at("pair_tokens_per_second").get<double>(), row.at("gflops").get<double>(),
               row.at("of_libtorch_gemm").get<double>(), row.at("of_peak").get<double>());
  fmt::print(
      "peak in registers: {:.0f} GFLOP/s fp32, {:.0f} bf16; bf16 moves rho by {:.1e} at most\n",
      json.at("peak_gflops").at("fp32").get<double>(),
      json.at("peak_gflops").at("bf16").get<double>(), json.at("bf16_error").get<double>());
}

void setup(CommandLine& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("--neurons", o->neurons, "of the first model")->capture_default_str();
  app.add_option("--others", o->others, "of the second")->capture_default_str();
  app.add_option("--tokens", o->tokens, "of a piece")->capture_default_str();
  app.add_option("--rounds", o->rounds)->capture_default_str();
  app.add_flag("--json", o->json, "one JSON object on stdout");
  app.callback([o] {
    const auto json = run(*o);
    if (o->json) return fmt::print("{}\n", json.dump());
    print(json);
  });
}

const auto registered =
    benches().add("correlate", {"all pairs of neurons of two models, beside libtorch", setup});

}  // namespace
}  // namespace cajal
