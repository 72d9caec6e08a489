#include "rude_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <stdexcept>

RudeServer::RudeServer(std::function<Answer(const Request&)> answer) : answer_(std::move(answer)) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      ::listen(listener_, 16) != 0 ||
      ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw std::runtime_error("no loopback server");
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { serve(); });
}

RudeServer::~RudeServer() {
  stop_ = true;
  thread_.join();
  ::close(listener_);
}

std::string RudeServer::url(const std::string& path) const {
  return fmt::format("http://127.0.0.1:{}{}", port_, path);
}

std::vector<RudeServer::Request> RudeServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void RudeServer::serve() {
  while (!stop_) {
    pollfd ready{listener_, POLLIN, 0};
    if (::poll(&ready, 1, 20) <= 0) continue;
    const int peer = ::accept(listener_, nullptr, nullptr);
    if (peer < 0) continue;
    Request request;
    char piece[4096];
    while (request.text.find("\r\n\r\n") == std::string::npos) {
      const auto got = ::recv(peer, piece, sizeof piece, 0);
      if (got <= 0) break;
      request.text.append(piece, static_cast<size_t>(got));
    }
    const auto from = request.text.find(' ') + 1;
    request.path = request.text.substr(from, request.text.find(' ', from) - from);
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    const auto answer = answer_(request);
    for (size_t sent = 0; sent < answer.bytes.size();) {
      const auto put =
          ::send(peer, answer.bytes.data() + sent, answer.bytes.size() - sent, MSG_NOSIGNAL);
      if (put <= 0) break;
      sent += static_cast<size_t>(put);
    }
    using clock = std::chrono::steady_clock;
    const auto until = clock::now() + std::chrono::duration<double>(answer.stall_seconds);
    char closed;
    while (!stop_ && clock::now() < until &&
           ::recv(peer, &closed, 1, MSG_DONTWAIT) != 0)  // 0: the other side hung up
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ::shutdown(peer, SHUT_RDWR);
    ::close(peer);
  }
}

std::string response(const std::string& status, const std::string& body,
                     const std::string& headers) {
  return fmt::format("HTTP/1.1 {}\r\nConnection: close\r\n{}Content-Length: {}\r\n\r\n{}", status,
                     headers, body.size(), body);
}
