#pragma once
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "cajal/core/json_lines.h"
#include "cajal/data/chat.h"

namespace cajal::data {

/// Replies by key in one file, a line of JSON each: {"key", "content", "prompt_tokens",
/// "completion_tokens"}, added as soon as its reply is there. Several threads may use it, one
/// process at a time.
class ChatCache {
 public:
  /// Reads what is there; an empty path keeps replies in memory only. Throws Error that names file
  /// and line for a file that is something else, and when another process holds it.
  explicit ChatCache(const std::filesystem::path& path);

  std::optional<ChatReply> find(const std::string& key) const;
  void add(const std::string& key, const ChatReply& reply);
  int64_t size() const;

 private:
  std::optional<JsonLines> file_;
  mutable std::mutex mutex_;
  std::unordered_map<std::string, ChatReply> replies_;
};

}  // namespace cajal::data
