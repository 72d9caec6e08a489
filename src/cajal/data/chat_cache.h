#pragma once
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "cajal/data/chat.h"

namespace cajal::data {

/// Replies by key in one file, a line of JSON each: {"key", "content", "prompt_tokens",
/// "completion_tokens"}. A line is appended in one write as soon as its reply is there; a last line
/// that a kill cut off is dropped when the file is opened. Several threads may use it, one process
/// at a time.
class ChatCache {
 public:
  /// Reads what is there; an empty path keeps replies in memory only. Throws Error that names file
  /// and line for a file that is something else, and when another process holds it.
  explicit ChatCache(const std::filesystem::path& path);
  ~ChatCache();
  ChatCache(const ChatCache&) = delete;
  ChatCache& operator=(const ChatCache&) = delete;

  std::optional<ChatReply> find(const std::string& key) const;
  void add(const std::string& key, const ChatReply& reply);
  int64_t size() const;

 private:
  void open();

  std::filesystem::path path_;
  int descriptor_ = -1;
  mutable std::mutex mutex_;
  std::unordered_map<std::string, ChatReply> replies_;
};

}  // namespace cajal::data
