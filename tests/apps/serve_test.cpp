#ifdef CAJAL_HTTP
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "atlas/small_atlas.h"
#include "cajal/atlas/sqlite.h"
#include "cajal/core/json.h"
#include "core/scratch.h"

// `cajal serve` as a browser meets it, and as those meet it who mean no good.
namespace {

using namespace cajal;

/// The command in a process of its own, with what it wrote.
class Process {
 public:
  Process(const std::vector<std::string>& words, const std::filesystem::path& complaints) {
    int ends[2];
    require(::pipe(ends) == 0, "no pipe");
    child_ = ::fork();
    if (child_ == 0) {
      ::dup2(ends[1], 1);
      ::close(ends[0]);
      if (!std::freopen(complaints.c_str(), "w", stderr)) ::_exit(126);
      std::vector<char*> arguments;
      for (const auto& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
      arguments.push_back(nullptr);
      ::execv(CAJAL_COMMAND, arguments.data());
      ::_exit(127);
    }
    ::close(ends[1]);
    output_ = ::fdopen(ends[0], "r");
  }
  ~Process() {
    if (child_ > 0) end(SIGKILL);
    std::fclose(output_);
  }
  std::string line() {
    std::string out;
    for (int c; (c = std::fgetc(output_)) != EOF && c != '\n';) out += static_cast<char>(c);
    return out;
  }
  void signal(int number) const { ::kill(child_, number); }
  /// The exit code, or minus the signal that ended it.
  int end(int number = 0) {
    if (number) signal(number);
    int status = 0;
    ::waitpid(child_, &status, 0);
    child_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  pid_t child_ = 0;
  FILE* output_ = nullptr;
};

class Serve : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto pattern = (std::filesystem::temp_directory_path() / "cajal-serve-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    ::setenv("XDG_CACHE_HOME", (folder_ / "cache").c_str(), 1);
    atlas::save_small_atlas(folder_ / "a.db");
    server_ = std::make_unique<Process>(
        std::vector<std::string>{"cajal", "serve", (folder_ / "a.db").string(), "--port", "0",
                                 "--json"},
        folder_ / "stderr");
    const auto url = parse_json(server_->line(), "output")["url"].get<std::string>();
    port_ = std::stoi(url.substr(url.rfind(':') + 1));
  }
  static void TearDownTestSuite() {
    EXPECT_EQ(server_->end(SIGTERM), 0);
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  static httplib::Client client() { return httplib::Client("127.0.0.1", port_); }
  static httplib::Result get(const std::string& path, const httplib::Headers& headers = {}) {
    return client().Get(path, headers);
  }
  static int status(const std::string& path) {
    const auto answer = get(path);
    return answer ? answer->status : -1;
  }
  static Json json(const std::string& path) {
    const auto answer = get(path);
    require(answer && answer->status == 200, "{}: {}", path, answer ? answer->body : "no answer");
    return parse_json(answer->body, path);
  }
  /// What a request of these very bytes is answered with.
  static std::string raw(const std::string& bytes) {
    const int socket = connect();
    [[maybe_unused]] auto sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    ::shutdown(socket, SHUT_WR);
    std::string out(1 << 16, '\0');
    size_t got = 0;
    for (ssize_t n; (n = ::recv(socket, out.data() + got, out.size() - got, 0)) > 0;)
      got += static_cast<size_t>(n);
    ::close(socket);
    return out.substr(0, got);
  }
  static int connect() {
    const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in place{};
    place.sin_family = AF_INET, place.sin_port = htons(static_cast<uint16_t>(port_));
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    require(::connect(socket, reinterpret_cast<sockaddr*>(&place), sizeof place) == 0, "connect");
    return socket;
  }

  static inline std::filesystem::path folder_;
  static inline std::unique_ptr<Process> server_;
  static inline int port_ = 0;
};

TEST_F(Serve, GivesItsPagesAndNothingElse) {
  const auto page = get("/");
  ASSERT_TRUE(page);
  EXPECT_EQ(page->status, 200);
  EXPECT_NE(page->body.find("<main"), std::string::npos);
  EXPECT_EQ(status("/app.js"), 200);
  EXPECT_EQ(status("/style.css"), 200);
  for (const char* path :
       {"/../../../../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/%2e%2e/app.js", "//etc/passwd",
        "/app.js/..", "/package.json", "/api", "/api/", "/api/neurons/../overview"})
    EXPECT_EQ(status(path), 404) << path;
}

TEST_F(Serve, AnswersCarryHeadersThatShutOthersOut) {
  for (const char* path : {"/", "/api/overview", "/nothing", "/api/neurons?page=x"}) {
    const auto answer = get(path);
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->get_header_value("X-Content-Type-Options"), "nosniff") << path;
    const auto policy = answer->get_header_value("Content-Security-Policy");
    EXPECT_NE(policy.find("default-src 'none'"), std::string::npos) << path;
    EXPECT_EQ(policy.find("unsafe"), std::string::npos) << path;
  }
}

TEST_F(Serve, TextOfTheAtlasTravelsAsJsonOnly) {
  const auto answer = get("/api/neuron?layer=0&neuron=5");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->get_header_value("Content-Type"), "application/json");
  const auto one = parse_json(answer->body, "answer");
  EXPECT_EQ(one["exemplars"][0]["before"], "<img src=x> ");
  EXPECT_EQ(one["exemplars"][0]["after"],
            " \xef\xbf\xbd end");  // valid UTF-8 whatever the file holds
  EXPECT_EQ(get("/")->body.find("<script>model"), std::string::npos);
}

TEST_F(Serve, PagesOfNeuronsFollowEachOther) {
  const auto first = json("/api/neurons?page_size=15&order=rate&descending=1");
  const auto second = json("/api/neurons?page_size=15&order=rate&descending=1&page=1");
  EXPECT_EQ(first["total"], 40);
  EXPECT_EQ(first["neurons"].size(), 15u);
  EXPECT_GE(first["neurons"][14]["rate"], second["neurons"][0]["rate"]);
}

TEST_F(Serve, RefusesParametersThatAreWrong) {
  for (const char* words :
       {"page=-1", "page=1e3", "page=", "page=99999999999999999999", "page_size=0",
        "page_size=1000000", "layer=0x1", "layer=-1", "layer=2", "layer=1&layer=0", "rate_min=nan",
        "rate_min=inf", "rate_min=1,5", "order=rate;DROP TABLE browse", "order=id", "role=none",
        "kind=a&kind=b&kind=c&kind=d&kind=e", "nothing=1", "descending=yes"}) {
    const auto answer = get(std::string("/api/neurons?") + words);
    ASSERT_TRUE(answer) << words;
    EXPECT_EQ(answer->status, 400) << words;
    EXPECT_TRUE(parse_json(answer->body, words).contains("error")) << words;
  }
  EXPECT_EQ(status("/api/neurons?word=" + std::string(300, 'x')), 400);
  EXPECT_EQ(status("/api/neuron?layer=0"), 400);
  EXPECT_EQ(status("/api/neuron?layer=0&neuron=20"), 404);
  EXPECT_EQ(status("/api/some?ids=1"), 400);
  EXPECT_EQ(status("/api/some?ids=0.1,9.9"), 400);
}

TEST_F(Serve, SqlInAWordFindsNothingAndHarmsNothing) {
  EXPECT_EQ(json("/api/neurons?word=%27%3B%20DROP%20TABLE%20browse%3B--")["total"], 0);
  EXPECT_EQ(json("/api/neurons?kind=%27%20OR%201%3D1--")["total"], 0);
  EXPECT_EQ(json("/api/neurons?word=%00%ff%fe")["total"], 0);
  EXPECT_EQ(json("/api/neurons")["total"], 40);
}

TEST_F(Serve, AnswersOnlyToItsOwnNames) {
  for (const char* host : {"evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1",
                           "localhost.evil", "[::2]", ""})
    EXPECT_NE(raw(fmt::format("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host)).find(" 403 "),
              std::string::npos)
        << host;
  EXPECT_NE(raw("GET / HTTP/1.1\r\n\r\n").find(" 403 "), std::string::npos);
  EXPECT_NE(raw("GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n").find(" 403 "),
            std::string::npos);
  for (const char* host : {"localhost", "127.0.0.1:1", "[::1]", "LocalHost:99"})
    EXPECT_NE(raw(fmt::format("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host))
                  .find(" 200 "),
              std::string::npos)
        << host;
}

TEST_F(Serve, RefusesRequestsFromOtherSites) {
  EXPECT_EQ(get("/api/overview", {{"Origin", "http://evil.example"}})->status, 403);
  EXPECT_EQ(get("/api/overview", {{"Origin", "null"}})->status, 403);
}

TEST_F(Serve, BoundsWhatARequestMayHold) {
  EXPECT_EQ(status("/api/neurons?word=" + std::string(20'000, 'a')), 414);
  const auto post = [](const std::string& body, const char* type) {
    const auto answer = client().Post("/api/live", body, type);
    return answer ? answer->status : -1;
  };
  EXPECT_EQ(post(std::string(1 << 20, 'x'), "application/json"), 413);
  EXPECT_EQ(post("{}", "text/plain"), 415);
  EXPECT_EQ(post(std::string(1000, '['), "application/json"), 400);
  EXPECT_EQ(post("{\"text\": 1}", "application/json"), 400);
  EXPECT_EQ(post("{\"text\": \"a\", \"more\": 1}", "application/json"), 400);
  EXPECT_EQ(post("{\"text\": \"a\"}", "application/json"), 404);  // no model was given
  EXPECT_EQ(client().Delete("/api/overview")->status, 405);
  EXPECT_EQ(client().Get("/api/live")->status, 404);
}

TEST_F(Serve, LivesThroughBytesThatAreNoRequest) {
  for (const std::string& bytes :
       {std::string("\0\1\2\3", 4), std::string(5000, 'A'), std::string("GET\r\n\r\n"),
        std::string("GET / HTTP/9.9\r\n\r\n"),
        "GET / HTTP/1.1\r\n" + std::string(9000, 'h') + ": x",
        std::string("POST /api/live HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n")})
    EXPECT_EQ(raw(bytes).find(" 200 "), std::string::npos);
  EXPECT_EQ(status("/"), 200);
}

TEST_F(Serve, ClientsThatSayNothingDoNotKeepOthersOut) {
  std::vector<int> silent;
  for (int k = 0; k < 12; ++k) {
    silent.push_back(connect());
    [[maybe_unused]] auto sent = ::send(silent.back(), "GET / HT", 8, MSG_NOSIGNAL);
  }
  EXPECT_EQ(status("/api/overview"), 200);
  for (const int socket : silent) ::close(socket);
}

TEST_F(Serve, AnswersManyAtOnceAlike) {
  const auto expected = get("/api/neurons?order=energy")->body;
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&] {
      for (int k = 0; k < 20; ++k) {
        const auto answer = get("/api/neurons?order=energy");
        wrong += !answer || answer->body != expected;
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(Serve, RefusesFilesThatAreNoAtlasInOneLine) {
  write_file(folder_ / "text.db", std::string(4096, 'x'));
  write_file(folder_ / "empty.db", "");
  {
    atlas::Database db(folder_ / "foreign.db", atlas::Database::Access::create);
    db.run("CREATE TABLE notes(x)");
  }
  auto half = read_file(folder_ / "a.db");
  write_file(folder_ / "half.db", half.substr(0, half.size() / 2));
  for (const char* name : {"text.db", "empty.db", "foreign.db", "half.db", "missing.db"}) {
    Process process({"cajal", "serve", (folder_ / name).string(), "--port", "0"},
                    folder_ / "complaint");
    EXPECT_EQ(process.end(), 2) << name;
    const auto complaint = read_file(folder_ / "complaint");
    EXPECT_TRUE(complaint.starts_with("cajal: ")) << complaint;
    EXPECT_EQ(std::count(complaint.begin(), complaint.end(), '\n'), 1) << complaint;
    EXPECT_NE(complaint.find(name), std::string::npos) << complaint;
  }
}

TEST_F(Serve, RefusesAPortThatIsTaken) {
  Process process({"cajal", "serve", (folder_ / "a.db").string(), "--port", std::to_string(port_)},
                  folder_ / "complaint");
  EXPECT_EQ(process.end(), 2);
  EXPECT_NE(read_file(folder_ / "complaint").find(std::to_string(port_)), std::string::npos);
}

TEST_F(Serve, EndsWithZeroOnInterrupt) {
  Process process({"cajal", "serve", (folder_ / "a.db").string(), "--port", "0", "--json"},
                  folder_ / "complaint");
  EXPECT_TRUE(process.line().starts_with("{\"url\":\"http://127.0.0.1:"));
  EXPECT_EQ(process.end(SIGINT), 0);
}

}  // namespace
#endif
