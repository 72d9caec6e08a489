#pragma once
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <functional>
#include <string>

#include "cajal/core/error.h"
#include "cajal/core/files.h"

/// A folder of its own for one test, removed with what is in it.
class Scratch : public testing::Test {
 protected:
  Scratch() {
    auto pattern = (std::filesystem::temp_directory_path() / "cajal-test-XXXXXX").string();
    cajal::require(::mkdtemp(pattern.data()), "{}: cannot be made", pattern);
    folder_ = pattern;
  }
  ~Scratch() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  std::filesystem::path in(const std::string& name) const { return folder_ / name; }
  std::filesystem::path put(const std::string& name, std::string_view content) const {
    cajal::write_file(in(name), content);
    return in(name);
  }
  size_t entries() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder_), {}));
  }

 private:
  std::filesystem::path folder_;
};

/// What cajal::Error says when `action` throws it, without `prefix` if it begins so; empty when
/// nothing is thrown. Anything else that is thrown ends the test.
inline std::string error_of(const std::function<void()>& action, const std::string& prefix = "") {
  try {
    action();
  } catch (const cajal::Error& error) {
    const std::string text = error.what();
    return text.starts_with(prefix) ? text.substr(prefix.size()) : text;
  }
  return "";
}
