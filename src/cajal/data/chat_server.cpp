#include "cajal/data/chat_server.h"

#include "cajal/core/error.h"

#ifdef CAJAL_HTTPLIB
#include <httplib.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "cajal/core/random.h"
#endif

namespace cajal::data {

#ifdef CAJAL_HTTPLIB
namespace {

ChatRequest parse_request(const std::string& body) {
  const auto json = parse_json(body, "request", {.depth = 8, .bytes = size_t{4} << 20});
  ChatRequest request;
  require(json.is_object() && json.contains("messages") && json["messages"].is_array(),
          "request: expected 'messages'");
  for (const auto& message : json["messages"]) {
    require(message.is_object() && message.contains("role") && message["role"].is_string() &&
                message.contains("content") && message["content"].is_string(),
            "request: a message without role and content");
    request.messages.push_back(
        {message["role"].get<std::string>(), message["content"].get<std::string>()});
  }
  if (json.contains("model") && json["model"].is_string())
    request.model = json["model"].get<std::string>();
  if (json.contains("temperature") && json["temperature"].is_number())
    request.temperature = json["temperature"].get<double>();
  return request;
}

void sleep(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

// Words, as a rough count of tokens.
int64_t words(std::string_view text) {
  int64_t count = 0;
  bool inside = false;
  for (const char c : text) {
    const bool letter = static_cast<unsigned char>(c) > 32;
    count += letter && !inside;
    inside = letter;
  }
  return count;
}

std::string reply_to(const ChatRequest& request, const std::string& content) {
  int64_t asked = 0;
  for (const auto& message : request.messages) asked += words(message.content);
  const Json message = {{"role", "assistant"}, {"content", content}};
  const Json json = {
      {"object", "chat.completion"},
      {"model", request.model},
      {"choices", Json::array({{{"index", 0}, {"message", message}, {"finish_reason", "stop"}}})},
      {"usage", {{"prompt_tokens", asked}, {"completion_tokens", words(content)}}}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

constexpr const char* kJson = "application/json";

}  // namespace

struct ChatServer::State {
  Answer answer;
  ChatFaults faults;
  httplib::Server server;
  std::thread thread;
  int port = 0;
  std::atomic<int64_t> requests = 0, answered = 0;
  std::atomic<bool> stopping = false;
  std::mutex mutex;
  std::unordered_map<size_t, int64_t> asked;  // how often each body has come

  void serve(const httplib::Request& from, httplib::Response& to) {
    const auto number = requests++;
    Random random(faults.seed, static_cast<uint64_t>(number));
    double dice = random.uniform();
    const auto strikes = [&](double share) {
      const bool hit = dice >= 0 && dice < share;
      dice -= share;
      return hit;
    };
    sleep(faults.delay);
    if (strikes(faults.rate_limited)) {
      to.status = 429;
      to.set_header("Retry-After", std::to_string(faults.retry_after));
      to.set_content(R"({"error":{"message":"slow down"}})", kJson);
    } else if (strikes(faults.broken)) {
      to.status = 500;
      to.set_content("internal error", "text/plain");
    } else if (strikes(faults.malformed)) {
      to.set_content("{\"choices\": [{\"message\": {\"content\": \"Score", kJson);
    } else if (strikes(faults.lying)) {
      to.set_content(R"({"choices":[{"message":{"content":42}}]})", kJson);
    } else if (strikes(faults.cut_off)) {
      to.set_content_provider(1000, kJson, [](size_t at, size_t, httplib::DataSink& sink) {
        return at == 0 && sink.write("{\"choices\"", 10);  // and then hangs up
      });
    } else {
      if (strikes(faults.stalled))
        for (double left = faults.stall; left > 0 && !stopping; left -= 0.05) sleep(0.05);
      whole(from, to);
    }
  }

  void whole(const httplib::Request& from, httplib::Response& to) {
    try {
      auto request = parse_request(from.body);
      {
        const std::lock_guard lock(mutex);
        request.sample = asked[std::hash<std::string>()(from.body)]++;
      }
      to.set_content(reply_to(request, answer(request)), kJson);
      ++answered;
    } catch (const std::exception& error) {
      to.status = 400;
      to.set_content(Json({{"error", {{"message", error.what()}}}}).dump(), kJson);
    }
  }
};

ChatServer::ChatServer(Answer answer, const ChatFaults& faults, int port, int threads)
    : state_(std::make_unique<State>()) {
  auto& s = *state_;
  s.answer = std::move(answer), s.faults = faults;
  s.server.new_task_queue = [threads] {
    return new httplib::ThreadPool(static_cast<size_t>(threads));
  };
  s.server.set_tcp_nodelay(true);
  s.server.set_keep_alive_max_count(1'000'000);
  s.server.set_keep_alive_timeout(1);
  s.server.set_payload_max_length(size_t{4} << 20);
  s.server.Post("/v1/chat/completions",
                [&s](const httplib::Request& from, httplib::Response& to) { s.serve(from, to); });
  int listener = -1;
  s.server.set_socket_options([&](int socket) {
    listener = socket;
    const int yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  if (port == 0)
    s.port = s.server.bind_to_any_port("127.0.0.1");
  else
    s.port = s.server.bind_to_port("127.0.0.1", port) ? port : -1;
  require(s.port > 0, "127.0.0.1:{}: the port cannot be served from", port);
  // The library lets 5 connections wait; the next ones would come back after a second.
  ::listen(listener, 1024);
  s.thread = std::thread([&s] { s.server.listen_after_bind(); });
  while (!s.server.is_running()) sleep(0.001);
}

ChatServer::~ChatServer() {
  state_->stopping = true;
  state_->server.stop();
  if (state_->thread.joinable()) state_->thread.join();
}

std::string ChatServer::base_url() const {
  return fmt::format("http://127.0.0.1:{}/v1", state_->port);
}
int64_t ChatServer::requests() const { return state_->requests; }
int64_t ChatServer::answered() const { return state_->answered; }
void ChatServer::wait() { state_->thread.join(); }
bool ChatServer::available() { return true; }

#else

struct ChatServer::State {};
ChatServer::ChatServer(Answer, const ChatFaults&, int, int) {
  fail("a chat server: this build has no cpp-httplib");
}
ChatServer::~ChatServer() = default;
std::string ChatServer::base_url() const { return ""; }
int64_t ChatServer::requests() const { return 0; }
int64_t ChatServer::answered() const { return 0; }
void ChatServer::wait() {}
bool ChatServer::available() { return false; }

#endif

}  // namespace cajal::data
