#include "cajal/data/transfer.h"

#include "cajal/core/error.h"

#ifdef CAJAL_CURL
#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <exception>
#include <memory>
#include <optional>

#include "cajal/core/machine.h"
#include "cajal/core/progress.h"
#endif

namespace cajal::data {

#ifdef CAJAL_CURL

namespace {

using Outcome = Transfer::Outcome;

std::optional<int64_t> number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

struct Range {
  int64_t first, last, total;
};

// "bytes 10-99/100"
std::optional<Range> parse_range(std::string_view text) {
  if (!text.starts_with("bytes ")) return std::nullopt;
  text.remove_prefix(6);
  const auto dash = text.find('-'), slash = text.find('/');
  if (dash == text.npos || slash == text.npos || dash > slash) return std::nullopt;
  const auto first = number(text.substr(0, dash));
  const auto last = number(text.substr(dash + 1, slash - dash - 1));
  const auto total = number(text.substr(slash + 1));
  if (!first || !last || !total) return std::nullopt;
  return Range{*first, *last, *total};
}

struct Headers {
  std::string etag, last_modified, content_range;
};

// One request: libcurl calls back with headers and pieces of the body.
class Request {
 public:
  Request(const std::string& url, const RemoteFile& file, const DownloadOptions& options,
          PartialFile& partial)
      : url_(url), file_(file), options_(options), partial_(partial), curl_(curl_easy_init()) {
    require(curl_ != nullptr, "libcurl could not start");
    start_ = resumable() ? partial.size() : 0;
    set_up();
  }

  ~Request() { curl_slist_free_all(request_headers_); }

  Transfer perform() {
    const CURLcode code = curl_easy_perform(curl_.get());
    if (stored_) std::rethrow_exception(stored_);  // the disk, not the server
    if (!verdict_.problem.empty()) return verdict_;
    if (code == CURLE_OK && !accepted_ && !accept()) return verdict_;  // an empty body
    if (code == CURLE_OK && total_ >= 0 && partial_.size() < total_)
      return {Outcome::passing, fmt::format("ended after {} of {} bytes", partial_.size(), total_)};
    if (code == CURLE_OK) return {};
    return failure(code);
  }

 private:
  // Whether what is here can be continued: the same URL, and a way to notice another file.
  bool resumable() const {
    const auto& origin = partial_.origin();
    const bool noticed = !origin.etag.empty() || !origin.last_modified.empty() ||
                         !file_.sha256.empty() || !file_.md5.empty();
    return partial_.size() > 0 && origin.url == url_ && noticed &&
           (origin.total < 0 || partial_.size() < origin.total);
  }

  void set_up() {
    const auto set = [&](CURLoption option, auto value) {
      require(curl_easy_setopt(curl_.get(), option, value) == CURLE_OK, "{}: libcurl refused {}",
              url_, static_cast<int>(option));
    };
    set(CURLOPT_URL, url_.c_str());
    set(CURLOPT_USERAGENT, agent_.c_str());
    set(CURLOPT_ERRORBUFFER, message_);
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_FAILONERROR, 1L);
    set(CURLOPT_FOLLOWLOCATION, 1L);
    set(CURLOPT_MAXREDIRS, static_cast<long>(options_.redirects));
    // A redirect may not leave the web, nor fall back from https.
    const bool secure = url_.starts_with("https:");
#if LIBCURL_VERSION_NUM >= 0x075500
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https");
#else
    set(CURLOPT_PROTOCOLS, static_cast<long>(CURLPROTO_HTTP | CURLPROTO_HTTPS));
    set(CURLOPT_REDIR_PROTOCOLS,
        static_cast<long>(secure ? CURLPROTO_HTTPS : CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    set(CURLOPT_CONNECTTIMEOUT_MS, std::lround(options_.connect_timeout * 1000));
    set(CURLOPT_LOW_SPEED_LIMIT, 100L);
    set(CURLOPT_LOW_SPEED_TIME, std::max(1L, std::lround(options_.stall_timeout)));
    set(CURLOPT_HEADERFUNCTION, &on_header);
    set(CURLOPT_HEADERDATA, static_cast<void*>(this));
    set(CURLOPT_WRITEFUNCTION, &on_body);
    set(CURLOPT_WRITEDATA, static_cast<void*>(this));
    if (start_ == 0) return;
    range_ = fmt::format("{}-", start_);
    set(CURLOPT_RANGE, range_.c_str());
    const auto& origin = partial_.origin();
    const auto& validator = origin.etag.empty() ? origin.last_modified : origin.etag;
    if (validator.empty()) return;
    request_headers_ = curl_slist_append(nullptr, ("If-Range: " + validator).c_str());
    set(CURLOPT_HTTPHEADER, request_headers_);
  }

  static size_t on_header(char* text, size_t, size_t count, void* self) {
    auto& headers = static_cast<Request*>(self)->headers_;
    std::string_view line(text, count);
    if (line.starts_with("HTTP/")) headers = {};  // of the next response, after a redirect
    const auto colon = line.find(':');
    if (colon == line.npos) return count;
    std::string name(line.substr(0, colon));
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    auto value = line.substr(colon + 1);
    const auto first = value.find_first_not_of(" \t"), last = value.find_last_not_of(" \t\r\n");
    value = first == value.npos ? "" : value.substr(first, last - first + 1);
    if (name == "etag" && !value.starts_with("W/")) headers.etag = value;  // a weak one is no proof
    if (name == "last-modified") headers.last_modified = value;
    if (name == "content-range") headers.content_range = value;
    return count;
  }

  static size_t on_body(char* bytes, size_t, size_t count, void* self) {
    auto& request = *static_cast<Request*>(self);
    try {
      if (!request.accepted_ && !request.accept()) return 0;
      if (!request.room_for(static_cast<int64_t>(count))) {
        request.partial_.restart({});  // not worth resuming
        return 0;
      }
      request.partial_.append({bytes, count});
      request.progress_->set(request.partial_.size());
      return count;
    } catch (...) {  // must not cross libcurl
      request.stored_ = std::current_exception();
      return 0;
    }
  }

  // Judges the headers before the first byte is stored; false with a verdict when they will not do.
  bool accept() {
    long status = 0;
    curl_off_t length = -1;
    curl_easy_getinfo(curl_.get(), CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(curl_.get(), CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    if (status == 206 && start_ > 0) {
      if (!same_file()) {
        partial_.restart({});
        return refuse(Outcome::passing, "the server has another file now; starting anew");
      }
    } else if (status == 200) {
      total_ = length;
      partial_.restart({url_, headers_.etag, headers_.last_modified, length});
    } else {
      return refuse(Outcome::lasting, fmt::format("answered with status {}", status));
    }
    if (total_ >= 0 && file_.bytes > 0 && total_ != file_.bytes)
      return refuse(Outcome::lasting,
                    fmt::format("has {} bytes there, expected {}", total_, file_.bytes));
    if (total_ < 0) total_ = file_.bytes > 0 ? file_.bytes : -1;
    if (!room_for(std::max<int64_t>(0, total_ - partial_.size()))) return false;
    std::error_code error;
    const auto space = std::filesystem::space(partial_.path().parent_path(), error);
    require(
        error || total_ < 0 || static_cast<uintmax_t>(total_ - partial_.size()) <= space.available,
        "{}: needs {} more bytes, the disk has {}", partial_.path().string(),
        total_ - partial_.size(), space.available);
    progress_.emplace(file_.name, total_, "B");
    return accepted_ = true;
  }

  // Whether a partial answer continues the file that was begun.
  bool same_file() {
    const auto range = parse_range(headers_.content_range);
    const auto& origin = partial_.origin();
    if (!range || range->first != start_ || range->last + 1 != range->total) return false;
    if (origin.total >= 0 && range->total != origin.total) return false;
    if (!origin.etag.empty() && headers_.etag != origin.etag) return false;
    total_ = range->total;
    return true;
  }

  bool room_for(int64_t count) {
    const int64_t limit = file_.bytes > 0 ? file_.bytes : options_.max_bytes;
    if (count <= limit - partial_.size()) return true;
    return refuse(Outcome::lasting, fmt::format("sends more than {} bytes", limit));
  }

  bool refuse(Outcome outcome, std::string problem) {
    verdict_ = {outcome, std::move(problem)};
    return false;
  }

  Transfer failure(CURLcode code) {
    long status = 0;
    curl_easy_getinfo(curl_.get(), CURLINFO_RESPONSE_CODE, &status);
    const std::string text = *message_ ? message_ : curl_easy_strerror(code);
    switch (code) {
      case CURLE_HTTP_RETURNED_ERROR:
        if (status == 416) partial_.restart({});  // what is here is longer than what is there
        return {status == 408 || status == 416 || status == 425 || status == 429 || status >= 500
                    ? Outcome::passing
                    : Outcome::lasting,
                fmt::format("answered with status {}", status)};
      case CURLE_TOO_MANY_REDIRECTS:
      case CURLE_UNSUPPORTED_PROTOCOL:
      case CURLE_URL_MALFORMAT:
      case CURLE_PEER_FAILED_VERIFICATION:
      case CURLE_BAD_FUNCTION_ARGUMENT:
      case CURLE_OUT_OF_MEMORY:
        return {Outcome::lasting, text};
      default:
        return {Outcome::passing, text};
    }
  }

  struct Free {
    void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
  };
  const std::string& url_;
  const RemoteFile& file_;
  const DownloadOptions& options_;
  PartialFile& partial_;
  std::unique_ptr<CURL, Free> curl_;
  curl_slist* request_headers_ = nullptr;
  const std::string agent_ = "cajal/" + version();
  char message_[CURL_ERROR_SIZE] = "";
  std::string range_;
  int64_t start_ = 0, total_ = -1;
  Headers headers_;
  bool accepted_ = false;
  Transfer verdict_;
  std::exception_ptr stored_;
  std::optional<Progress> progress_;
};

}  // namespace

Transfer transfer(const std::string& url, const RemoteFile& file, const DownloadOptions& options,
                  PartialFile& partial) {
  const auto& origin = partial.origin();
  if (origin.url == url && origin.total >= 0 && partial.size() == origin.total) return {};
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  require(started == CURLE_OK, "libcurl could not start: {}", curl_easy_strerror(started));
  return Request(url, file, options, partial).perform();
}

#else

Transfer transfer(const std::string& url, const RemoteFile&, const DownloadOptions&, PartialFile&) {
  fail("{}: this build has no libcurl, so it cannot download; install it and build again", url);
}

#endif

}  // namespace cajal::data
