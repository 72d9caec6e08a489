#include "cajal/core/files.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "core/scratch.h"

namespace {

namespace fs = std::filesystem;
using Files = Scratch;

TEST_F(Files, AreReadWholeAndMapped) {
  const auto path = put("a", "some text");
  EXPECT_EQ(cajal::read_file(path), "some text");
  EXPECT_EQ(cajal::MappedFile(path).text(), "some text");
}

TEST_F(Files, OfNoBytesAreReadAndMapped) {
  const auto path = put("empty", "");
  EXPECT_EQ(cajal::read_file(path), "");
  EXPECT_TRUE(cajal::MappedFile(path).bytes().empty());
}

TEST_F(Files, ThatAreMissingOrNoFilesAreNamed) {
  const auto missing = in("missing").string();
  EXPECT_EQ(error_of([&] { cajal::read_file(missing); }),
            missing + ": cannot be opened: No such file or directory");
  EXPECT_EQ(error_of([&] { cajal::MappedFile{in("")}; }, in("").string()), ": not a regular file");
}

TEST_F(Files, ThatArePipesAreRefusedWithoutWaiting) {
  ASSERT_EQ(::mkfifo(in("pipe").c_str(), 0600), 0);
  EXPECT_EQ(error_of([&] { cajal::read_file(in("pipe")); }, in("pipe").string()),
            ": not a regular file");
}

TEST_F(Files, OverTheLimitAreNotRead) {
  const auto path = put("a", "12345");
  EXPECT_EQ(error_of([&] { cajal::read_file(path, 4); }, path.string()),
            ": 5 bytes, at most 4 are read");
}

TEST_F(Files, ForgetLeavesMemoryOfOthersAlone) {
  const cajal::MappedFile file(put("a", std::string(100'000, 'x')));
  std::vector<std::byte> other(1 << 20, std::byte{7});
  file.forget(other);
  EXPECT_EQ(other[other.size() / 2], std::byte{7});
  file.forget(file.bytes());
  EXPECT_EQ(file.text()[50'000], 'x');
}

TEST_F(Files, AreReplacedOnlyByCommit) {
  const auto path = put("a", "old");
  {
    cajal::AtomicFile file(path);
    file.write("new");
  }
  EXPECT_EQ(cajal::read_file(path), "old");
  EXPECT_EQ(entries(), 1u);
  cajal::AtomicFile file(path);
  file.write("new");
  EXPECT_EQ(cajal::read_file(path), "old");
  file.commit();
  EXPECT_EQ(cajal::read_file(path), "new");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(Files, OfAWriterThatIsKilledHalfWayKeepTheirOldContent) {
  const auto path = put("a", "old");
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    cajal::AtomicFile file(path);
    file.write("half of the new");
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(cajal::read_file(path), "old");
}

TEST_F(Files, OnAFullDiskFailInOneLineAndLeaveNothing) {
  const auto path = put("a", "old");
  std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit before {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  struct rlimit tight = before;
  tight.rlim_cur = 4096;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
  const auto message = error_of([&] { cajal::write_file(path, std::string(10'000, 'x')); });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(message, path.string() + ": cannot be written: File too large");
  EXPECT_EQ(cajal::read_file(path), "old");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(Files, ThatAreDevicesAreWrittenAndNotReplaced) {
  cajal::write_file("/dev/null", "x");
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full on this machine";
  EXPECT_EQ(error_of([] { cajal::write_file("/dev/full", "x"); }),
            "/dev/full: cannot be written: No space left on device");
  EXPECT_TRUE(fs::is_character_file("/dev/full"));
}

TEST_F(Files, BehindASymbolicLinkAreReplacedAndTheLinkStays) {
  const auto path = put("a", "old");
  fs::create_symlink("a", in("link"));
  cajal::write_file(in("link"), "new");
  EXPECT_TRUE(fs::is_symlink(in("link")));
  EXPECT_EQ(cajal::read_file(path), "new");
}

TEST_F(Files, ThatMayNotBeWrittenAreNamed) {
  const auto nowhere = in("no/folder").string();
  EXPECT_EQ(error_of([&] { cajal::write_file(nowhere, "x"); }),
            nowhere + ": cannot be written: No such file or directory");
  fs::create_directory(in("locked"));
  fs::permissions(in("locked"), fs::perms::owner_read | fs::perms::owner_exec);
  const auto user = ::geteuid();
  if (user == 0) {
    ASSERT_EQ(::seteuid(65534), 0);  // root may write everywhere
  }
  const auto message = error_of([&] { cajal::write_file(in("locked/a"), "x"); });
  ASSERT_EQ(::seteuid(user), 0);
  EXPECT_EQ(message, in("locked/a").string() + ": cannot be written: Permission denied");
}

TEST_F(Files, FoldersAppearOnlyByCommit) {
  {
    cajal::AtomicDirectory folder(in("out"));
    cajal::write_file(folder.path() / "a", "x");
    EXPECT_FALSE(fs::exists(in("out")));
  }
  EXPECT_EQ(entries(), 0u);
  cajal::AtomicDirectory folder(in("out/"));
  cajal::write_file(folder.path() / "a", "x");
  folder.commit();
  EXPECT_EQ(cajal::read_file(in("out/a")), "x");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(Files, FoldersThatHoldSomethingAreNotOverwritten) {
  fs::create_directory(in("empty"));
  cajal::AtomicDirectory taken(in("empty"));
  taken.commit();
  fs::create_directory(in("full"));
  put("full/a", "x");
  EXPECT_EQ(error_of([&] { cajal::AtomicDirectory{in("full")}; }, in("full").string()),
            ": exists already; name a new folder or remove it first");
  EXPECT_EQ(error_of([&] { cajal::AtomicDirectory{in("full/a")}; }, in("full/a").string()),
            ": exists already; name a new folder or remove it first");
}

}  // namespace
