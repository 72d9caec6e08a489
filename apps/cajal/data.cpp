#include "../verb.h"
#include "cajal/core/json.h"
#include "cajal/data/catalogue.h"
#include "cajal/data/download.h"

namespace cajal {
namespace {

std::string size_text(const data::Dataset& set) {
  if (set.files.empty()) return "-";
  const auto bytes = data::download_bytes(set);
  if (!bytes) return "not known";
  const double mega = static_cast<double>(*bytes) / 1e6;
  return mega < 1000 ? fmt::format("{:.1f} MB", mega) : fmt::format("{:.2f} GB", mega / 1000);
}

Json place_json(const data::Place& place) {
  return {{"folder", place.folder.string()}, {"holds", place.holds}};
}

Json set_json(const data::Dataset& set) {
  const auto text = [](const std::string& value) { return value.empty() ? Json() : Json(value); };
  Json files = Json::array(), here = Json::array();
  for (const auto& file : set.files)
    files.push_back({{"name", file.name},
                     {"urls", file.urls},
                     {"bytes", file.bytes > 0 ? Json(file.bytes) : Json()},
                     {"sha256", text(file.sha256)},
                     {"md5", text(file.md5)},
                     {"unpacked", file.unpack == data::Unpack::extract}});
  for (const auto& place : data::places(set)) here.push_back(place_json(place));
  return {{"name", set.name},
          {"what", set.what},
          {"licence", set.licence},
          {"citation", set.citation},
          {"folder", set.folder},
          {"files", files},
          {"here", here}};
}

void print_json(const Json& json) { fmt::print("{}\n", json.dump(2)); }

void list(bool json) {
  Json sets = Json::array();
  for (const auto& set : data::catalogue()) {
    if (json) {
      sets.push_back(set_json(set));
      continue;
    }
    fmt::print("{:<18} {}\n{:18} licence {}; download {}\n", set.name, set.what, "", set.licence,
               size_text(set));
    const auto here = data::places(set);
    for (const auto& place : here)
      fmt::print("{:18} here: {} ({})\n", "", place.folder.string(), place.holds);
    if (here.empty())
      fmt::print("{:18} not here{}\n", "",
                 set.files.empty() ? "; put it at $CAJAL_DATA/" + set.folder
                                   : "; cajal data get " + set.name);
  }
  if (json) print_json({{"datasets", sets}});
}

std::string verdict(const data::RemoteFile& file, const data::Fetched& got) {
  if (!got.verified) return fmt::format("SHA-256 {} (no published sum is known)", got.sha256);
  return file.sha256.empty() ? "MD5 right, SHA-256 " + got.sha256 : "SHA-256 right";
}

void get(const std::string& name, bool json) {
  const auto& set = data::dataset(name);
  Json files = Json::array();
  if (!set.files.empty())
    fmt::print(stderr, "{}: {}\nlicence: {}\ncite: {}\n", set.name, set.what, set.licence,
               set.citation);
  const auto report = [&](const data::RemoteFile& file, const data::Fetched& got) {
    fmt::print(stderr, "{}: {}, {} bytes, {}\n", file.name,
               got.url.empty() ? "was here" : "from " + got.url, got.bytes, verdict(file, got));
    files.push_back({{"name", file.name},
                     {"url", got.url.empty() ? Json() : Json(got.url)},
                     {"bytes", got.bytes},
                     {"sha256", got.sha256},
                     {"verified", got.verified}});
  };
  data::DownloadOptions options;
  options.notice = [](const std::string& text) { fmt::print(stderr, "{}\n", text); };
  const auto folder = data::get_dataset(set, options, report);
  if (json) return print_json({{"name", name}, {"folder", folder.string()}, {"files", files}});
  fmt::print("{}\n", folder.string());
}

void path(const std::string& name, bool json) {
  const auto place = data::find_dataset(name);
  if (json) return print_json(place_json(place));
  fmt::print("{}\n", place.folder.string());
}

void setup(CommandLine& app, int&) {
  app.require_subcommand(1);
  struct Arguments {
    std::string name;
    bool json = false;
  };
  const auto given = std::make_shared<Arguments>();
  const auto action = [&](const char* word, const char* summary) {
    auto* sub = app.add_subcommand(word, summary);
    sub->add_flag("--json", given->json, "one JSON object on stdout");
    return sub;
  };
  action("list", "every dataset, and where it is now")->callback([given] { list(given->json); });
  auto* getting = action("get", "downloads a dataset into the cache and checks it");
  getting->add_option("NAME", given->name, "the dataset")->required();
  getting->callback([given] { get(given->name, given->json); });
  auto* finding = action("path", "prints the folder of a dataset that is here");
  finding->add_option("NAME", given->name, "the dataset")->required();
  finding->callback([given] { path(given->name, given->json); });
}

const auto registered = verbs().add("data", {"the dataset catalogue: list, get, path", setup});

}  // namespace
}  // namespace cajal
