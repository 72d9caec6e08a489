#pragma once
#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

/// A server on the loopback that answers with whatever bytes a test gives it: real servers do not
/// lie on demand. Every connection takes one request, gets one answer and is closed.
class RudeServer {
 public:
  struct Request {
    std::string path;
    std::string text;  // all headers
    bool has(const std::string& header) const { return text.find(header) != std::string::npos; }
  };
  struct Answer {
    std::string bytes;         // status line, headers, body
    double stall_seconds = 0;  // keeps the connection open that long after the bytes
  };

  explicit RudeServer(std::function<Answer(const Request&)> answer);
  ~RudeServer();

  std::string url(const std::string& path) const;
  std::vector<Request> requests() const;

 private:
  void serve();

  std::function<Answer(const Request&)> answer_;
  int listener_ = -1, port_ = 0;
  std::atomic<bool> stop_ = false;
  mutable std::mutex mutex_;
  std::vector<Request> requests_;
  std::thread thread_;
};

/// "HTTP/1.1 STATUS", these headers, a Content-Length that is right, the body.
std::string response(const std::string& status, const std::string& body,
                     const std::string& headers = "");
