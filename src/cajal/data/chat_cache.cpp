#include "cajal/data/chat_cache.h"

#include "cajal/core/error.h"

namespace cajal::data {
namespace {

std::pair<std::string, ChatReply> parse_line(const Json& json, const std::string& where) {
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

ChatCache::ChatCache(const std::filesystem::path& path) {
  if (path.empty()) return;
  file_.emplace(path);
  size_t line = 0;
  for (const auto& json : file_->lines()) {
    auto [key, reply] = parse_line(json, fmt::format("{}: line {}", path.string(), ++line));
    replies_.insert_or_assign(std::move(key), std::move(reply));
  }
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
  if (file_)
    file_->add({{"key", key},
                {"content", reply.content},
                {"prompt_tokens", reply.prompt_tokens},
                {"completion_tokens", reply.completion_tokens}});
}

}  // namespace cajal::data
