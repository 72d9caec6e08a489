#include "serve_connection.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

namespace cajal::serve {
namespace {

using Clock = std::chrono::steady_clock;

bool poll_for(int socket, short events, int milliseconds) {
  pollfd one{socket, events, 0};
  return ::poll(&one, 1, milliseconds) > 0;
}

}  // namespace

Connection::~Connection() {
  ::shutdown(socket_, SHUT_RDWR);
  ::close(socket_);
}

bool Connection::wait(double seconds, const std::function<bool()>& stopped) {
  constexpr int look = 50;  // milliseconds
  if (begin_ < end_) return true;
  for (double waited = 0; waited < seconds && !stopped(); waited += look / 1e3)
    if (poll_for(socket_, POLLIN, look)) return true;
  return false;
}

void Connection::deadline(double seconds) {
  deadline_ = Clock::now() +
              std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

bool Connection::ready(short events) const {
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(deadline_ - Clock::now()).count();
  return left > 0 && poll_for(socket_, events, static_cast<int>(left));
}

bool Connection::is_readable() const { return begin_ < end_ || ready(POLLIN); }
bool Connection::is_writable() const { return ready(POLLOUT); }

ssize_t Connection::read(char* to, size_t size) {
  if (begin_ == end_) {
    if (!ready(POLLIN)) return -1;
    const auto got = ::recv(socket_, buffer_.data(), buffer_.size(), 0);
    if (got <= 0) return got;
    begin_ = 0, end_ = static_cast<size_t>(got);
  }
  const auto count = std::min(size, end_ - begin_);
  std::copy_n(buffer_.data() + begin_, count, to);
  begin_ += count;
  return static_cast<ssize_t>(count);
}

ssize_t Connection::write(const char* from, size_t size) {
  if (!ready(POLLOUT)) return -1;
  return ::send(socket_, from, size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

// Nothing here asks who is at either end.
void Connection::get_remote_ip_and_port(std::string& ip, int& port) const { ip.clear(), port = 0; }
void Connection::get_local_ip_and_port(std::string& ip, int& port) const { ip.clear(), port = 0; }

}  // namespace cajal::serve
