#pragma once
#include <httplib.h>

#include <atomic>
#include <functional>
#include <map>
#include <string>

#include "cajal/core/json.h"

namespace cajal::serve {

/// What one client may cost.
struct Limits {
  size_t threads = 16;           // requests answered at once; further connections wait
  size_t body_bytes = 16 << 10;  // of a request
  double request_seconds = 10;   // to send a request and to take its answer
  double idle_seconds = 2;       // between requests of one connection
  size_t requests = 100;         // of one connection
};

/// A request that is wrong: answered with its status and {"error": text}.
struct Refusal {
  int status;
  std::string text;
};

/// The names under which the server may be called, so that a page from elsewhere whose name was
/// turned to this machine (DNS rebinding) is refused: its own host; with a loopback host only
/// loopback names, else also any number address and this machine's name.
class HostNames {
 public:
  explicit HostNames(const std::string& host);
  /// `header`: what Host said, "name" or "name:port".
  bool allow(std::string_view header) const;
  bool loopback() const { return loopback_; }

 private:
  std::string host_, machine_;
  bool loopback_ = false;
};

/// Answers requests on one address within `Limits`. Each answer carries headers that let a page
/// load nothing from elsewhere and run nothing but its own files.
class HttpServer : private httplib::Server {
 public:
  using Answer = std::function<Json(const httplib::Request&)>;

  /// Binds; port 0 = any free. Throws Error that names the address when it is taken or not there.
  HttpServer(const std::string& host, int port, const Limits& limits = {});

  void file(const std::string& path, const std::string& type, std::string content);
  /// JSON answers; the handler throws Refusal or Error (status 400).
  void get(const std::string& path, Answer answer);
  void post(const std::string& path, Answer answer);

  int port() const { return port_; }
  std::string url() const;
  /// Answers until `stop`, which another thread may call before or while it runs.
  void run();
  void stop();

 private:
  bool process_and_close_socket(socket_t sock) override;
  void answer(const Answer& handler, const httplib::Request& request,
              httplib::Response& response) const;

  struct File {
    std::string type, content;
  };
  std::map<std::string, File> files_;
  std::string host_;
  HostNames names_;
  Limits limits_;
  int port_ = 0;
  std::atomic<bool> ended_ = false;
};

}  // namespace cajal::serve
