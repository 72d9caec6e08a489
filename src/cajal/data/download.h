#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "cajal/data/catalogue.h"

namespace cajal::data {

struct DownloadOptions {
  int64_t max_bytes = int64_t{16} << 30;  // refused beyond this when the catalogue gives no size
  int attempts = 5;                       // for each URL, when the failure may pass
  double backoff = 1;                     // seconds before the second attempt; then doubled
  double connect_timeout = 20;            // seconds
  double stall_timeout = 30;              // seconds below 100 bytes/s
  int redirects = 5;
};

/// How a file came here.
struct Fetched {
  std::filesystem::path path;
  std::string url;  // empty: it was here before
  int64_t bytes = 0;
  std::string sha256;     // of what is here
  bool verified = false;  // against a sum that the catalogue knows
};

/// Downloads one file to `folder`/NAME and returns only when it is whole and its sums are right.
/// What has come so far lies in NAME.partial and is resumed later when the server still has the
/// same file; that file is also the lock, so that a second process waits and then finds the result.
/// Never overwrites a file. Throws Error that names the URL and what was wrong with each.
Fetched download(const RemoteFile& file, const std::filesystem::path& folder,
                 const DownloadOptions& options = {});

/// Downloads and unpacks every file of the dataset into its cache folder and marks it whole there;
/// what is there already is kept. Calls `done` after each file.
std::filesystem::path get_dataset(
    const Dataset& dataset, const DownloadOptions& options,
    const std::function<void(const RemoteFile&, const Fetched&)>& done = {});

}  // namespace cajal::data
