#include "activation_time.h"

#include <algorithm>

#include "cajal/core/machine.h"
#include "cajal/core/timing.h"
#include "cajal/core/torch.h"
#include "cajal/kernels/laws.h"
#include "cajal/layers/layer.h"

namespace cajal {
namespace {

struct ActivationArguments {
  int64_t elements = 4'000'000;  // 16 MB: beyond the caches, and memory that is used again
  int threads = 0, rounds = 7;
  std::vector<std::string> names = {};
  bool json = false;
};

struct ActivationTime {
  std::string name;
  double nanoseconds = 0;            // forward, of a number of x
  double forward = 0, backward = 0;  // over copies of the bytes that they must read and write
};

/// The laws in their order, then the activations that are layers of another kind.
std::vector<std::string> all_activations() {
  std::vector<std::string> names;
  for (const auto& law : laws::all()) names.emplace_back(law.name);
  for (const auto& [name, kind] : layers::registry().entries())
    if (kind.summary.starts_with("activation: ") && laws::find(name) == nullptr)
      names.emplace_back(name);
  return names;
}

ActivationTime time_one(const std::string& name, const ActivationArguments& a) {
  constexpr int64_t kRows = 256, kChannels = 4;
  const auto& kind = layers::registry().at(name);
  const auto layer = layers::build(name, kind.example);
  const auto per_channel = std::max<int64_t>(1, a.elements / (kRows * kChannels));
  auto x = torch::randn({kRows, kChannels, per_channel});
  auto leaf = x.clone().requires_grad_(true);
  const auto port = layer.inputs.at(0).name, out = layer.outputs.at(0).name;
  const auto apply = [&](const torch::Tensor& to) { return layer.call({{port, to}}).at(out); };
  torch::Tensor y;
  {
    const torch::NoGradGuard no_grad;
    y = apply(x);
  }
  auto wanted = layer.module->parameters();
  wanted.erase(std::remove_if(wanted.begin(), wanted.end(),
                              [](const torch::Tensor& p) { return !p.requires_grad(); }),
               wanted.end());
  wanted.push_back(leaf);
  const auto dy = torch::randn_like(y);
  const auto times = time_interleaved(
      {[&] { x.clone(); },
       [&] {
         const torch::NoGradGuard no_grad;
         apply(x);
       },
       [&] { torch::autograd::grad({apply(leaf)}, wanted, {dy}, c10::nullopt, false, true); }},
      a.rounds, 2);
  // Forward moves x and y, backward x, dy and dx; a copy moves twice x.
  const auto in = static_cast<double>(x.numel()), back = static_cast<double>(y.numel());
  return {name, 1e9 * times.median_seconds(1) / in, times.ratio(1, 0) / ((in + back) / (2 * in)),
          times.ratio(2, 0) / ((3 * in + 2 * back) / (2 * in))};
}

void run(const ActivationArguments& a) {
  require(a.elements > 0 && a.rounds > 0,
          "activation time: elements and rounds must be positive, got {} and {}", a.elements,
          a.rounds);
  const auto known = all_activations();
  for (const auto& name : a.names)
    require(std::find(known.begin(), known.end(), name) != known.end(),
            "no activation is called '{}'{}", name,
            did_you_mean(name, {known.begin(), known.end()}));
  set_torch_threads(a.threads);
  seed_everything(1);
  Json rows = Json::array();
  if (!a.json)
    fmt::print(
        "{} numbers in fp32, {} threads; times over a copy of the same bytes, median of {}\n"
        "{:<24} {:>12} {:>9} {:>22}\n",
        a.elements, torch::get_num_threads(), a.rounds, "activation", "ns a number", "forward",
        "forward and backward");
  for (const auto& name : a.names.empty() ? known : a.names) {
    const auto t = time_one(name, a);
    rows.push_back({{"name", t.name},
                    {"forward_ns_per_element", t.nanoseconds},
                    {"forward_over_copy", t.forward},
                    {"forward_backward_over_copy", t.backward}});
    if (!a.json)
      fmt::print("{:<24} {:>12.3f} {:>9.2f} {:>22.2f}\n", t.name, t.nanoseconds, t.forward,
                 t.backward);
  }
  if (a.json)
    fmt::print("{}\n", Json{{"machine", provenance()},
                            {"elements", a.elements},
                            {"threads", torch::get_num_threads()},
                            {"rounds", a.rounds},
                            {"results", rows}}
                           .dump());
}

}  // namespace

void setup_activation_time(CommandLine& app) {
  const auto a = std::make_shared<ActivationArguments>();
  app.add_option("names", a->names, "activations of `cajal layer list` (default: all)");
  app.add_option("--elements", a->elements, "numbers that go through each")->capture_default_str();
  app.add_option("--threads", a->threads, "0: one for each processor")->capture_default_str();
  app.add_option("--rounds", a->rounds, "timed rounds")->capture_default_str();
  app.add_flag("--json", a->json, "one JSON object on stdout");
  app.callback([a] { run(*a); });
}

}  // namespace cajal
