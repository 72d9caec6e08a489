#include "cajal/data/chat.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <optional>
#include <thread>

#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/data/chat_cache.h"
#include "cajal/data/chat_transport.h"
#include "cajal/data/checksum.h"

namespace cajal::data {
namespace {

bool passes(int status) {  // whether the same request may succeed later
  return status == 408 || status == 409 || status == 425 || status == 429 || status >= 500;
}

// What a server said of a refusal, cut short, on one line.
std::string excerpt(std::string_view body) {
  std::string out;
  for (const char c : body.substr(0, 200))
    out += static_cast<unsigned char>(c) < 32 || static_cast<unsigned char>(c) > 126 ? ' ' : c;
  return out;
}

std::string host_of(const std::string& url) {
  const auto begin = url.find("://") + 3;
  auto host = url.substr(begin, url.find('/', begin) - begin);
  require(host.find('@') == host.npos, "the base URL may not hold a user name or password");
  if (host.starts_with('[')) return host.substr(1, host.find(']') - 1);
  return host.substr(0, host.find(':'));
}

bool loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

// The key, if there is one. Nothing that is thrown here may show it.
std::string read_key(const ChatOptions& options, bool clear_to_others) {
  const char* value =
      options.key_variable.empty() ? nullptr : std::getenv(options.key_variable.c_str());
  if (value == nullptr || *value == 0) return "";
  const std::string key = value;
  require(std::all_of(key.begin(), key.end(), [](char c) { return c > 32 && c < 127; }),
          "${}: the key may only hold printable characters without spaces", options.key_variable);
  require(!clear_to_others,
          "{}: the key in ${} would go over plain http to another machine; use https or unset it",
          options.base_url, options.key_variable);
  return key;
}

void replace_all(std::string& text, const std::string& what, const std::string& by) {
  for (size_t at = 0; !what.empty() && (at = text.find(what, at)) != text.npos; at += by.size())
    text.replace(at, what.size(), by);
}

}  // namespace

Json chat_body(const ChatRequest& request) {
  Json messages = Json::array();
  for (const auto& message : request.messages)
    messages.push_back({{"role", message.role}, {"content", message.content}});
  return {{"model", request.model},
          {"messages", messages},
          {"temperature", request.temperature},
          {"max_tokens", request.max_tokens},
          {"n", 1}};
}

std::string chat_key(const ChatRequest& request) {
  auto json = chat_body(request);
  json["sample"] = request.sample;
  return checksum_of(json.dump(-1, ' ', false, Json::error_handler_t::replace), Digest::sha256);
}

ChatReply parse_chat_reply(std::string_view body, std::string_view where) {
  const auto json = parse_json(body, where);
  const auto need = [&](const Json& of, const char* name) -> const Json& {
    require(of.is_object() && of.contains(name), "{}: the reply has no '{}'", where, name);
    return of.at(name);
  };
  const auto& choices = need(json, "choices");
  require(choices.is_array() && !choices.empty(), "{}: the reply has no choice", where);
  const auto& content = need(need(choices[0], "message"), "content");
  require(content.is_string(), "{}: the reply's content is no text", where);
  ChatReply reply{.content = content.get<std::string>()};
  if (!json.contains("usage") || !json["usage"].is_object()) return reply;  // some servers omit it
  const auto count = [&](const char* name) -> int64_t {
    const auto& usage = json["usage"];
    if (!usage.contains(name) || !usage[name].is_number_integer()) return 0;
    return std::max<int64_t>(0, usage[name].get<int64_t>());
  };
  reply.prompt_tokens = count("prompt_tokens");
  reply.completion_tokens = count("completion_tokens");
  return reply;
}

double retry_after(std::string_view header, double missing) {
  int64_t seconds = 0;
  const auto [end, error] = std::from_chars(header.data(), header.data() + header.size(), seconds);
  if (error == std::errc() && end == header.data() + header.size())
    return seconds >= 0 ? static_cast<double>(seconds) : missing;
  std::tm time{};
  const std::string text(header);
  if (::strptime(text.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &time) == nullptr) return missing;
  return std::max(0.0, std::difftime(::timegm(&time), std::time(nullptr)));
}

struct ChatClient::State {
  ChatOptions options;
  std::string url, key;
  ChatCache cache;
  ChatTransport transport;
  std::atomic<int64_t> calls = 0, cached = 0, requests = 0, retries = 0, prompt = 0, completion = 0;

  explicit State(ChatOptions given)
      : options(std::move(given)), cache(options.cache), transport(options.concurrency) {
    const bool http = options.base_url.starts_with("http://");
    require(http || options.base_url.starts_with("https://"),
            "'{}': expected a base URL that begins with http:// or https://", options.base_url);
    require(options.attempts > 0 && options.backoff >= 0 && options.longest_wait >= 0 &&
                options.timeout > 0 && options.connect_timeout > 0 && options.concurrency > 0 &&
                options.max_bytes > 0,
            "{}: attempts, timeouts, concurrency and max_bytes must be positive", options.base_url);
    const auto host = host_of(options.base_url);
    key = read_key(options, http && !loopback(host));
    url = options.base_url + (options.base_url.ends_with('/') ? "" : "/") + "chat/completions";
    transport.direct = loopback(host);
  }

  // Without the key, whatever the server sent back.
  std::string safe(std::string text) const {
    replace_all(text, key, "***");
    return text;
  }

  struct Attempt {
    std::optional<ChatReply> reply = {};
    std::string problem = {};
    bool lasting = false;
    double wait = -1;  // seconds that the server asks for
  };

  Attempt attempt(const std::string& body) {
    ++requests;
    const auto answer = transport.post(url, body, key, options);
    if (!answer.problem.empty()) return {{}, answer.problem};
    if (answer.status != 200) {
      return {{},
              safe(fmt::format("status {}: {}", answer.status, excerpt(answer.body))),
              !passes(answer.status),
              retry_after(answer.retry_after, -1)};
    }
    try {
      return {parse_chat_reply(answer.body, "its answer")};
    } catch (const Error& error) {
      return {{}, safe(error.what())};
    }
  }
};

ChatClient::ChatClient(ChatOptions options) : state_(std::make_unique<State>(std::move(options))) {}
ChatClient::~ChatClient() = default;

ChatReply ChatClient::ask(const ChatRequest& request) {
  auto& s = *state_;
  const auto cache_key = chat_key(request);
  if (auto reply = s.cache.find(cache_key)) {
    ++s.calls, ++s.cached;
    return *reply;
  }
  const auto body = chat_body(request).dump(-1, ' ', false, Json::error_handler_t::replace);
  Random jitter(std::hash<std::string>()(cache_key));
  std::string problem;
  for (int attempt = 1;; ++attempt) {
    auto result = s.attempt(body);
    if (result.reply) {
      s.cache.add(cache_key, *result.reply);
      ++s.calls;
      s.prompt += result.reply->prompt_tokens, s.completion += result.reply->completion_tokens;
      return *result.reply;
    }
    require(!result.lasting, "{}: {}", s.url, result.problem);
    require(attempt < s.options.attempts, "{}: {} (after {} attempts)", s.url, result.problem,
            attempt);
    // Jitter keeps many callers that failed together from coming back together.
    const double doubled = s.options.backoff * std::exp2(attempt - 1) * (0.5 + jitter.uniform());
    const double wait = std::min(s.options.longest_wait, result.wait >= 0 ? result.wait : doubled);
    if (s.options.notice)
      s.options.notice(fmt::format("{}: {}; again in {:.1f} s", s.url, result.problem, wait));
    std::this_thread::sleep_for(std::chrono::duration<double>(wait));
    ++s.retries;
  }
}

ChatUsage ChatClient::usage() const {
  const auto& s = *state_;
  return {s.calls, s.cached, s.requests, s.retries, s.prompt, s.completion};
}

}  // namespace cajal::data
