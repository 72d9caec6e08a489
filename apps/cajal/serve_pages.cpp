#include "serve_pages.h"

#include "cajal/core/error.h"
#include "cajal/core/files.h"

namespace cajal::serve {
namespace {

namespace fs = std::filesystem;

const char* type_of(const fs::path& file) {
  const auto ending = file.extension();
  if (ending == ".html") return "text/html; charset=utf-8";
  if (ending == ".css") return "text/css; charset=utf-8";
  if (ending == ".js") return "text/javascript; charset=utf-8";
  if (ending == ".svg") return "image/svg+xml";
  return nullptr;  // source maps, licences of packages: not served
}

}  // namespace

fs::path find_pages() {
  std::error_code error;
  auto folder = fs::read_symlink("/proc/self/exe", error).parent_path();
  for (int up = 0; up < 4 && !folder.empty(); ++up, folder = folder.parent_path())
    for (const char* pages : {"web", "share/cajal/web", "apps/web/src"})
      if (fs::exists(folder / pages / "index.html", error)) return folder / pages;
  fail("the pages are neither beside the program nor installed; `ninja cajal_web` makes them");
}

void add_pages(HttpServer& server, const fs::path& folder) {
  constexpr size_t most_bytes = 8 << 20;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const char* type = type_of(entry.path());
    if (!type || !entry.is_regular_file()) continue;
    const auto name = entry.path().filename().string();
    auto content = read_file(entry.path(), most_bytes);
    if (name == "index.html") server.file("/", type, content);
    server.file("/" + name, type, std::move(content));
  }
}

}  // namespace cajal::serve
