#pragma once
#include <gtest/gtest.h>

#include <string>

/// Whether a message has that part, for EXPECT_TRUE.
inline testing::AssertionResult says(const std::string& message, const std::string& part) {
  if (message.find(part) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "'" << message << "' does not say '" << part << "'";
}
