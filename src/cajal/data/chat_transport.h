#pragma once
#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

#include "cajal/data/chat.h"

namespace cajal::data {

/// HTTP POST of JSON over connections that are kept open, for several threads.
class ChatTransport {
 public:
  explicit ChatTransport(int concurrency) : free_(concurrency) {}
  ~ChatTransport();
  ChatTransport(const ChatTransport&) = delete;
  ChatTransport& operator=(const ChatTransport&) = delete;

  struct Answer {
    int status = 0;
    std::string body, retry_after;
    std::string problem;  // why there is no whole answer; else empty
  };

  /// Waits while `concurrency` requests are under way. `key` may be empty.
  Answer post(const std::string& url, const std::string& body, const std::string& key,
              const ChatOptions& options);

  bool direct = false;  // past any proxy of the environment

 private:
  void* take();  // a connection
  void put(void* connection);

  std::mutex mutex_;
  std::condition_variable freed_;
  int free_;
  std::vector<void*> idle_;
};

}  // namespace cajal::data
