#include <dlfcn.h>

#include <filesystem>

#include "../verb.h"
#include "cajal/core/machine.h"
#include "cajal/core/timing.h"
#include "cajal/core/torch.h"
#include "cajal/kernels/limits.h"
#include "cold_timing.h"

namespace cajal {
namespace {

struct Finding {
  std::string what, value, advice;  // advice: what to do, empty when all is well
};

Finding blas() {
  using Config = char* (*)();
  if (const auto config = reinterpret_cast<Config>(dlsym(RTLD_DEFAULT, "openblas_get_config")))
    return {"BLAS", config(), ""};
  if (torch::hasMKL()) return {"BLAS", "MKL", ""};
  return {"BLAS", "not OpenBLAS",
          "install OpenBLAS: the reference BLAS multiplies matrices 25 times slower"};
}

Finding multiply(int threads) {
  set_torch_threads(threads);
  const auto a = torch::randn({1024, 1024}), b = torch::randn({1024, 1024});
  const auto times = time_interleaved({[&] { torch::matmul(a, b); }}, 7, 2);
  const double gflops = 2e-9 * 1024 * 1024 * 1024 / times.median_seconds(0);
  return {"matrix product",
          fmt::format("{:.0f} GFLOP/s fp32, {} thread{}", gflops, threads, threads > 1 ? "s" : ""),
          gflops < 10.0 * threads ? "far below what a current processor does: is OpenBLAS in use?"
                                  : ""};
}

Finding gpu() {
  if (!torch::cuda::is_available()) return {"GPU", "none that this libtorch can use", ""};
  return {"GPU", fmt::format("{} CUDA device(s)", torch::cuda::device_count()), ""};
}

Finding folder(const char* variable) {
  const char* path = std::getenv(variable);
  if (!path) return {variable, "not set", ""};
  return {variable, path, std::filesystem::is_directory(path) ? "" : "no such folder"};
}

/// What no program on this machine can beat, measured for some seconds.
void add_limits(std::vector<Finding>& findings, int threads) {
  for (int count = 1; count <= threads; count = count < threads ? threads : count + 1) {
    ThreadPool pool(count);
    const Pinned pinned(pool);
    const auto name = [&](const char* what) {
      return fmt::format("{}, {} thread{}", what, count, count > 1 ? "s" : "");
    };
    findings.push_back(
        {name("DRAM read"), fmt::format("{:.1f} GB/s", measure_read_bandwidth(pool) / 1e9), ""});
    const auto compute = measure_compute(pool);
    findings.push_back(
        {name("fp32 multiply-add"), fmt::format("{:.0f} GFLOP/s", compute.f32 / 1e9), ""});
    findings.push_back({name("int8 dot"), fmt::format("{:.0f} GOP/s", compute.int8 / 1e9), ""});
  }
}

void report(bool json, bool measure) {
  const auto machine = this_machine();
  std::vector<Finding> findings = {
      {"cajal", version(), ""},
      {"processor", fmt::format("{}, {} threads", machine.processor, machine.threads), ""},
      {"memory", fmt::format("{:.1f} GiB", double(machine.memory_bytes) / (1 << 30)), ""},
      {"SIMD", fmt::format("{}", fmt::join(machine.simd, " ")), ""},
      {"libtorch",
       fmt::format("{}.{}.{}", TORCH_VERSION_MAJOR, TORCH_VERSION_MINOR, TORCH_VERSION_PATCH), ""},
      blas(),
      multiply(1),
      multiply(machine.threads),
      gpu(),
      folder("CAJAL_DATA"),
      folder("CAJAL_GOLDEN")};
  if (measure) add_limits(findings, machine.threads);
  if (json) {
    Json out = Json::object();
    for (const auto& finding : findings) {
      out[finding.what] = finding.value;
      if (!finding.advice.empty()) out["advice"].push_back(finding.what + ": " + finding.advice);
    }
    fmt::print("{}\n", out.dump(2));
    return;
  }
  const int column = measure ? 32 : 16;
  for (const auto& finding : findings) {
    fmt::print("{:<{}}{}\n", finding.what, column, finding.value);
    if (!finding.advice.empty()) fmt::print("{:<{}}! {}\n", "", column, finding.advice);
  }
}

void setup(CommandLine& app, int&) {
  const auto json = std::make_shared<bool>(false), measure = std::make_shared<bool>(false);
  app.add_flag("--json", *json, "one JSON object on stdout");
  app.add_flag("--measure", *measure, "also the limits of memory and arithmetic, for some seconds");
  app.callback([json, measure] { report(*json, *measure); });
}

const auto registered = verbs().add("doctor", {"what this machine and build can do", setup});

}  // namespace
}  // namespace cajal
