#include "cajal/data/download.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <thread>
#include <vector>

#include "cajal/core/error.h"
#include "cajal/core/json.h"
#include "cajal/data/checksum.h"
#include "cajal/data/partial_file.h"
#include "cajal/data/transfer.h"
#include "cajal/data/unpack.h"

namespace cajal::data {
namespace fs = std::filesystem;
namespace {

// What is wrong with the file's size or sums, if anything; fills in the SHA-256.
std::optional<std::string> wrong(const fs::path& path, const RemoteFile& file, Fetched& out) {
  out.bytes = static_cast<int64_t>(fs::file_size(path));
  out.verified = !file.sha256.empty() || !file.md5.empty();
  if (file.bytes > 0 && out.bytes != file.bytes)
    return fmt::format("it has {} bytes, expected {}", out.bytes, file.bytes);
  out.sha256 = checksum(path, Digest::sha256);
  if (!file.sha256.empty() && out.sha256 != file.sha256)
    return fmt::format("its SHA-256 is {}, expected {}", out.sha256, file.sha256);
  if (!file.sha256.empty() || file.md5.empty()) return std::nullopt;
  if (const auto md5 = checksum(path, Digest::md5); md5 != file.md5)
    return fmt::format("its MD5 is {}, expected {}", md5, file.md5);
  return std::nullopt;
}

std::optional<Fetched> here_already(const fs::path& target, const RemoteFile& file) {
  if (!fs::exists(target)) return std::nullopt;
  Fetched out{target, "", 0, "", false};
  if (const auto problem = wrong(target, file, out))
    fail("{}: is here already, but {}; move it away and run again", target.string(), *problem);
  return out;
}

// Tries one URL until the file is whole and right; otherwise says why it gave up.
std::optional<std::string> fetch_from(const std::string& url, const RemoteFile& file,
                                      const DownloadOptions& options, PartialFile& partial,
                                      Fetched& out) {
  std::string problem;
  for (int attempt = 0; attempt < options.attempts; ++attempt) {
    if (attempt > 0) {
      const double seconds = std::min(60.0, options.backoff * std::exp2(attempt - 1));
      std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    }
    const bool resumed = partial.size() > 0;
    const auto result = transfer(url, file, options, partial);
    problem = result.problem;
    if (result.outcome == Transfer::Outcome::lasting) return problem;
    if (result.outcome == Transfer::Outcome::passing) continue;

    const auto defect = wrong(partial.path(), file, out);
    if (!defect) return std::nullopt;
    partial.restart({});  // wrong bytes are not kept
    problem = *defect + "; removed";
    if (!resumed) return problem;  // else the earlier part may have been of another file
  }
  return fmt::format("{} (after {} attempts)", problem, options.attempts);
}

// What of the dataset's folder this file becomes: itself, or what is inside.
fs::path unpacked_path(const fs::path& folder, const RemoteFile& file) {
  if (file.unpack == Unpack::keep) return folder / file.name;
  auto name = file.name;
  for (const std::string ending : {".gz", ".xz", ".tgz", ".zip", ".tar"})
    if (name.ends_with(ending)) name.resize(name.size() - ending.size());
  require(!name.empty() && name != file.name, "{}: not the name of an archive", file.name);
  return folder / name;
}

}  // namespace

Fetched download(const RemoteFile& file, const fs::path& folder, const DownloadOptions& options) {
  require(!file.urls.empty(), "{}: no URL is known", file.name);
  require(!file.name.empty() && fs::path(file.name).filename() == file.name && file.name != ".." &&
              file.name != ".",
          "'{}' is not a plain file name", file.name);
  std::error_code error;
  fs::create_directories(folder, error);
  require(!error, "{}: cannot be made: {}", folder.string(), error.message());

  const auto target = folder / file.name;
  if (auto here = here_already(target, file)) return *here;
  PartialFile partial(target);
  if (auto here = here_already(target, file)) return *here;  // another process was faster

  std::string reasons;
  for (const auto& url : file.urls) {
    Fetched out{target, url, 0, "", false};
    const auto problem = fetch_from(url, file, options, partial, out);
    if (!problem) {
      partial.finish();
      return out;
    }
    reasons += (reasons.empty() ? "" : "; ") + url + ": " + *problem;
  }
  fail("{}: could not be downloaded: {}", file.name, reasons);
}

fs::path get_dataset(const Dataset& dataset, const DownloadOptions& options,
                     const std::function<void(const RemoteFile&, const Fetched&)>& done) {
  require(!dataset.files.empty(), "{} has no download; put its folder at $CAJAL_DATA/{}",
          dataset.name, dataset.folder);
  const auto folder = cache_folder(dataset);
  Json files = Json::array();
  for (const auto& file : dataset.files) {
    const auto target = unpacked_path(folder, file);
    if (file.unpack == Unpack::extract && fs::exists(target)) continue;
    const auto fetched = download(file, folder, options);
    if (file.unpack == Unpack::extract) {
      extract(fetched.path, target);
      fs::remove(fetched.path);
    }
    files.push_back({{"name", file.name},
                     {"url", fetched.url},
                     {"bytes", fetched.bytes},
                     {"sha256", fetched.sha256},
                     {"verified", fetched.verified}});
    if (done) done(file, fetched);
  }
  // Written last: its presence says that everything is here.
  if (!fs::exists(folder / kOriginFile))
    write_json(folder / kOriginFile, {{"dataset", dataset.name},
                                      {"licence", dataset.licence},
                                      {"citation", dataset.citation},
                                      {"files", files}});
  return folder;
}

}  // namespace cajal::data
