#pragma once
#include <functional>
#include <memory>
#include <string>

#include "cajal/data/chat.h"

namespace cajal::data {

/// How often a server does what real ones do on a bad day: shares of all requests, drawn from the
/// seed and the number of the request.
struct ChatFaults {
  double rate_limited = 0;  // 429 with Retry-After
  double broken = 0;        // 500
  double malformed = 0;     // a 200 whose body is no JSON
  double cut_off = 0;       // a 200 whose body ends before its length
  double lying = 0;         // a 200 of JSON that is no chat reply
  double stalled = 0;       // no answer for `stall` seconds
  double stall = 5;
  int retry_after = 0;  // seconds
  double delay = 0;     // seconds before every answer
  uint64_t seed = 0;
};

/// A server of POST /v1/chat/completions on the loopback, for tests and simulations. Protocols do
/// not carry ChatRequest::sample: here it counts how often the same body came before.
class ChatServer {
 public:
  using Answer = std::function<std::string(const ChatRequest& request)>;

  /// Port 0: any free one. `threads` requests are answered side by side. Throws Error when the port
  /// is taken or this build has no cpp-httplib.
  ChatServer(Answer answer, const ChatFaults& faults = {}, int port = 0, int threads = 80);
  ~ChatServer();
  ChatServer(const ChatServer&) = delete;
  ChatServer& operator=(const ChatServer&) = delete;

  std::string base_url() const;  // http://127.0.0.1:PORT/v1
  int64_t requests() const;      // that came, failed ones too
  int64_t answered() const;      // with a whole reply
  void wait();                   // until another thread stops it, or for ever

  static bool available();  // whether this build can serve

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cajal::data
