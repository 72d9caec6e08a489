#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cajal::data {

/// What is done with a file once it is here.
enum class Unpack {
  keep,     // nothing: every reader takes .gz and .xz as they are
  extract,  // a .zip, .tar or .tar.gz becomes a folder named like it
};

/// One file of a dataset. An empty sum or a size of 0 means "not known", never "not checked".
struct RemoteFile {
  std::string name;               // what it is called here
  std::vector<std::string> urls;  // the same bytes, tried in this order
  int64_t bytes = 0;
  std::string sha256 = {}, md5 = {};
  Unpack unpack = Unpack::keep;
};

struct Dataset {
  std::string name, what, licence, citation;
  std::string folder;        // its folder below $CAJAL_DATA
  std::string folder_holds;  // which part of the set that folder is, as tables must name it
  std::vector<RemoteFile> files = {};  // empty: no download is known
};

/// Every dataset that cajal knows, in alphabetical order.
const std::vector<Dataset>& catalogue();

/// The dataset of that name; throws Error that names the nearest one there is.
const Dataset& dataset(std::string_view name);

/// Bytes of the whole download, or nothing when a size is not known.
std::optional<int64_t> download_bytes(const Dataset& dataset);

/// A dataset on this machine.
struct Place {
  std::filesystem::path folder;
  std::string holds;  // which part of the set it is
};

/// Where cajal keeps what can be made or fetched again: cajal below $XDG_CACHE_HOME or ~/.cache.
/// Throws Error when neither that variable nor $HOME is set.
std::filesystem::path cache_root();

/// Where a download of the dataset lies: data/NAME below `cache_root`.
std::filesystem::path cache_folder(const Dataset& dataset);

/// The file that marks a whole download; it says where each file came from.
inline constexpr const char* kOriginFile = "ORIGIN.json";

/// Every place where the dataset lies, best first: its folder below $CAJAL_DATA, then a whole
/// download in the cache.
std::vector<Place> places(const Dataset& dataset);

/// The first place of the dataset of that name; throws Error that gives the `cajal data get` line
/// when it is not here.
Place find_dataset(std::string_view name);

/// The first of `files` that lies in a place of the dataset of that name; throws Error that names
/// the files and how to get them.
std::filesystem::path find_file(std::string_view name, const std::vector<std::string>& files);

}  // namespace cajal::data
