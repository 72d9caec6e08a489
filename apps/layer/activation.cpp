#include "../verb.h"
#include "activation_time.h"
#include "cajal/core/json.h"
#include "cajal/neurons/elementwise.h"
#include "cajal/neurons/fit.h"
#include "cajal/neurons/probe.h"

namespace cajal {
namespace {

struct Request {
  std::string name;
  double range = 3;
  bool json = false;
};

Json described(const laws::Law& law) {
  Json parameters = Json::array();
  for (const auto& parameter : law.parameters)
    parameters.push_back(
        {{"name", parameter.name}, {"start", parameter.start}, {"learned", parameter.learned}});
  return {{"name", law.name},
          {"formula", law.formula},
          {"source", law.source},
          {"parameters", parameters}};
}

void list(const Request& request) {
  Json rows = Json::array();
  for (const auto& law : laws::all()) {
    if (request.json) {
      rows.push_back(described(law));
      continue;
    }
    std::string parameters;
    for (const auto& parameter : law.parameters)
      parameters += fmt::format("{}{} = {}{}", parameters.empty() ? "" : ", ", parameter.name,
                                parameter.start, parameter.learned ? " (learned)" : "");
    fmt::print("{:<20} {}\n", law.name, law.formula);
    if (!parameters.empty()) fmt::print("{:<20}   {}\n", "", parameters);
  }
  if (request.json) fmt::print("{}\n", Json{{"activations", rows}}.dump());
}

void show(const Request& request) {
  const auto options = parse_elementwise(request.name);
  const Elementwise module(options);
  const auto p = probe([&](const torch::Tensor& x) { return module->forward(x); });
  auto json = described(module->law);
  json["measured"] = to_json(p);
  if (request.json) {
    fmt::print("{}\n", json.dump());
    return;
  }
  fmt::print("{}: {}\n{}\n\n", request.name, module->law.formula, module->law.source);
  const auto line = [](const char* what, const std::string& value) {
    fmt::print("{:<34} {}\n", what, value);
  };
  line("range", fmt::format("{} to {}", p.bounded_below ? fmt::format("{:.6g}", p.minimum) : "-inf",
                            p.bounded_above ? fmt::format("{:.6g}", p.maximum) : "inf"));
  line("minimum on [-20, 20]", fmt::format("{:.6g} at {:.5g}", p.minimum, p.minimum_at));
  line("monotone", p.monotone == Monotone::no ? fmt::format("no, {} turns", p.turns) : "yes");
  std::string kinks;
  for (const auto& kink : p.kinks) kinks += fmt::format(", slope jumps at {:.3g}", kink.x);
  for (const auto& bend : p.bends) kinks += fmt::format(", curvature jumps at {:.3g}", bend.x);
  line("smooth", smoothness(p) + kinks);
  line("symmetry", p.even ? "even" : p.odd ? "odd" : "none");
  line("mean and variance of f(N(0, 1))", fmt::format("{:.4g}, {:.4g}", p.mean, p.variance));
  line("share of [-20, 20] saturated", fmt::format("{:.1f} %", 100 * p.saturation));
  line("Lipschitz constant there", fmt::format("{:.5g}", p.lipschitz));
  line("gain that keeps the second moment", fmt::format("{:.5g}", p.gain));
  line("second moment after 20 layers", fmt::format("{:.4g} from 0.5", p.variance_by_depth.back()));
}

void fit(const Request& request) {
  const Elementwise module(parse_elementwise(request.name));
  const auto f = [&](const torch::Tensor& x) { return module->forward(x); };
  const auto found = fit_pau(f, request.range);
  if (request.json) {
    fmt::print("{}\n", Json{{"name", request.name},
                            {"range", request.range},
                            {"pau", found.text()},
                            {"largest_gap", found.largest_gap},
                            {"rms", found.rms}}
                           .dump());
    return;
  }
  fmt::print("{}\nlargest gap to {} on [-{}, {}]: {:.4g}, root mean square {:.4g}\n", found.text(),
             request.name, request.range, request.range, found.largest_gap, found.rms);
}

void setup(CommandLine& app, int&) {
  app.require_subcommand(1);
  const auto request = std::make_shared<Request>();
  auto* listed = app.add_subcommand("list", "every law with its formula and parameters");
  listed->add_flag("--json", request->json, "one JSON object on stdout");
  listed->callback([request] { list(*request); });
  auto* probed = app.add_subcommand("probe", "measures range, smoothness, saturation, gain");
  probed->add_option("name", request->name, "a law, e.g. mish or prelu:slope=0.1")->required();
  probed->add_flag("--json", request->json, "one JSON object on stdout");
  probed->callback([request] { show(*request); });
  auto* fitted = app.add_subcommand("fit", "the learned law pau that is closest to a law");
  fitted->add_option("name", request->name, "a law, e.g. mish or prelu:slope=0.1")->required();
  fitted->add_option("--range", request->range, "half of the interval around 0")
      ->capture_default_str();
  fitted->add_flag("--json", request->json, "one JSON object on stdout");
  fitted->callback([request] { fit(*request); });
  setup_activation_time(*app.add_subcommand(
      "time", "every activation, forward and backward, over a copy of its bytes"));
}

const auto registered =
    verbs().add("activation", {"the laws of neurons: list them, measure their properties", setup});

}  // namespace
}  // namespace cajal
