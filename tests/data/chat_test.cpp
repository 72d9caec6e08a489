#include "cajal/data/chat.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <thread>

#include "cajal/core/error.h"
#include "cajal/core/files.h"
#include "cajal/core/timing.h"
#include "cajal/data/chat_cache.h"
#include "cajal/data/chat_server.h"
#include "core/scratch.h"
#include "rude_server.h"
#include "says.h"

namespace cajal::data {
namespace {

constexpr const char* kSecret = "sk-very-secret-0123456789";

ChatRequest question(const std::string& text, int64_t sample = 0) {
  return {.model = "m", .messages = {{"user", text}}, .temperature = 1, .sample = sample};
}

std::string good(const std::string& content) {
  return response(
      "200 OK", Json({{"choices",
                       Json::array({{{"message", {{"role", "assistant"}, {"content", content}}}}})},
                      {"usage", {{"prompt_tokens", 3}, {"completion_tokens", 2}}}})
                    .dump());
}

class Chat : public Scratch {
 protected:
  void SetUp() override { ::unsetenv("CAJAL_TEST_KEY"); }
  void TearDown() override {
    ::unsetenv("CAJAL_TEST_KEY");
    Scratch::TearDown();
  }

  ChatOptions options(const std::string& base_url) {
    ChatOptions out;
    out.base_url = base_url, out.key_variable = "CAJAL_TEST_KEY";
    out.backoff = 0.001, out.timeout = 2, out.attempts = 4;
    out.notice = [this](const std::string& text) { notices_ += text + "\n"; };
    return out;
  }
  std::string notices_;
};

TEST_F(Chat, AsksAnEndpointAndReadsItsReply) {
  RudeServer server([](const auto&) { return RudeServer::Answer{good("yes")}; });
  ChatClient client(options(server.url("/v1")));
  const auto reply = client.ask(question("is it?"));
  EXPECT_EQ(reply.content, "yes");
  EXPECT_EQ(reply.prompt_tokens, 3);
  EXPECT_EQ(reply.completion_tokens, 2);
  EXPECT_EQ(server.requests().at(0).path, "/v1/chat/completions");
  const ChatPrice price{.prompt = 1e6, .completion = 2e6};
  EXPECT_NEAR(price.of(client.usage()), 3 + 2 * 2, 1e-9);
}

// Every way in which a first answer can be bad and a second one good.
TEST_F(Chat, TriesAgainAfterWhatMayPass) {
  const std::string whole = good("at last");
  for (const auto& bad :
       {response("429 Too Many Requests", "{}", "Retry-After: 0\r\n"),
        response("500 Internal Server Error", "oops"), response("503 Service Unavailable", ""),
        whole.substr(0, whole.size() - 9), std::string(), response("200 OK", "{\"choices\": [{"),
        response("200 OK", "{\"choices\": []}"), response("200 OK", "[]"),
        response("200 OK", "{\"choices\":[{\"message\":{\"content\":17}}]}"),
        response("200 OK", "{\"error\":\"\xff\xfe\"}"), response("200 OK", "")}) {
    std::atomic<int> count = 0;
    RudeServer server([&](const auto&) { return RudeServer::Answer{count++ ? whole : bad}; });
    ChatClient client(options(server.url("/v1")));
    EXPECT_EQ(client.ask(question("x")).content, "at last") << bad;
    EXPECT_EQ(client.usage().retries, 1) << bad;
  }
}

TEST_F(Chat, GivesUpOnAServerThatStalls) {
  RudeServer server([](const auto&) { return RudeServer::Answer{"HTTP/1.1 200 OK\r\n", 5}; });
  auto o = options(server.url("/v1"));
  o.timeout = 0.2, o.attempts = 2;
  ChatClient client(o);
  const Stopwatch watch;
  const auto error = error_of([&] { client.ask(question("x")); });
  EXPECT_TRUE(says(error, "after 2 attempts")) << error;
  EXPECT_LT(watch.seconds(), 3);
}

TEST_F(Chat, WaitsAsLongAsTheServerAsks) {
  std::atomic<int> count = 0;
  RudeServer server([&](const auto&) {
    return RudeServer::Answer{count++ ? good("ok")
                                      : response("429 Slow", "", "Retry-After: 1\r\n")};
  });
  ChatClient client(options(server.url("/v1")));
  const Stopwatch watch;
  client.ask(question("x"));
  EXPECT_GE(watch.seconds(), 1);
}

TEST_F(Chat, ReadsRetryAfterInSecondsOrAsADate) {
  EXPECT_EQ(retry_after("7", -1), 7);
  EXPECT_EQ(retry_after("Wed, 21 Oct 2015 07:28:00 GMT", -1), 0);
  EXPECT_EQ(retry_after("soon", -1), -1);
  EXPECT_EQ(retry_after("-3", -1), -1);
  EXPECT_EQ(retry_after("", -1), -1);
}

TEST_F(Chat, AWrongKeyFailsAtOnceAndStaysSecret) {
  ::setenv("CAJAL_TEST_KEY", kSecret, 1);
  RudeServer server([](const auto&) {
    return RudeServer::Answer{
        response("401 Unauthorized", fmt::format("{{\"error\":\"bad key {}\"}}", kSecret))};
  });
  auto o = options(server.url("/v1"));
  o.cache = in("replies");
  ChatClient client(o);
  const auto error = error_of([&] { client.ask(question("x")); });
  EXPECT_TRUE(says(error, "status 401")) << error;
  EXPECT_TRUE(says(error, "bad key ***")) << error;
  EXPECT_FALSE(says(error + notices_, kSecret));
  EXPECT_EQ(server.requests().size(), 1u);
  EXPECT_TRUE(server.requests()[0].has(fmt::format("Authorization: Bearer {}", kSecret)));
}

TEST_F(Chat, TheKeyIsNeitherInTheCacheNorInMessages) {
  ::setenv("CAJAL_TEST_KEY", kSecret, 1);
  std::atomic<int> count = 0;
  RudeServer server([&](const auto&) {
    return RudeServer::Answer{count++ ? good("fine") : response("500 Oops", kSecret)};
  });
  auto o = options(server.url("/v1"));
  o.cache = in("replies");
  ChatClient(o).ask(question("x"));
  EXPECT_TRUE(says(notices_, "***")) << notices_;
  EXPECT_FALSE(says(notices_, kSecret));
  EXPECT_FALSE(says(read_file(in("replies")), kSecret));
}

TEST_F(Chat, TheKeyDoesNotGoOutInTheClear) {
  ::setenv("CAJAL_TEST_KEY", kSecret, 1);
  const auto error = error_of([&] { ChatClient client(options("http://192.0.2.1/v1")); });
  EXPECT_TRUE(says(error, "plain http")) << error;
  EXPECT_FALSE(says(error, kSecret));
  ::setenv("CAJAL_TEST_KEY", "one\r\nHost: two", 1);
  EXPECT_TRUE(
      says(error_of([&] { ChatClient client(options("https://192.0.2.1/v1")); }), "printable"));
}

TEST_F(Chat, DoesNotFollowRedirects) {
  RudeServer elsewhere([](const auto&) { return RudeServer::Answer{good("trap")}; });
  RudeServer server([&](const auto&) {
    return RudeServer::Answer{
        response("302 Found", "", fmt::format("Location: {}\r\n", elsewhere.url("/")))};
  });
  ChatClient client(options(server.url("/v1")));
  EXPECT_TRUE(says(error_of([&] { client.ask(question("x")); }), "status 302"));
  EXPECT_TRUE(elsewhere.requests().empty());
}

TEST_F(Chat, RefusesAReplyWithoutEnd) {
  RudeServer server(
      [](const auto&) { return RudeServer::Answer{response("200 OK", std::string(5000, 'x'))}; });
  auto o = options(server.url("/v1"));
  o.max_bytes = 1000, o.attempts = 1;
  ChatClient client(o);
  EXPECT_TRUE(says(error_of([&] { client.ask(question("x")); }), "more than 1000 bytes"));
}

TEST_F(Chat, TheCacheAnswersAgainWithoutAsking) {
  std::atomic<int> count = 0;
  RudeServer server(
      [&](const auto&) { return RudeServer::Answer{good(fmt::format("{}", count++))}; });
  auto o = options(server.url("/v1"));
  o.cache = in("replies");
  EXPECT_EQ(ChatClient(o).ask(question("x")).content, "0");
  ChatClient again(o);
  EXPECT_EQ(again.ask(question("x")).content, "0");
  EXPECT_TRUE(again.ask(question("x")).cached);
  EXPECT_EQ(again.ask(question("x", 1)).content, "1");  // another sample is another question
  EXPECT_EQ(again.ask(question("y")).content, "2");
  EXPECT_EQ(again.usage().requests, 2);
}

TEST_F(Chat, TheCacheOutlivesAKillInTheMiddleOfALine) {
  const auto path = in("replies");
  ChatCache(path).add("a", {.content = "first\nline"});
  const auto whole = read_file(path);
  write_file(path, whole + "{\"key\":\"b\",\"conte");
  ChatCache cache(path);
  EXPECT_EQ(cache.find("a")->content, "first\nline");
  EXPECT_FALSE(cache.find("b"));
  cache.add("c", {.content = "third"});
  EXPECT_EQ(read_file(path).find("{\"key\":\"b\""), std::string::npos);
}

TEST_F(Chat, RefusesACacheThatIsAnotherFile) {
  for (const std::string content :
       {"not a cache", "not a cache\n", "{\"key\": 3}\n", "[]\n", "{\"key\":\"a\"}\n"}) {
    write_file(in("other"), content);
    EXPECT_THROW(ChatCache cache(in("other")), Error) << content;
    EXPECT_EQ(read_file(in("other")), content);
  }
}

TEST_F(Chat, ACacheBelongsToOneProcessAtATime) {
  ChatCache first(in("replies"));
  EXPECT_TRUE(says(error_of([&] { ChatCache second(in("replies")); }), "another process"));
}

TEST_F(Chat, RefusesUrlsThatAreNone) {
  for (const std::string url : {"", "ftp://x/v1", "localhost:80", "https://user:word@x/v1"})
    EXPECT_THROW(ChatClient client(options(url)), Error) << url;
}

TEST_F(Chat, ManyRequestsShareTheWaiting) {
  if (!ChatServer::available()) GTEST_SKIP() << "this build has no cpp-httplib";
  ChatServer server([](const ChatRequest& r) { return r.messages[0].content; }, {.delay = 0.1});
  auto o = options(server.base_url());
  o.concurrency = 64;
  ChatClient client(o);
  std::vector<std::thread> threads;
  std::atomic<int> right = 0;
  for (int t = 0; t < 64; ++t)
    threads.emplace_back([&, t] {
      for (int k = 0; k < 2; ++k) {
        const auto text = fmt::format("{} {}", t, k);
        right += client.ask(question(text)).content == text;
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(right, 128);
}

TEST_F(Chat, AServerOnABadDayIsOutlived) {
  if (!ChatServer::available()) GTEST_SKIP() << "this build has no cpp-httplib";
  ChatServer server([](const ChatRequest& r) { return r.messages[0].content; },
                    {.rate_limited = 0.1,
                     .broken = 0.1,
                     .malformed = 0.1,
                     .cut_off = 0.1,
                     .lying = 0.1,
                     .stalled = 0.02,
                     .stall = 1,
                     .seed = 4});
  auto o = options(server.base_url());
  o.timeout = 0.3, o.attempts = 20;
  ChatClient client(o);
  for (int k = 0; k < 60; ++k) {
    const auto text = fmt::format("question {}", k);
    ASSERT_EQ(client.ask(question(text)).content, text);
  }
  EXPECT_GT(client.usage().retries, 10);
}

}  // namespace
}  // namespace cajal::data
