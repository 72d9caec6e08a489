#include <iostream>

#include "cajal/atlas/measure.h"
#include "cajal/core/torch_tensors.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/surgery/split.h"
#include "cajal/surgery/write.h"
#include "split_report.h"
#include "verb.h"

namespace cajal {
namespace {

namespace fs = std::filesystem;

// Every matrix of a model in one format: a new checkpoint.
void quantize_model(const fs::path& folder, Format format, const fs::path& output) {
  auto model = lm::load(folder);
  require_row(format, model->config.width, folder.string() + ": rows of the model's width");
  const auto before = lm::summarise(model);
  const auto census = atlas::blank(model);
  surgery::split(model, surgery::make_plan("all=" + to_name(format), census), census);
  surgery::requantise(model, {.attention = format, .embedding = format});
  surgery::write(model, folder, output);
  std::cerr << sizes_text(before, lm::summarise(model)) << "written to " << output.string()
            << "; cajal eval and cajal generate take it as any model\n";
}

// Every matrix of a bare file as NAME.bytes [rows, row bytes] and NAME.decoded [rows, columns].
void quantize_file(const fs::path& path, Format format, const fs::path& output) {
  const auto file = TensorFile::open(path);
  std::vector<std::pair<std::string, torch::Tensor>> out;
  int64_t before = 0, after = 0;
  for (const auto& [name, stored] : file.tensors()) {
    if (stored.dtype != Dtype::f32 || stored.shape.size() != 2) continue;
    const auto columns = stored.shape[1];
    require_row(format, columns, fmt::format("{}: tensor '{}'", path.string(), name));
    const auto rows = to_torch(stored);
    const auto encoded = surgery::encode(format, rows);
    const auto decoded = surgery::decode(format, encoded, columns);
    out.emplace_back(name + ".bytes",
                     is_quantised(format)
                         ? encoded
                         : encoded.contiguous().view(torch::kByte).reshape({rows.size(0), -1}));
    out.emplace_back(name + ".decoded", decoded);
    before += rows.numel() * 4, after += static_cast<int64_t>(encoded.nbytes());
  }
  require(!out.empty(), "{}: no fp32 tensor of 2 axes to quantise", path.string());
  save_tensors(output, out);
  std::cerr << fmt::format("{} tensors, {} -> {} ({:.3g} bits a value), written to {}\n",
                           out.size() / 2, megabytes(before), megabytes(after),
                           32.0 * static_cast<double>(after) / static_cast<double>(before),
                           output.string());
}

void setup(CLI::App& app, int&) {
  struct Options {
    std::string input, format = "q8_0", output;
  };
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->input, "checkpoint folder, or a bare .safetensors file")->required();
  app.add_option("--format", o->format, "f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_K, q5_K, q6_K")
      ->capture_default_str();
  app.add_option("--output", o->output, "new folder; for a bare file a .safetensors file")
      ->required();
  app.callback([o] {
    set_torch_threads(0);
    const auto format = from_name<Format>(o->format, "--format");
    if (fs::is_regular_file(o->input))
      quantize_file(o->input, format, o->output);
    else
      quantize_model(lm::find_model(o->input), format, o->output);
  });
}

const auto registered =
    verbs().add("quantize", {"every matrix in one format: a new checkpoint", setup});

}  // namespace
}  // namespace cajal
