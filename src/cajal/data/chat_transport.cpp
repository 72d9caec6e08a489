#include "cajal/data/chat_transport.h"

#include "cajal/core/error.h"

#ifdef CAJAL_CURL
#include <curl/curl.h>

#include <cmath>
#include <cstring>
#include <memory>

#include "cajal/core/machine.h"
#endif

namespace cajal::data {

#ifdef CAJAL_CURL
namespace {

struct Receiver {
  ChatTransport::Answer answer;
  size_t most = 0;
  bool too_long = false;
};

size_t on_body(char* bytes, size_t, size_t count, void* self) {
  auto& receiver = *static_cast<Receiver*>(self);
  if (receiver.answer.body.size() + count > receiver.most) {
    receiver.too_long = true;
    return 0;
  }
  receiver.answer.body.append(bytes, count);
  return count;
}

size_t on_header(char* text, size_t, size_t count, void* self) {
  constexpr char name[] = "retry-after:";
  std::string_view line(text, count);
  if (line.size() < sizeof name || ::strncasecmp(text, name, sizeof name - 1) != 0) return count;
  line.remove_prefix(sizeof name - 1);
  const auto first = line.find_first_not_of(" \t"), last = line.find_last_not_of(" \t\r\n");
  if (first != line.npos)
    static_cast<Receiver*>(self)->answer.retry_after = line.substr(first, last - first + 1);
  return count;
}

class HeaderList {
 public:
  void add(const std::string& line) { list_ = curl_slist_append(list_, line.c_str()); }
  ~HeaderList() { curl_slist_free_all(list_); }
  curl_slist* get() const { return list_; }

 private:
  curl_slist* list_ = nullptr;
};

}  // namespace

void* ChatTransport::take() {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  require(started == CURLE_OK, "libcurl could not start");
  std::unique_lock lock(mutex_);
  freed_.wait(lock, [&] { return free_ > 0; });
  --free_;
  if (idle_.empty()) return curl_easy_init();
  auto* connection = idle_.back();
  idle_.pop_back();
  return connection;
}

void ChatTransport::put(void* connection) {
  {
    const std::lock_guard lock(mutex_);
    ++free_;
    if (connection != nullptr) idle_.push_back(connection);
  }
  freed_.notify_one();
}

ChatTransport::~ChatTransport() {
  for (auto* connection : idle_) curl_easy_cleanup(connection);
}

ChatTransport::Answer ChatTransport::post(const std::string& url, const std::string& body,
                                          const std::string& key, const ChatOptions& options) {
  const auto give_back = [this](CURL* curl) { put(curl); };
  const std::unique_ptr<CURL, decltype(give_back)> curl(take(), give_back);
  require(curl != nullptr, "libcurl could not start");
  Receiver receiver{{}, static_cast<size_t>(options.max_bytes)};
  HeaderList headers;
  headers.add("Content-Type: application/json");
  headers.add("Expect:");
  if (!key.empty()) headers.add("Authorization: Bearer " + key);
  const auto agent = "cajal/" + version();
  char message[CURL_ERROR_SIZE] = "";
  const auto set = [&](CURLoption option, auto value) {
    require(curl_easy_setopt(curl.get(), option, value) == CURLE_OK, "{}: libcurl refused {}", url,
            static_cast<int>(option));
  };
  curl_easy_reset(curl.get());  // options, not its open connections
  set(CURLOPT_URL, url.c_str());
  set(CURLOPT_USERAGENT, agent.c_str());
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_ERRORBUFFER, message);
  set(CURLOPT_FOLLOWLOCATION, 0L);
#if LIBCURL_VERSION_NUM >= 0x075500
  set(CURLOPT_PROTOCOLS_STR, "http,https");
#else
  set(CURLOPT_PROTOCOLS, static_cast<long>(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
  if (direct) set(CURLOPT_NOPROXY, "*");
  set(CURLOPT_CONNECTTIMEOUT_MS, std::lround(options.connect_timeout * 1000));
  set(CURLOPT_TIMEOUT_MS, std::lround(options.timeout * 1000));
  set(CURLOPT_HTTPHEADER, headers.get());
  set(CURLOPT_POSTFIELDS, body.c_str());
  set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  set(CURLOPT_WRITEFUNCTION, &on_body);
  set(CURLOPT_WRITEDATA, static_cast<void*>(&receiver));
  set(CURLOPT_HEADERFUNCTION, &on_header);
  set(CURLOPT_HEADERDATA, static_cast<void*>(&receiver));
  const auto code = curl_easy_perform(curl.get());
  long status = 0;
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
  receiver.answer.status = static_cast<int>(status);
  if (receiver.too_long)
    receiver.answer.problem = fmt::format("more than {} bytes came", options.max_bytes);
  else if (code != CURLE_OK)
    receiver.answer.problem = *message ? message : curl_easy_strerror(code);
  return std::move(receiver.answer);
}

#else

ChatTransport::~ChatTransport() = default;
void* ChatTransport::take() { return nullptr; }
void ChatTransport::put(void*) {}
ChatTransport::Answer ChatTransport::post(const std::string& url, const std::string&,
                                          const std::string&, const ChatOptions&) {
  fail("{}: this build has no libcurl; install its development files and build again", url);
}

#endif

}  // namespace cajal::data
