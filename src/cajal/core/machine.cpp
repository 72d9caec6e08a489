#include "cajal/core/machine.h"

#include <elf.h>
#include <link.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <sstream>
#include <string_view>

#include "cajal/core/error.h"
#include "cajal/core/threads.h"
#include "cajal/core/version.h"

namespace cajal {
namespace {

/// Adds the build id of one loaded object, in hexadecimal.
int add_build_id(dl_phdr_info* object, size_t, void* out) {
  const std::string_view path = object->dlpi_name;
  if (!path.empty() && path.find("/libcajal") == path.npos) return 0;
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const auto& header = object->dlpi_phdr[i];
    if (header.p_type != PT_NOTE) continue;
    const auto* at = reinterpret_cast<const char*>(object->dlpi_addr + header.p_vaddr);
    const auto padded = [](size_t bytes) { return (bytes + 3) / 4 * 4; };
    for (const auto* end = at + header.p_memsz; at + sizeof(ElfW(Nhdr)) <= end;) {
      ElfW(Nhdr) note;
      std::memcpy(&note, at, sizeof note);
      const auto* id = at + sizeof note + padded(note.n_namesz);
      if (note.n_type == NT_GNU_BUILD_ID)
        for (size_t byte = 0; byte < note.n_descsz; ++byte)
          *static_cast<std::string*>(out) += fmt::format("{:02x}", static_cast<uint8_t>(id[byte]));
      at = id + padded(note.n_descsz);
    }
  }
  return 0;
}

}  // namespace

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

std::string program_identity() {
  std::string out;
  ::dl_iterate_phdr(add_build_id, &out);
  return out;
}

Json provenance() {
  const auto machine = this_machine();
  return {{"version", version()},
          {"processor", machine.processor},
          {"threads", machine.threads},
          {"simd", machine.simd}};
}

}  // namespace cajal
