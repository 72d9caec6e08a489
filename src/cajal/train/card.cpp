#include "cajal/train/card.h"

#include <cmath>

#include "cajal/core/files.h"
#include "cajal/core/machine.h"
#include "cajal/train/log.h"

namespace cajal::train {
namespace {

constexpr size_t kCurveRows = 12;

std::string figure(const Json& figures, const char* key, const char* format = "{:.4f}") {
  if (!figures.is_object() || !figures.contains(key)) return "";
  return fmt::format(fmt::runtime(format), figures.at(key).get<double>());
}

// Evaluations of the log, thinned out evenly; the last one always stands.
std::string curve(const std::filesystem::path& folder) {
  std::vector<Json> points;
  for (auto& line : Log::read(folder / "log.jsonl"))
    if (line.contains("evaluation")) points.push_back(std::move(line));
  std::string out;
  for (size_t row = 0; row < std::min(kCurveRows, points.size()); ++row) {
    const size_t rows = std::min(kCurveRows, points.size());
    const auto& point = points[(row + 1) * points.size() / rows - 1];
    const auto& figures = point.at("evaluation");
    out += fmt::format("| {} | {:.1f} M | {} | {} |\n", point.at("step").get<int64_t>(),
                       point.at("tokens").get<double>() / 1e6, figure(figures, "loss"),
                       figure(figures, "bits_per_byte"));
  }
  return out;
}

}  // namespace

void write_card(const std::filesystem::path& folder, const LanguageModelOptions& options,
                const Json& report, const std::string& command) {
  const auto machine = this_machine();
  const double tokens = report.at("tokens").get<double>();
  std::string text = fmt::format(
      "# {}\n\nA language model trained by cajal {}.\n\n"
      "| | |\n|---|---|\n"
      "| parameters | {:.2f} M, stored as {} |\n"
      "| family | {} |\n"
      "| training text | {} |\n"
      "| tokens seen | {:.1f} M, {:.1f} passes over the text |\n"
      "| bits per byte, valid ({}) | {} |\n",
      folder.filename().string(), version(), report.at("parameters").get<double>() / 1e6,
      options.dtype,
      options.model.is_object() ? options.model.value("model_type", "?") : "of its checkpoint",
      options.data.train, tokens / 1e6, tokens / report.at("training_tokens").get<double>(),
      options.data.valid, figure(report.at("valid"), "bits_per_byte"));
  if (report.at("kept_step") != report.at("steps"))
    text += fmt::format("| weights | of step {}, the best on valid |\n",
                        report.at("kept_step").get<int64_t>());
  if (report.contains("test"))
    text += fmt::format("| bits per byte, test ({}), read once | {} |\n", options.data.test,
                        figure(report.at("test"), "bits_per_byte"));
  text += fmt::format(
      "| seed | {} |\n| machine | {}, {} |\n| training time | {:.0f} s, {:.0f} tokens/s at the end "
      "|\n"
      "| command | `{}` |\n\nThe whole recipe is in training.json, every step in log.jsonl.\n",
      options.seed, report.at("device").get<std::string>(), machine.processor,
      report.at("seconds").get<double>(), report.at("tokens_per_second").get<double>(), command);
  const auto points = curve(folder);
  if (!points.empty())
    text +=
        "\n## Validation while training\n\n| step | tokens | loss | bits per byte |\n"
        "|---:|---:|---:|---:|\n" +
        points;
  write_file(folder / "README.md", text);
}

}  // namespace cajal::train
