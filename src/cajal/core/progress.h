#pragma once
#include <chrono>
#include <cstdint>
#include <string>

namespace cajal {

/// A progress bar on stderr with rate and time left; silent unless stderr is a terminal.
class Progress {
 public:
  /// `total` <= 0: unknown. `unit` names what is counted, e.g. "tokens".
  Progress(std::string label, int64_t total, std::string unit = "");
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void add(int64_t count) { set(done_ + count); }
  void set(int64_t done);
  void note(std::string text);  // shown behind the bar, e.g. "loss 3.21"

 private:
  void draw();

  std::string label_, unit_, note_;
  int64_t total_, done_ = 0;
  bool shown_;
  std::chrono::steady_clock::time_point begin_, drawn_;
};

}  // namespace cajal
