#include <iostream>

#include "../verb.h"
#include "cajal/atlas/measure.h"
#include "cajal/engine/gguf_export.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/surgery/split.h"
#include "cajal/surgery/write.h"
#include "language_model.h"
#include "split_report.h"

namespace cajal {
namespace {

namespace fs = std::filesystem;

// Every matrix of a model in one format: a new checkpoint.
void quantize_model(const fs::path& source, Format format, const fs::path& output) {
  set_torch_threads(0);
  auto model = lm::load(source);
  require_row(format, model->config.width, source.string() + ": rows of the model's width");
  const auto before = lm::summarise(model);
  const auto census = atlas::blank(model);
  surgery::split(model, surgery::make_plan("all=" + to_name(format), census), census);
  surgery::requantise(model, {.attention = format, .embedding = format});
  surgery::write(model, source, output);
  std::cerr << sizes_text(before, lm::summarise(model)) << "written to " << output.string()
            << "; cajal eval and cajal generate take it as any model\n";
}

// The same as one GGUF file.
void export_model(const fs::path& source, Format format, const fs::path& output) {
  const auto checkpoint = lm::open_checkpoint(source);
  lm::write_gguf_model(checkpoint, format, output);
  std::cerr << fmt::format(
      "{} -> {}, written to {}\n", readable_bytes(checkpoint.file->total_bytes()),
      readable_bytes(static_cast<int64_t>(fs::file_size(output))), output.string());
}

using Bytes = std::vector<std::byte>;

// Every tensor of a bare file as NAME.bytes [.., row bytes] and NAME.decoded [.., columns]; rows
// lie along the last axis.
void quantize_file(const fs::path& path, Format format, const fs::path& output) {
  const auto file = TensorFile::open(path);
  std::vector<std::pair<Bytes, Bytes>> kept;
  kept.reserve(file.tensors().size());
  std::vector<TensorToWrite> out;
  int64_t before = 0, after = 0;
  ThreadPool threads;
  for (const auto& [name, stored] : file.tensors()) {
    if (stored.dtype != Dtype::f32 || stored.shape.empty() || stored.bytes.empty()) continue;
    const int64_t columns = stored.shape.back();
    require_row(format, columns, fmt::format("{}: tensor '{}'", path.string(), name));
    const int64_t stride = row_bytes(format, columns);
    const int64_t rows = std::ssize(stored.bytes) / (4 * columns);
    auto& [bytes, decoded] =
        kept.emplace_back(Bytes(static_cast<size_t>(rows * stride)), Bytes(stored.bytes.size()));
    threads.parallel_for(
        rows, 1, [&, to = bytes.data(), back = decoded.data()](int64_t begin, int64_t end) {
          std::vector<float> row(static_cast<size_t>(columns));
          for (int64_t r = begin; r < end; ++r) {
            std::memcpy(row.data(), stored.bytes.data() + r * columns * 4, row.size() * 4);
            encode_row(format, row.data(), columns, to + r * stride);
            decode_row(format, to + r * stride, columns, row.data());
            std::memcpy(back + r * columns * 4, row.data(), row.size() * 4);
          }
        });
    auto shape = stored.shape;
    shape.back() = stride;
    out.push_back({name + ".bytes", Dtype::u8, shape, bytes});
    out.push_back({name + ".decoded", Dtype::f32, stored.shape, decoded});
    before += std::ssize(stored.bytes), after += rows * stride;
  }
  require(!out.empty(), "{}: no fp32 tensor to quantise", path.string());
  write_safetensors(output, out);
  std::cerr << fmt::format("{} tensors, {} -> {} ({:.3g} bits a value), written to {}\n",
                           out.size() / 2, megabytes(before), megabytes(after),
                           32.0 * static_cast<double>(after) / static_cast<double>(before),
                           output.string());
}

void quantize(const std::string& input, Format format, const fs::path& output) {
  if (fs::is_regular_file(input) && !lm::is_gguf(input))
    return quantize_file(input, format, output);
  const auto source = lm::find_model(input);
  output.extension() == ".gguf" ? export_model(source, format, output)
                                : quantize_model(source, format, output);
}

void setup(CommandLine& app, int&) {
  struct Options {
    std::string input, format = "q8_0", output;
  };
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->input,
                 "checkpoint folder, GGUF file, or a bare .safetensors file of fp32 tensors")
      ->required();
  app.add_option("--format", o->format,
                 "f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_K, q5_K, q6_K")
      ->capture_default_str();
  app.add_option("--output", o->output,
                 "new folder, or X.gguf for one file; for a bare file a .safetensors file")
      ->required();
  app.callback([o] { quantize(o->input, from_name<Format>(o->format, "--format"), o->output); });
}

const auto registered =
    verbs().add("quantize", {"every matrix in one format: a new checkpoint or GGUF file", setup});

}  // namespace
}  // namespace cajal
