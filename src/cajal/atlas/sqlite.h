#pragma once
#include <sqlite3.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace cajal::atlas {

/// An open SQLite file. Every call throws Error that names the file.
class Database {
 public:
  enum class Access { read, create };
  Database(const std::filesystem::path& path, Access access);

  void run(const char* statement);
  int64_t integer(const char* query);  // of its one value
  /// Queries that still run so many seconds from now throw Error.
  void deadline(double seconds);
  [[noreturn]] void damaged(std::string_view what) const;

  const std::string name;

 private:
  friend class Statement;
  void check(int code) const;

  struct Close {
    void operator()(sqlite3* handle) const { sqlite3_close(handle); }
  };
  std::unique_ptr<sqlite3, Close> handle_;
  std::chrono::steady_clock::time_point deadline_;
};

/// A prepared statement, bound and read column by column in order.
class Statement {
 public:
  Statement(Database& database, const char* text);

  // Binds the next parameter.
  Statement& operator<<(int64_t value);
  Statement& operator<<(double value);
  Statement& operator<<(std::string_view value);
  Statement& operator<<(std::span<const std::byte> blob);
  void execute();  // and starts over with the first parameter
  void restart();  // a query, for other parameters

  bool next();  // a row to read; columns are read in order
  Statement& operator>>(int64_t& value);
  Statement& operator>>(double& value);
  Statement& operator>>(std::string& value);
  /// A blob that must have as many bytes as `out`.
  void read_blob(std::span<std::byte> out);
  std::string blob();  // of any size

 private:
  void expect(int type, const char* what);

  struct Finalize {
    void operator()(sqlite3_stmt* handle) const { sqlite3_finalize(handle); }
  };
  Database& database_;
  std::unique_ptr<sqlite3_stmt, Finalize> handle_;
  int at_ = 0;
};

}  // namespace cajal::atlas
