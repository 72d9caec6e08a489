#include "cajal/core/machine.h"

#include <unistd.h>

#include <fstream>
#include <sstream>

#include "cajal/core/threads.h"
#include "cajal/core/version.h"

namespace cajal {

Machine this_machine() {
  Machine machine;
  machine.threads = available_processors();
  machine.memory_bytes = int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE);
  std::ifstream info("/proc/cpuinfo");
  std::string line;
  while (std::getline(info, line)) {
    const auto value = [&] { return line.substr(std::min(line.size(), line.find(':') + 2)); };
    if (machine.processor.empty() && line.starts_with("model name")) machine.processor = value();
    if (machine.simd.empty() && line.starts_with("flags")) {
      std::istringstream flags(value());
      for (std::string flag; flags >> flag;)
        for (const char* known : {"avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw",
                                  "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"})
          if (flag == known) machine.simd.push_back(flag);
    }
  }
  return machine;
}

std::string version() { return std::string(kVersion) + " (" + kRevision + ")"; }

Json provenance() {
  const auto machine = this_machine();
  return {{"version", version()},
          {"processor", machine.processor},
          {"threads", machine.threads},
          {"simd", machine.simd}};
}

}  // namespace cajal
