#include "cajal/data/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <gtest/gtest.h>

#include "cajal/core/files.h"
#include "cajal/data/download.h"
#include "core/scratch.h"
#include "rude_server.h"
#include "says.h"

namespace cajal::data {
namespace {
namespace fs = std::filesystem;

struct Entry {
  std::string name, content;
  mode_t type = AE_IFREG;
  std::string link = {};
  bool hard = false;
};

enum class Kind { tar_gz, tar_xz, zip };

void write_archive(const fs::path& path, Kind kind, const std::vector<Entry>& entries) {
  auto* out = archive_write_new();
  if (kind == Kind::tar_gz) archive_write_add_filter_gzip(out);
  if (kind == Kind::tar_xz) archive_write_add_filter_xz(out);
  if (kind == Kind::zip) {
    archive_write_set_format_zip(out);
  } else {
    archive_write_set_format_pax_restricted(out);
  }
  ASSERT_EQ(archive_write_open_filename(out, path.c_str()), ARCHIVE_OK);
  for (const auto& entry : entries) {
    auto* header = archive_entry_new();
    archive_entry_set_pathname(header, entry.name.c_str());
    archive_entry_set_filetype(header, entry.type);
    archive_entry_set_perm(header, 0755);
    archive_entry_set_size(header, static_cast<int64_t>(entry.content.size()));
    if (!entry.link.empty())
      (entry.hard ? archive_entry_set_hardlink : archive_entry_set_symlink)(header,
                                                                            entry.link.c_str());
    archive_write_header(out, header);
    archive_write_data(out, entry.content.data(), entry.content.size());
    archive_entry_free(header);
  }
  archive_write_close(out);
  archive_write_free(out);
}

class Unpacking : public Scratch {
 protected:
  std::string extract_error(const std::vector<Entry>& held, Kind kind = Kind::tar_gz,
                            const UnpackLimits& limits = {}) {
    write_archive(in("a"), kind, held);
    const auto text = error_of([&] { extract(in("a"), in("out"), limits); });
    EXPECT_FALSE(!text.empty() && fs::exists(in("out")));
    // Nothing half unpacked is left beside it.
    EXPECT_EQ(entries(), text.empty() ? 2u : 1u);
    return text;
  }
};

TEST_F(Unpacking, ExtractsEveryKindOfArchive) {
  for (const auto kind : {Kind::tar_gz, Kind::tar_xz, Kind::zip}) {
    EXPECT_EQ(extract_error({{"d/", "", AE_IFDIR}, {"d/x", "one"}, {"e/f/y", "two"}}, kind), "");
    EXPECT_EQ(read_file(in("out/d/x")), "one");
    EXPECT_EQ(read_file(in("out/e/f/y")), "two");
    fs::remove_all(in("out"));
  }
}

TEST_F(Unpacking, RefusesNamesThatLeadOut) {
  for (const auto* name : {"../evil", "a/../../evil", "/tmp/evil", "..", "a\\..\\evil"})
    for (const auto kind : {Kind::tar_gz, Kind::zip})
      EXPECT_TRUE(says(extract_error({{name, "x"}}, kind), "refused")) << name;
  EXPECT_FALSE(fs::exists(in("").parent_path().parent_path() / "evil"));
}

TEST_F(Unpacking, RefusesLinksAndDevices) {
  EXPECT_TRUE(says(extract_error({{"l", "", AE_IFLNK, "/etc"}}), "link or device"));
  EXPECT_TRUE(says(extract_error({{"l", "", AE_IFLNK, "x"}}, Kind::zip), "link or device"));
  EXPECT_TRUE(says(extract_error({{"x", "1"}, {"h", "", AE_IFREG, "/etc/passwd", true}}),
                   "link or device"));
  EXPECT_TRUE(says(extract_error({{"f", "", AE_IFIFO}}), "link or device"));
  EXPECT_TRUE(says(extract_error({{"c", "", AE_IFCHR}}), "link or device"));
}

TEST_F(Unpacking, RefusesANameThatComesTwice) {
  EXPECT_TRUE(says(extract_error({{"x", "1"}, {"./x", "2"}}), "twice"));
  EXPECT_NE(extract_error({{"x", "1"}, {"x/y", "2"}}), "");
}

TEST_F(Unpacking, RefusesABomb) {
  const std::vector<Entry> zeros = {{"z", std::string(size_t{24} << 20, '\0')}};
  const UnpackLimits limits{1 << 20, 64, 100};
  for (const auto kind : {Kind::tar_gz, Kind::zip})
    EXPECT_TRUE(says(extract_error(zeros, kind, limits), "grows far beyond"));
}

TEST_F(Unpacking, RefusesTooManyFiles) {
  std::vector<Entry> many;
  for (int i = 0; i < 50; ++i) many.push_back({std::to_string(i), ""});
  EXPECT_TRUE(says(extract_error(many, Kind::tar_gz, {1 << 20, 64, 49}), "too many"));
}

TEST_F(Unpacking, RefusesArchivesCutAnywhere) {
  for (const auto kind : {Kind::tar_gz, Kind::zip}) {
    std::string noise;
    for (int i = 0; i < 3000; ++i) noise += static_cast<char>(i * i * 31 >> 3);
    write_archive(in("whole"), kind, {{"x", noise}, {"y", noise}});
    const auto bytes = read_file(in("whole"));
    for (const double share : {0.0, 0.1, 0.5, 0.9}) {
      write_file(in("cut"), bytes.substr(0, static_cast<size_t>(share * bytes.size())));
      EXPECT_NE(error_of([&] { extract(in("cut"), in("out")); }), "") << share;
      EXPECT_FALSE(fs::exists(in("out")));
    }
  }
}

TEST_F(Unpacking, RefusesWhatIsNoArchive) {
  write_file(in("a"), "plain text, no archive at all");
  EXPECT_NE(error_of([&] { extract(in("a"), in("out")); }), "");
  EXPECT_TRUE(says(extract_error({}), "holds no files"));
}

TEST_F(Unpacking, NeverReplacesAFolder) {
  fs::create_directories(in("out"));
  write_file(in("out/mine"), "mine");
  write_archive(in("a"), Kind::zip, {{"x", "1"}});
  EXPECT_TRUE(says(error_of([&] { extract(in("a"), in("out")); }), "exists already"));
  EXPECT_EQ(read_file(in("out/mine")), "mine");
}

TEST_F(Unpacking, AWholeDatasetIsFetchedUnpackedAndMarkedOnce) {
  ::setenv("no_proxy", "127.0.0.1", 1);
  write_archive(in("a"), Kind::zip, {{"inner/x.txt", "one"}});
  const auto zip = read_file(in("a"));
  RudeServer server([&](const auto& request) -> RudeServer::Answer {
    return {response("200 OK", request.path == "/set.zip" ? zip : "plain")};
  });
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const std::string before = cache ? cache : "";
  ::setenv("XDG_CACHE_HOME", in("").c_str(), 1);
  Dataset set{"toy", "a toy", "none", "nobody", "toy", "toy"};
  set.files = {{"set.zip", {server.url("/set.zip")}, 0, "", "", Unpack::extract},
               {"p.txt", {server.url("/p.txt")}}};
  const auto place = get_dataset(set, {});
  EXPECT_EQ(read_file(place / "set/inner/x.txt"), "one");
  EXPECT_EQ(read_file(place / "p.txt"), "plain");
  EXPECT_FALSE(fs::exists(place / "set.zip"));
  const auto here = places(set);
  ASSERT_EQ(here.size(), 1u);
  EXPECT_EQ(here[0].folder, place);
  get_dataset(set, {});  // nothing more to fetch
  EXPECT_EQ(server.requests().size(), 2u);
  before.empty() ? ::unsetenv("XDG_CACHE_HOME") : ::setenv("XDG_CACHE_HOME", before.c_str(), 1);
}

}  // namespace
}  // namespace cajal::data
