#include "cajal/data/chat_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "cajal/core/error.h"
#include "cajal/core/files.h"

namespace cajal::data {
namespace {

std::pair<std::string, ChatReply> parse_line(std::string_view line, const std::string& where) {
  const auto json = parse_json(line, where);
  const auto text = [&](const char* name) {
    require(json.is_object() && json.contains(name) && json[name].is_string(),
            "{}: no text '{}', expected a line of a cache of chat replies", where, name);
    return json[name].get<std::string>();
  };
  const auto count = [&](const char* name) {
    require(json.contains(name) && json[name].is_number_integer() && json[name].get<int64_t>() >= 0,
            "{}: no count '{}', expected a line of a cache of chat replies", where, name);
    return json[name].get<int64_t>();
  };
  return {text("key"),
          {text("content"), count("prompt_tokens"), count("completion_tokens"), /*cached=*/true}};
}

}  // namespace

ChatCache::ChatCache(const std::filesystem::path& path) : path_(path) {
  if (path_.empty()) return;
  try {
    open();
  } catch (...) {
    if (descriptor_ >= 0) ::close(descriptor_);
    throw;
  }
}

ChatCache::~ChatCache() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void ChatCache::open() {
  const auto name = path_.string();
  descriptor_ = ::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_APPEND, 0600);
  require(descriptor_ >= 0, "{}: {}", name, std::strerror(errno));
  require(::flock(descriptor_, LOCK_EX | LOCK_NB) == 0, "{}: another process uses this cache",
          name);
  const auto content = read_file(path_);
  size_t begin = 0, line = 0;
  for (size_t end; (end = content.find('\n', begin)) != content.npos; begin = end + 1) {
    const auto where = fmt::format("{}: line {}", name, ++line);
    auto [key, reply] = parse_line(std::string_view(content).substr(begin, end - begin), where);
    replies_.insert_or_assign(std::move(key), std::move(reply));
  }
  // The rest has no end: a kill cut it off, or this is no cache.
  if (begin == content.size()) return;
  require(line > 0 || content.starts_with("{\"key\":"),
          "{}: not a cache of chat replies (no line of JSON)", name);
  require(::ftruncate(descriptor_, static_cast<off_t>(begin)) == 0, "{}: {}", name,
          std::strerror(errno));
}

std::optional<ChatReply> ChatCache::find(const std::string& key) const {
  const std::lock_guard lock(mutex_);
  const auto found = replies_.find(key);
  if (found == replies_.end()) return {};
  return found->second;
}

int64_t ChatCache::size() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(replies_.size());
}

void ChatCache::add(const std::string& key, const ChatReply& reply) {
  const std::lock_guard lock(mutex_);
  auto kept = reply;
  kept.cached = true;
  replies_.insert_or_assign(key, std::move(kept));
  if (descriptor_ < 0) return;
  const Json json = {{"key", key},
                     {"content", reply.content},
                     {"prompt_tokens", reply.prompt_tokens},
                     {"completion_tokens", reply.completion_tokens}};
  const auto line = json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  for (size_t at = 0; at < line.size();) {
    const auto put = ::write(descriptor_, line.data() + at, line.size() - at);
    require(put > 0 || errno == EINTR, "{}: {}", path_.string(), std::strerror(errno));
    if (put > 0) at += static_cast<size_t>(put);
  }
}

}  // namespace cajal::data
