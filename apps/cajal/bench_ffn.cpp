#include <algorithm>
#include <numeric>

#include "bench.h"
#include "bench_ffn_subjects.h"
#include "cajal/core/files.h"
#include "cajal/core/machine.h"
#include "cajal/study/plot.h"
#include "cold_timing.h"

namespace cajal {
namespace {

using namespace bench_ffn;

struct Request {
  std::string shape = "4096x11008", plot;
  std::vector<Format> formats = {Format::q4_0, Format::q8_0};
  std::vector<double> shares = {0.05, 0.1, 0.25, 0.5, 1};
  std::vector<int> threads;
  SelectorKind selector = SelectorKind::fixed;
  bool gated = false, json = false, without_torch = false;
  int64_t batch = 1, rank = 64;
  double gigabytes = 1;
  int rounds = 7;
};

/// A row of the table: one candidate at one share.
struct Row {
  std::string what, format;
  int threads;
  double share, bytes, seconds, limit, of_dense, ideal;

  double rate() const { return bytes / seconds; }
  Json json() const {
    return {{"what", what},
            {"format", format},
            {"threads", threads},
            {"active_share", share},
            {"bytes", bytes},
            {"microseconds", 1e6 * seconds},
            {"gigabytes_per_second", rate() / 1e9},
            {"share_of_read_limit", rate() / limit},
            {"time_over_dense", of_dense},
            {"ideal", ideal}};
  }
};

Shape parse_shape(const Request& request) {
  Shape shape;
  char rest = 0;
  require(std::sscanf(request.shape.c_str(), "%ldx%ld%c", &shape.width, &shape.neurons, &rest) == 2,
          "--shape {}: expected WIDTHxNEURONS, as in 4096x11008", request.shape);
  for (const int64_t side : {shape.width, shape.neurons})
    require(side >= 32 && side <= 65536 && side % 32 == 0,
            "--shape {}: sides are multiples of 32 from 32 to 65536", request.shape);
  shape.gated = request.gated, shape.batch = request.batch;
  return shape;
}

/// Dense, then sparse at each share: ours in every format, libtorch's; all in one run a format.
void measure(const Request& request, const Shape& shape, Format format, int thread_count,
             std::vector<Row>& rows) {
  const auto memory = static_cast<size_t>(request.gigabytes * (1 << 30));
  auto subjects =
      engine_subjects(shape, format, request.selector, request.shares, memory, request.rank);
  const size_t ours = subjects.size();
  if (!request.without_torch)
    for (auto& subject : torch_subjects(shape, request.shares, memory, thread_count))
      subjects.push_back(std::move(subject));

  ThreadPool threads(thread_count);
  const Pinned pinned(threads);
  std::vector<std::function<void()>> candidates;
  for (const auto& subject : subjects)
    candidates.push_back([&subject, &threads] { subject.run(threads); });
  const double layer = static_cast<double>(row_bytes(format, shape.width) * shape.neurons);
  const int calls = std::clamp(static_cast<int>(32e6 / layer), 1, 16);
  const auto cold = time_cold(candidates, request.rounds, calls, threads);
  size_t torch_dense = ours;
  for (size_t i = 0; i < subjects.size(); ++i) {
    const auto& subject = subjects[i];
    if (i >= ours && subject.share == 1) torch_dense = i;
    const size_t base = i < ours ? 0 : torch_dense;
    rows.push_back({subject.what, subject.format, thread_count, subject.share, subject.bytes(),
                    cold.times.median_seconds(i), cold.read_limit, cold.times.ratio(i, base),
                    subject.ideal});
  }
}

void print(const std::vector<Row>& rows) {
  fmt::print("{:<22} {:<6} {:>2} {:>6} {:>9} {:>9} {:>6} {:>9} {:>10} {:>6}\n", "", "format", "T",
             "share", "MB read", "us", "GB/s", "of limit", "over dense", "ideal");
  for (const auto& row : rows)
    fmt::print(
        "{:<22} {:<6} {:>2} {:>6.2f} {:>9.2f} {:>9.1f} {:>6.1f} {:>9.2f} {:>10.3f} {:>6.3f}\n",
        row.what, row.format, row.threads, row.share, row.bytes / 1e6, 1e6 * row.seconds,
        row.rate() / 1e9, row.rate() / row.limit, row.of_dense, row.ideal);
}

plot::Lines chart(const Request& request, const std::vector<Row>& rows) {
  plot::Lines lines;
  lines.title = fmt::format("one FFN {}{}, batch {}, cold: time against active share",
                            request.shape, request.gated ? " gated" : "", request.batch);
  lines.x = {"active share of the neurons", plot::Spacing::linear, 0, 1};
  lines.y = {"time / time of the dense form", plot::Spacing::linear, 0};
  plot::Series ideal{"ideal", {}, {}};
  for (const auto& row : rows) {
    if (row.share >= 1) continue;  // the dense forms: 1 by definition
    const auto name = fmt::format("{} {}, {} thread{}", row.what, row.format, row.threads,
                                  row.threads > 1 ? "s" : "");
    auto it = std::find_if(lines.series.begin(), lines.series.end(),
                           [&](const auto& series) { return series.name == name; });
    if (it == lines.series.end()) it = lines.series.insert(it, {name, {}, {}});
    // libtorch is measured again beside each format: its first round stands.
    if (!it->x.empty() && row.share <= it->x.back()) continue;
    it->x.push_back(row.share), it->y.push_back(row.of_dense);
  }
  std::erase_if(lines.series, [](const auto& series) { return series.x.size() < 2; });
  ideal.x = {0, 1}, ideal.y = {ideal_time(request.selector, request.gated, 0), 1};
  lines.series.push_back(ideal);
  return lines;
}

void run(Request request) {
  const auto shape = parse_shape(request);
  require(request.batch >= 1 && request.batch <= 64, "--batch {}: expected 1 to 64", request.batch);
  require(request.rounds >= 5, "--rounds {}: expected at least 5", request.rounds);
  require(request.gigabytes > 0 && request.gigabytes <= 64, "--memory {}: expected 0 to 64",
          request.gigabytes);
  for (const double share : request.shares)
    require(share > 0 && share <= 1, "--share {}: expected more than 0, at most 1", share);
  if (request.threads.empty())
    for (int t = 1; t <= std::min(2, available_processors()); ++t) request.threads.push_back(t);
  for (const int threads : request.threads)
    require(threads >= 1 && threads <= 1024, "--threads {}: expected 1 to 1024", threads);
  std::vector<Row> rows;
  for (const auto format : request.formats)
    for (const int threads : request.threads) measure(request, shape, format, threads, rows);
  if (!request.plot.empty()) write_file(request.plot, plot::svg(chart(request, rows)));
  if (!request.json) return print(rows);
  Json table = Json::array();
  for (const auto& row : rows) table.push_back(row.json());
  fmt::print("{}\n", Json{{"shape", request.shape},
                          {"gated", request.gated},
                          {"batch", request.batch},
                          {"selector", to_name(request.selector)},
                          {"rounds", request.rounds},
                          {"provenance", provenance()},
                          {"rows", table}}
                         .dump(2));
}

void setup(CommandLine& app) {
  struct Words {
    std::vector<std::string> formats = {"q4_0", "q8_0"};
    std::string selector = "fixed";
  };
  const auto request = std::make_shared<Request>();
  const auto words = std::make_shared<Words>();
  app.add_option("--shape", request->shape, "WIDTHxNEURONS")->capture_default_str();
  app.add_flag("--gated", request->gated, "with gates");
  app.add_option("--format", words->formats, "formats, separated by commas")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--share", request->shares, "active shares of the neurons")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--threads", request->threads, "thread counts (default 1,2)")->delimiter(',');
  app.add_option("--selector", words->selector,
                 "fixed, silent, cats, teal, low-rank, mlp or router")
      ->capture_default_str();
  app.add_option("--rank", request->rank, "of a predictor")->capture_default_str();
  app.add_option("--batch", request->batch, "tokens at a time")->capture_default_str();
  app.add_option("--rounds", request->rounds, "interleaved rounds")->capture_default_str();
  app.add_option("--memory", request->gigabytes, "GiB of layers to rotate over")
      ->capture_default_str();
  app.add_flag("--no-torch", request->without_torch, "without libtorch beside it");
  app.add_option("--plot", request->plot, "an SVG of time against active share");
  app.add_flag("--json", request->json, "one JSON object on stdout");
  app.callback([request, words] {
    request->formats.clear();
    for (const auto& word : words->formats)
      request->formats.push_back(from_name<Format>(word, "--format"));
    request->selector = from_name<SelectorKind>(words->selector, "--selector");
    run(*request);
  });
}

const auto registered =
    benches().add("ffn", {"one feed-forward network at every active share", setup});

}  // namespace
}  // namespace cajal
