#pragma once
#include <httplib.h>

#include <array>
#include <chrono>
#include <functional>

namespace cajal::serve {

/// A client's socket with a time by which a request must be through, so that one who sends or
/// reads a byte at a time does not hold a thread for long. The socket is closed at the end.
class Connection : public httplib::Stream {
 public:
  explicit Connection(int socket) : socket_(socket) {}
  ~Connection() override;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Whether a request begins within `seconds`; `stopped` is asked now and then.
  bool wait(double seconds, const std::function<bool()>& stopped);
  void deadline(double seconds);

  bool is_readable() const override;
  bool is_writable() const override;
  ssize_t read(char* to, size_t size) override;
  ssize_t write(const char* from, size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  int socket() const override { return socket_; }

 private:
  bool ready(short events) const;  // before the deadline

  int socket_;
  std::chrono::steady_clock::time_point deadline_;
  std::array<char, 4096> buffer_;
  size_t begin_ = 0, end_ = 0;
};

}  // namespace cajal::serve
