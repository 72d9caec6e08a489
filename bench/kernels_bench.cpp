// How close the row kernels come to the memory's read limit: cold weights, batch 1, one row of the
// table a format, the limit measured between the rounds of every cell.
#include <sched.h>

#include <cstdlib>

#include "cajal/core/machine.h"
#include "cajal/core/random.h"
#include "cajal/core/timing.h"
#include "cajal/kernels/limits.h"
#include "cajal/kernels/memory.h"
#include "cajal/kernels/rows.h"

namespace {
using namespace cajal;

constexpr int64_t kWidth = 2048, kNeurons = 8192;

/// While it lives each thread of the pool stays on a processor of its own, so that a busy neighbour
/// cannot push two of them onto one.
struct Pinned {
  explicit Pinned(ThreadPool& pool) {
    ::sched_getaffinity(0, sizeof before, &before);
    pool.run([this](int part) {
      cpu_set_t mine;
      CPU_ZERO(&mine);
      for (int cpu = 0, seen = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, &before) && seen++ == part) CPU_SET(cpu, &mine);
      ::sched_setaffinity(0, sizeof mine, &mine);
    });
  }
  ~Pinned() { ::sched_setaffinity(0, sizeof before, &before); }
  cpu_set_t before;
};

/// At least `bytes` of matrices [kNeurons, kWidth], so that the next one is in no cache.
struct Layers {
  Layers(Format format, size_t bytes)
      : size(row_bytes(format, kWidth) * kNeurons),
        count(static_cast<int64_t>(bytes / size + 1)),
        memory(size * count) {
    Random random(1);
    std::vector<float> row(kWidth);
    for (auto& value : row) value = static_cast<float>(random.normal()) * 0.02f;
    std::vector<uint8_t> encoded(row_bytes(format, kWidth));
    encode_row(format, row.data(), kWidth, encoded.data());
    for (int64_t r = 0; r < kNeurons * count; ++r)
      std::copy(encoded.begin(), encoded.end(),
                reinterpret_cast<uint8_t*>(memory.data()) + r * encoded.size());
    for (int64_t i = 0; i < count; ++i)
      matrices.push_back(row_matrix(format, memory.data() + i * size, kNeurons, kWidth, "bench"));
  }
  const RowMatrix& next() { return matrices[turn++ % count]; }

  size_t size;
  int64_t count;
  WeightMemory memory;
  std::vector<RowMatrix> matrices;
  int64_t turn = 0;
};

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 15;
  const std::string only = argc > 2 ? argv[2] : "";
  std::vector<float> x(kWidth), y(kNeurons), a(kNeurons, 0.1f), out(kWidth);
  Random random(2);
  for (auto& value : x) value = static_cast<float>(random.normal());
  std::vector<int32_t> every_third;
  for (int32_t i = 0; i < kNeurons; i += 3) every_third.push_back(i);

  fmt::print("{}\n{:6} {:>2} {:>11} {:>8} {:>14} {:>14}\n", provenance().dump(), "format", "T",
             "limit GB/s", "dot", "dot 1/3 rows", "axpy");
  for (const auto& [format, name] : EnumNames<Format>::values) {
    if (!only.empty() && only != name) continue;
    Layers layers(format, size_t{1} << 30);
    for (int threads = 1; threads <= std::min(2, available_processors()); ++threads) {
      ThreadPool pool(threads);
      const Pinned pinned(pool);
      double limit = 0;
      const auto all = RowSet::range(0, kNeurons), third = RowSet::list(every_third);
      const auto times = time_interleaved(
          {[&] {
             limit = std::max(limit,
                              read_bandwidth(pool, {layers.memory.data(), layers.memory.size()}));
           },
           [&] { dot_rows(layers.next(), all, x.data(), 1, y.data(), pool); },
           [&] { dot_rows(layers.next(), third, x.data(), 1, y.data(), pool); },
           [&] { gather_axpy(layers.next(), third, a.data(), 1, out.data(), pool); }},
          rounds);
      const double bytes = static_cast<double>(layers.size);
      const double third_bytes = bytes * static_cast<double>(every_third.size()) / kNeurons;
      const auto share = [&](double read, size_t candidate) {
        return fmt::format("{:6.2f} ({:.2f})", read / times.median_seconds(candidate) / 1e9,
                           read / times.median_seconds(candidate) / limit);
      };
      fmt::print("{:6} {:>2} {:11.2f} {:>14} {:>14} {:>14}\n", name, threads, limit / 1e9,
                 share(bytes, 1), share(third_bytes, 2), share(third_bytes, 3));
    }
  }
}
