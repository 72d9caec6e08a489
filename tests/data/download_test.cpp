#include "cajal/data/download.h"

#include <gtest/gtest.h>
#include <httplib.h>
#include <signal.h>
#include <sys/resource.h>

#include <thread>

#include "cajal/core/error.h"
#include "cajal/core/files.h"
#include "cajal/data/checksum.h"
#include "core/scratch.h"
#include "rude_server.h"
#include "says.h"

namespace cajal::data {
namespace {
namespace fs = std::filesystem;

std::string body_of(size_t size) {
  std::string out(size, ' ');
  for (size_t i = 0; i < size; ++i) out[i] = static_cast<char>('a' + (i * 7 + i / 251) % 26);
  return out;
}

const std::string kBody = body_of(200'000);

DownloadOptions quick() {
  DownloadOptions options;
  options.backoff = 0.01;
  options.stall_timeout = 1;
  options.attempts = 3;
  return options;
}

RemoteFile file_at(const std::string& url, bool known = true) {
  RemoteFile file{"f.bin", {url}};
  if (known) file.sha256 = checksum_of(kBody, Digest::sha256);
  return file;
}

/// The start of a file, cut off: the headers promise all of it.
std::string cut_off(size_t at, const std::string& headers = "ETag: \"v1\"\r\n") {
  return fmt::format("HTTP/1.1 200 OK\r\nConnection: close\r\n{}Content-Length: {}\r\n\r\n{}",
                     headers, kBody.size(), kBody.substr(0, at));
}

std::string rest_from(size_t at, const std::string& headers = "ETag: \"v1\"\r\n") {
  return response("206 Partial Content", kBody.substr(at),
                  fmt::format("{}Content-Range: bytes {}-{}/{}\r\n", headers, at, kBody.size() - 1,
                              kBody.size()));
}

class Download : public Scratch {
 protected:
  void SetUp() override { ::setenv("no_proxy", "127.0.0.1", 1); }

  bool partial_left() const { return fs::exists(in("f.bin.partial")); }
  std::string message(const RemoteFile& file, const DownloadOptions& options = quick()) {
    return error_of([&] { download(file, in(""), options); });
  }
};

TEST_F(Download, BringsAFileFromAnOrdinaryServerAndChecksIt) {
  httplib::Server server;
  server.Get("/f", [](const httplib::Request&, httplib::Response& response) {
    response.set_content(kBody, "application/octet-stream");
  });
  const int port = server.bind_to_any_port("127.0.0.1");
  std::thread thread([&] { server.listen_after_bind(); });
  const auto got = download(file_at(fmt::format("http://127.0.0.1:{}/f", port)), in(""), quick());
  server.stop();
  thread.join();
  EXPECT_EQ(read_file(got.path), kBody);
  EXPECT_TRUE(got.verified);
  EXPECT_FALSE(partial_left());
}

TEST_F(Download, ResumesFromAnOrdinaryServerThatServesRanges) {
  httplib::Server server;
  std::atomic<int> whole = 0, ranges = 0;
  server.Get("/f", [&](const httplib::Request& request, httplib::Response& response) {
    (request.has_header("Range") ? ranges : whole)++;
    response.set_content(kBody, "application/octet-stream");
  });
  const int port = server.bind_to_any_port("127.0.0.1");
  std::thread thread([&] { server.listen_after_bind(); });
  const auto url = fmt::format("http://127.0.0.1:{}/f", port);
  write_file(in("f.bin.partial"), kBody.substr(0, 1000));
  write_file(in("f.bin.partial.json"),
             fmt::format(R"({{"url":"{}","etag":"","last_modified":"","total":200000}})", url));
  download(file_at(url), in(""), quick());
  server.stop();
  thread.join();
  EXPECT_EQ(read_file(in("f.bin")), kBody);
  EXPECT_EQ(ranges, 1);
  EXPECT_EQ(whole, 0);
}

TEST_F(Download, ResumesWhereTheServerCutOff) {
  RudeServer server([](const auto& request) -> RudeServer::Answer {
    if (request.has("Range: bytes=70000-") && request.has("If-Range: \"v1\""))
      return {rest_from(70'000)};
    return {cut_off(70'000)};
  });
  download(file_at(server.url("/f"), false), in(""), quick());
  EXPECT_EQ(read_file(in("f.bin")), kBody);
  EXPECT_EQ(server.requests().size(), 2u);
}

TEST_F(Download, ALaterRunResumesWhatAnEarlierOneLeft) {
  bool down = true;
  RudeServer server([&](const auto& request) -> RudeServer::Answer {
    if (request.has("Range: bytes=70000-")) return {down ? "" : rest_from(70'000)};
    return {cut_off(70'000)};
  });
  const auto file = file_at(server.url("/f"));
  EXPECT_NE(message(file), "");
  EXPECT_TRUE(partial_left());
  EXPECT_FALSE(fs::exists(in("f.bin")));
  down = false;
  download(file, in(""), quick());
  EXPECT_EQ(read_file(in("f.bin")), kBody);
}

TEST_F(Download, StartsAnewWhenTheServerIgnoresTheRange) {
  int count = 0;
  RudeServer server([&](const auto&) -> RudeServer::Answer {
    return {count++ == 0 ? cut_off(70'000) : response("200 OK", kBody)};
  });
  download(file_at(server.url("/f")), in(""), quick());
  EXPECT_EQ(read_file(in("f.bin")), kBody);
}

TEST_F(Download, StartsAnewWhenTheFileChangedOnTheServer) {
  int count = 0;
  RudeServer server([&](const auto& request) -> RudeServer::Answer {
    if (count++ == 0) return {cut_off(70'000)};
    // A server that does not know If-Range: the rest of another file.
    if (request.has("Range:")) return {rest_from(70'000, "ETag: \"v2\"\r\n")};
    return {response("200 OK", kBody, "ETag: \"v2\"\r\n")};
  });
  download(file_at(server.url("/f"), false), in(""), quick());
  EXPECT_EQ(read_file(in("f.bin")), kBody);
  EXPECT_EQ(count, 3);
}

TEST_F(Download, StartsAnewWhenARangeIsNotTheOneAskedFor) {
  int count = 0;
  RudeServer server([&](const auto& request) -> RudeServer::Answer {
    if (count++ == 0) return {cut_off(70'000)};
    return {request.has("Range:") ? rest_from(60'000) : response("200 OK", kBody)};
  });
  download(file_at(server.url("/f"), false), in(""), quick());
  EXPECT_EQ(read_file(in("f.bin")), kBody);
}

TEST_F(Download, StartsAnewWhenTheServerCannotSatisfyTheRange) {
  int count = 0;
  RudeServer server([&](const auto& request) -> RudeServer::Answer {
    if (count++ == 0) return {cut_off(70'000)};
    return {request.has("Range:") ? response("416 Range Not Satisfiable", "")
                                  : response("200 OK", kBody)};
  });
  download(file_at(server.url("/f")), in(""), quick());
  EXPECT_EQ(read_file(in("f.bin")), kBody);
}

TEST_F(Download, DoesNotResumeAcrossServersWithoutTheSameUrl) {
  RudeServer server([](const auto&) -> RudeServer::Answer { return {response("200 OK", kBody)}; });
  write_file(in("f.bin.partial"), "bytes of somewhere else");
  write_file(in("f.bin.partial.json"),
             R"({"url":"http://127.0.0.1:1/g","etag":"\"v1\"","last_modified":"","total":99999})");
  download(file_at(server.url("/f")), in(""), quick());
  EXPECT_EQ(read_file(in("f.bin")), kBody);
  EXPECT_FALSE(server.requests().front().has("Range:"));
}

TEST_F(Download, SurvivesADamagedNoteOfWhereThePartCameFrom) {
  RudeServer server([](const auto&) -> RudeServer::Answer { return {response("200 OK", kBody)}; });
  write_file(in("f.bin.partial"), "old");
  write_file(in("f.bin.partial.json"), "{\"url\": [[[");
  download(file_at(server.url("/f")), in(""), quick());
  EXPECT_EQ(read_file(in("f.bin")), kBody);
}

TEST_F(Download, TellsAPartLeftByAnotherFileByItsSumAndStartsAnew) {
  RudeServer server([](const auto& request) -> RudeServer::Answer {
    return {request.has("Range:") ? rest_from(1000, "") : response("200 OK", kBody)};
  });
  write_file(in("f.bin.partial"), std::string(1000, 'x'));
  write_file(in("f.bin.partial.json"),
             fmt::format(R"({{"url":"{}","etag":"","last_modified":"","total":200000}})",
                         server.url("/f")));
  download(file_at(server.url("/f")), in(""), quick());
  EXPECT_EQ(read_file(in("f.bin")), kBody);
}

TEST_F(Download, RefusesAFileWhosePromisedLengthIsTooShort) {
  RudeServer server([](const auto&) -> RudeServer::Answer {
    return {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100\r\n\r\n" + kBody};
  });
  EXPECT_TRUE(says(message(file_at(server.url("/f"))), "SHA-256"));
  EXPECT_FALSE(fs::exists(in("f.bin")));
  EXPECT_FALSE(partial_left());
}

TEST_F(Download, RefusesAFileWhosePromisedLengthIsTooLong) {
  RudeServer server([](const auto&) -> RudeServer::Answer {
    return {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 900000\r\n\r\n" + kBody};
  });
  const auto text = message(file_at(server.url("/f")));
  EXPECT_TRUE(says(text, "after 3 attempts"));
  EXPECT_FALSE(fs::exists(in("f.bin")));
}

TEST_F(Download, RefusesALengthThatIsNotTheCataloguesBeforeReading) {
  RudeServer server([](const auto&) -> RudeServer::Answer { return {response("200 OK", kBody)}; });
  auto file = file_at(server.url("/f"));
  file.bytes = 123;
  EXPECT_TRUE(says(message(file), "has 200000 bytes there, expected 123"));
}

TEST_F(Download, RemovesAWrongFileAndNamesBothSums) {
  RudeServer server(
      [](const auto&) -> RudeServer::Answer { return {response("200 OK", "a captive portal")}; });
  const auto text = message(file_at(server.url("/f")));
  EXPECT_TRUE(says(text, checksum_of("a captive portal", Digest::sha256)));
  EXPECT_TRUE(says(text, checksum_of(kBody, Digest::sha256)));
  EXPECT_TRUE(fs::is_empty(in("")));
}

TEST_F(Download, ChecksTheMd5WhenThatIsAllThereIs) {
  RudeServer server([](const auto&) -> RudeServer::Answer { return {response("200 OK", kBody)}; });
  auto file = file_at(server.url("/f"), false);
  file.md5 = checksum_of("other", Digest::md5);
  EXPECT_TRUE(says(message(file), "MD5"));
  file.md5 = checksum_of(kBody, Digest::md5);
  EXPECT_TRUE(download(file, in(""), quick()).verified);
}

TEST_F(Download, SaysThatAFileWithoutAKnownSumWasNotVerified) {
  RudeServer server([](const auto&) -> RudeServer::Answer { return {response("200 OK", kBody)}; });
  const auto got = download(file_at(server.url("/f"), false), in(""), quick());
  EXPECT_FALSE(got.verified);
  EXPECT_EQ(got.sha256, checksum_of(kBody, Digest::sha256));
}

TEST_F(Download, GoesToTheMirrorWhenAUrlIsGone) {
  RudeServer server([](const auto& request) -> RudeServer::Answer {
    return {request.path == "/mirror" ? response("200 OK", kBody)
                                      : response("404 Not Found", "no")};
  });
  auto file = file_at(server.url("/gone"));
  file.urls.push_back(server.url("/mirror"));
  EXPECT_EQ(download(file, in(""), quick()).url, server.url("/mirror"));
  EXPECT_EQ(server.requests().size(), 2u);  // a 404 is not tried again
}

TEST_F(Download, GoesToTheMirrorWhenAServerHasTheWrongFile) {
  RudeServer server([](const auto& request) -> RudeServer::Answer {
    return {response("200 OK", request.path == "/mirror" ? kBody : "wrong")};
  });
  auto file = file_at(server.url("/f"));
  file.urls.push_back(server.url("/mirror"));
  download(file, in(""), quick());
  EXPECT_EQ(read_file(in("f.bin")), kBody);
}

TEST_F(Download, TriesAgainAfterAServersOwnFailure) {
  int count = 0;
  RudeServer server([&](const auto&) -> RudeServer::Answer {
    return {count++ < 2 ? response("500 Internal Server Error", "oops")
                        : response("200 OK", kBody)};
  });
  download(file_at(server.url("/f")), in(""), quick());
  EXPECT_EQ(count, 3);
}

TEST_F(Download, NamesEveryUrlAndReasonWhenAllFail) {
  RudeServer server([](const auto& request) -> RudeServer::Answer {
    return {response(request.path == "/a" ? "404 Not Found" : "503 Busy", "")};
  });
  auto file = file_at(server.url("/a"));
  file.urls.push_back(server.url("/b"));
  const auto text = message(file);
  EXPECT_TRUE(says(text, "/a: answered with status 404"));
  EXPECT_TRUE(says(text, "/b: answered with status 503 (after 3 attempts)"));
  EXPECT_TRUE(fs::is_empty(in("")));
}

TEST_F(Download, GivesUpOnARedirectLoop) {
  RudeServer server([&](const auto& request) -> RudeServer::Answer {
    return {response("302 Found", "",
                     "Location: " + std::string(request.path == "/a" ? "/b" : "/a") + "\r\n")};
  });
  EXPECT_TRUE(says(message(file_at(server.url("/a"))), "redirects"));
  EXPECT_EQ(server.requests().size(), 6u);
}

TEST_F(Download, FollowsARedirect) {
  RudeServer server([&](const auto& request) -> RudeServer::Answer {
    if (request.path == "/a") return {response("302 Found", "moved", "Location: /b\r\n")};
    return {response("200 OK", kBody)};
  });
  download(file_at(server.url("/a")), in(""), quick());
  EXPECT_EQ(read_file(in("f.bin")), kBody);
}

TEST_F(Download, NeverLeavesTheWebOnARedirect) {
  RudeServer server([&](const auto&) -> RudeServer::Answer {
    return {response("302 Found", "", "Location: file:///etc/hostname\r\n")};
  });
  EXPECT_TRUE(says(message(file_at(server.url("/f"), false)), "rotocol"));
  EXPECT_FALSE(fs::exists(in("f.bin")));
}

TEST_F(Download, RefusesAnAddressOutsideTheWeb) {
  EXPECT_TRUE(says(message(file_at("file:///etc/hostname", false)), "rotocol"));
}

TEST_F(Download, GivesUpOnAServerThatStalls) {
  RudeServer server([](const auto&) -> RudeServer::Answer { return {cut_off(10), 30}; });
  auto options = quick();
  options.attempts = 1;
  EXPECT_TRUE(says(message(file_at(server.url("/f")), options), "too slow"));
}

TEST_F(Download, GivesUpWhereNobodyListens) {
  std::string url;
  {
    url = RudeServer([](const auto&) { return RudeServer::Answer{}; }).url("/f");
  }
  EXPECT_TRUE(says(message(file_at(url)), "after 3 attempts"));
}

TEST_F(Download, StopsAFileThatNeverEnds) {
  RudeServer server([](const auto&) -> RudeServer::Answer {
    return {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + kBody};  // no length: until the end
  });
  auto options = quick();
  options.max_bytes = 50'000;
  EXPECT_TRUE(says(message(file_at(server.url("/f")), options), "more than 50000 bytes"));
  EXPECT_TRUE(fs::is_empty(in("")));
}

TEST_F(Download, RefusesALengthBeyondTheLimitBeforeReading) {
  RudeServer server([](const auto&) -> RudeServer::Answer {
    return {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4000000000000\r\n\r\nx"};
  });
  EXPECT_TRUE(says(message(file_at(server.url("/f"))), "sends more than"));
}

TEST_F(Download, RefusesAFileThatTheDiskCannotHold) {
  RudeServer server([](const auto&) -> RudeServer::Answer {
    return {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 900000000000000000\r\n\r\nx"};
  });
  auto options = quick();
  options.max_bytes = INT64_MAX;
  EXPECT_TRUE(says(message(file_at(server.url("/f")), options), "the disk has"));
}

TEST_F(Download, SaysWhenABytesCannotBeStoredAndDoesNotTryAgain) {
  RudeServer server([](const auto&) -> RudeServer::Answer { return {response("200 OK", kBody)}; });
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{65'536, before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  const auto text = message(file_at(server.url("/f")));
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, handler);
  EXPECT_TRUE(says(text, "f.bin.partial: cannot be written"));
  EXPECT_EQ(server.requests().size(), 1u);
  EXPECT_FALSE(fs::exists(in("f.bin")));
}

TEST_F(Download, KeepsAFileThatIsHereAndRight) {
  write_file(in("f.bin"), kBody);
  const auto got = download(file_at("http://127.0.0.1:1/never"), in(""), quick());
  EXPECT_EQ(got.url, "");
  EXPECT_TRUE(got.verified);
}

TEST_F(Download, NeverOverwritesAFileThatIsHereAndWrong) {
  write_file(in("f.bin"), "mine");
  EXPECT_TRUE(says(message(file_at("http://127.0.0.1:1/never")), "move it away"));
  EXPECT_EQ(read_file(in("f.bin")), "mine");
}

TEST_F(Download, RefusesANameThatIsAPath) {
  auto file = file_at("http://127.0.0.1:1/never");
  for (const auto* name : {"../f.bin", "/tmp/f.bin", "a/b", "..", ""}) {
    file.name = name;
    EXPECT_TRUE(says(message(file), "not a plain file name")) << name;
  }
}

TEST_F(Download, TwoAtOnceFetchTheFileOnce) {
  RudeServer server([](const auto&) -> RudeServer::Answer {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    return {response("200 OK", kBody)};
  });
  const auto file = file_at(server.url("/f"));
  std::thread other([&] { download(file, in(""), quick()); });
  download(file, in(""), quick());
  other.join();
  EXPECT_EQ(server.requests().size(), 1u);
  EXPECT_EQ(read_file(in("f.bin")), kBody);
  EXPECT_FALSE(partial_left());
}

TEST_F(Download, TakesAnEmptyFile) {
  RudeServer server([](const auto&) -> RudeServer::Answer { return {response("200 OK", "")}; });
  download(file_at(server.url("/f"), false), in(""), quick());
  EXPECT_EQ(fs::file_size(in("f.bin")), 0u);
}

TEST(Checksum, GivesThePublishedSums) {
  EXPECT_EQ(checksum_of("abc", Digest::sha256),  // FIPS 180-4
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(checksum_of("abc", Digest::md5), "900150983cd24fb0d6963f7d28e17f72");  // RFC 1321
}

}  // namespace
}  // namespace cajal::data
