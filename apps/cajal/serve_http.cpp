#include "serve_http.h"

#include <arpa/inet.h>
#include <unistd.h>

#include <array>
#include <condition_variable>
#include <mutex>
#include <queue>
#include <thread>

#include "cajal/core/error.h"
#include "cajal/text/unicode.h"
#include "serve_connection.h"

namespace cajal::serve {
namespace {

// Threads behind a short queue: when it is full, accepting waits, and so do new clients.
class BoundedQueue : public httplib::TaskQueue {
 public:
  explicit BoundedQueue(size_t threads) : most_(2 * threads) {
    for (size_t k = 0; k < threads; ++k) threads_.emplace_back([this] { work(); });
  }
  void enqueue(std::function<void()> task) override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return tasks_.size() < most_; });
    tasks_.push(std::move(task));
    changed_.notify_all();
  }
  void shutdown() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

 private:
  void work() {
    for (;;) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stop_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      const auto task = std::move(tasks_.front());
      tasks_.pop();
      changed_.notify_all();
      lock.unlock();
      task();
    }
  }

  size_t most_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::queue<std::function<void()>> tasks_;
  std::vector<std::thread> threads_;
  bool stop_ = false;
};

bool is_number_address(const std::string& name) {
  std::array<unsigned char, sizeof(in6_addr)> bytes;
  return inet_pton(AF_INET, name.c_str(), bytes.data()) == 1 ||
         inet_pton(AF_INET6, name.c_str(), bytes.data()) == 1;
}

std::string without_port(std::string_view header) {
  std::string name(header);
  if (name.starts_with('[')) {
    const auto end = name.find(']');
    return end == name.npos ? "" : name.substr(1, end - 1);
  }
  return name.substr(0, name.find(':'));
}

std::string json_text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void refuse(httplib::Response& response, int status, const std::string& text) {
  response.status = status;
  response.set_content(json_text({{"error", text}}), "application/json");
}

const httplib::Headers& safe_headers() {
  static const httplib::Headers headers = {
      {"Content-Security-Policy",
       "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
       "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
      {"X-Content-Type-Options", "nosniff"},
      {"Referrer-Policy", "no-referrer"},
      {"Cross-Origin-Opener-Policy", "same-origin"},
      {"Cross-Origin-Resource-Policy", "same-origin"},
      {"X-Frame-Options", "DENY"},
      {"Cache-Control", "no-store"}};
  return headers;
}

}  // namespace

HostNames::HostNames(const std::string& host) : host_(text::lower_case(host)) {
  loopback_ = host_ == "localhost" || host_ == "::1" || host_.starts_with("127.");
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) == 0) machine_ = text::lower_case(name.data());
}

bool HostNames::allow(std::string_view header) const {
  std::string buffer;
  const auto name = text::lower_case(text::repair_utf8(without_port(header), buffer));
  if (name.empty()) return false;
  if (name == "localhost" || name == "::1" || name == "127.0.0.1" || name == host_) return true;
  return !loopback_ && (name == machine_ || is_number_address(name));
}

HttpServer::HttpServer(const std::string& host, int port, const Limits& limits)
    : host_(host), names_(host), limits_(limits) {
  new_task_queue = [this] { return new BoundedQueue(limits_.threads); };
  set_payload_max_length(limits.body_bytes);
  set_keep_alive_max_count(limits.requests);
  set_keep_alive_timeout(static_cast<time_t>(limits.idle_seconds));
  set_default_headers(safe_headers());
  // httplib would share a port with another server of the same user (SO_REUSEPORT).
  set_socket_options([](socket_t socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  set_pre_routing_handler([this](const httplib::Request& request, httplib::Response& response) {
    using Next = httplib::Server::HandlerResponse;
    const auto origin = request.get_header_value("Origin");
    if (request.get_header_value_count("Host") != 1 ||
        !names_.allow(request.get_header_value("Host")))
      refuse(response, 403, "the server is not called so; use " + url());
    else if (!origin.empty() && origin != "http://" + request.get_header_value("Host"))
      refuse(response, 403, "requests from pages of other sites are not answered");
    else if (request.method != "GET" && request.method != "HEAD" && request.method != "POST")
      refuse(response, 405, "GET, HEAD and POST are answered");
    else
      return Next::Unhandled;
    return Next::Handled;
  });
  set_error_handler([](const httplib::Request&, httplib::Response& response) {
    if (!response.body.empty()) return;
    const auto text = response.status == 413   ? "the request is too long"
                      : response.status == 414 ? "the address is too long"
                      : response.status == 404 ? "there is nothing here"
                                               : "the request is not understood";
    refuse(response, response.status, text);
  });
  port_ = port == 0 ? bind_to_any_port(host) : bind_to_port(host, port) ? port : -1;
  require(port_ > 0,
          "{} port {}: cannot be listened at (taken, or not an address of this machine); --port 0 "
          "takes any free port",
          host, port);
}

std::string HttpServer::url() const {
  const bool six = host_.find(':') != std::string::npos;
  return fmt::format("http://{}{}{}:{}/", six ? "[" : "", host_, six ? "]" : "", port_);
}

void HttpServer::file(const std::string& path, const std::string& type, std::string content) {
  auto& kept = files_[path];
  kept = {type, std::move(content)};
  httplib::Server::Get(path, [&kept](const httplib::Request&, httplib::Response& response) {
    response.set_content(kept.content, kept.type);
  });
}

void HttpServer::answer(const Answer& handler, const httplib::Request& request,
                        httplib::Response& response) const {
  try {
    response.set_content(json_text(handler(request)), "application/json");
  } catch (const Refusal& refusal) {
    refuse(response, refusal.status, refusal.text);
  } catch (const Error& error) {
    refuse(response, 400, error.what());
  } catch (const std::exception& error) {
    const std::string text = error.what();
    refuse(response, 500, text.substr(0, text.find('\n')));
  }
}

void HttpServer::get(const std::string& path, Answer handler) {
  httplib::Server::Get(path, [this, handler = std::move(handler)](const httplib::Request& request,
                                                                  httplib::Response& response) {
    answer(handler, request, response);
  });
}

void HttpServer::post(const std::string& path, Answer handler) {
  httplib::Server::Post(path, [this, handler = std::move(handler)](const httplib::Request& request,
                                                                   httplib::Response& response) {
    if (!request.get_header_value("Content-Type").starts_with("application/json"))
      return refuse(response, 415, "expected Content-Type: application/json");
    answer(handler, request, response);
  });
}

void HttpServer::run() {
  listen_after_bind();
  ended_ = true;
}

void HttpServer::stop() {
  // httplib forgets a stop that comes before it listens.
  while (!ended_ && !is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  httplib::Server::stop();
}

bool HttpServer::process_and_close_socket(socket_t sock) {
  Connection connection(sock);
  const auto stopped = [this] { return svr_sock_ == INVALID_SOCKET; };
  for (size_t k = 1; k <= limits_.requests; ++k) {
    if (!connection.wait(limits_.idle_seconds, stopped)) break;
    connection.deadline(limits_.request_seconds);
    bool closed = false;
    // Squeezing answers costs more than the loopback saves.
    const auto plain = [](httplib::Request& request) { request.headers.erase("Accept-Encoding"); };
    if (!process_request(connection, k == limits_.requests, closed, plain) || closed) break;
  }
  return true;
}

}  // namespace cajal::serve
