#pragma once
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cajal/core/json.h"

/// Talking to a chat model behind any endpoint that speaks OpenAI's protocol.
namespace cajal::data {

struct ChatMessage {
  std::string role, content;  // "system", "user" or "assistant"
};

struct ChatRequest {
  std::string model = {};
  std::vector<ChatMessage> messages = {};
  double temperature = 0;
  int64_t max_tokens = 512;
  int64_t sample = 0;  // which of several answers to the same messages; never sent
};

struct ChatReply {
  std::string content = {};
  int64_t prompt_tokens = 0, completion_tokens = 0;
  bool cached = false;
};

struct ChatOptions {
  std::string base_url = "http://127.0.0.1:8080/v1";  // without /chat/completions
  std::string key_variable = "OPENAI_API_KEY";        // environment variable that holds the key
  std::filesystem::path cache = {};                   // file of replies; empty: none are kept
  int attempts = 8;                                   // where the failure may pass
  double backoff = 1;        // seconds before the second attempt; then doubled, with jitter
  double longest_wait = 60;  // seconds; also of what a server asks for
  double connect_timeout = 10, timeout = 120;           // seconds, of one attempt
  int concurrency = 16;                                 // requests at once
  int64_t max_bytes = int64_t{4} << 20;                 // of a reply
  std::function<void(const std::string&)> notice = {};  // told of waits and new attempts
};

/// What was asked and what it took.
struct ChatUsage {
  int64_t calls = 0;     // answered, from the cache or not
  int64_t cached = 0;    // of them from the cache
  int64_t requests = 0;  // sent over the network, failed ones too
  int64_t retries = 0;
  int64_t prompt_tokens = 0, completion_tokens = 0;  // of replies that were not cached
};

/// Price of a million tokens, in whatever currency.
struct ChatPrice {
  double prompt = 0, completion = 0;
  double of(const ChatUsage& usage) const {
    return (prompt * static_cast<double>(usage.prompt_tokens) +
            completion * static_cast<double>(usage.completion_tokens)) /
           1e6;
  }
};

/// A client that may be used by many threads at once. Status 408, 409, 425, 429 and 5xx, broken
/// connections, timeouts, bodies that end early or are no such reply are tried again after a wait
/// that doubles, or as long as Retry-After asks; any other status fails at once. Redirects are not
/// followed. The key comes from the environment alone, is sent as a bearer token, never over plain
/// http to another machine, and is never written: where a server repeats it, messages show ***.
/// Replies are appended to the cache file as they come, under a hash of model, messages,
/// temperature, max_tokens and sample, so that a run that was killed goes on without asking again.
class ChatClient {
 public:
  /// Throws Error for an URL that is not http(s), for a key that would go out in the clear or
  /// cannot stand in a header, and for a cache file that is not one.
  explicit ChatClient(ChatOptions options);
  ~ChatClient();
  ChatClient(const ChatClient&) = delete;
  ChatClient& operator=(const ChatClient&) = delete;

  /// The model's answer. Throws Error that names the URL and what was wrong at the last attempt.
  ChatReply ask(const ChatRequest& request);
  ChatUsage usage() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The cache key of a request: SHA-256 of its JSON.
std::string chat_key(const ChatRequest& request);

/// The body that is sent.
Json chat_body(const ChatRequest& request);

/// Reads a reply's body; throws Error saying what is missing or of another kind.
ChatReply parse_chat_reply(std::string_view body, std::string_view where);

/// Seconds that a Retry-After header asks for, in seconds or as an HTTP date; `missing` for none
/// and for what is neither.
double retry_after(std::string_view header, double missing);

}  // namespace cajal::data
