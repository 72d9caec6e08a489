#include "cajal/atlas/sqlite.h"

#include <cstring>

#include "cajal/core/error.h"

namespace cajal::atlas {

Database::Database(const std::filesystem::path& path, Access access) : name(path.string()) {
  if (access == Access::read) {
    require(std::filesystem::exists(path), "{}: no such file", name);
    require(std::filesystem::is_regular_file(path), "{}: not a file, expected an atlas", name);
    // SQLite itself takes a file shorter than its header for an empty database.
    require(std::filesystem::file_size(path) >= 512, "{}: not an SQLite file, expected an atlas",
            name);
  }
  sqlite3* handle = nullptr;
  const int flags =
      access == Access::read ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  const int code = sqlite3_open_v2(name.c_str(), &handle, flags, nullptr);
  handle_.reset(handle);
  check(code);
  // A hostile schema may not run code of its own.
  sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
}

void Database::check(int code) const {
  if (code == SQLITE_OK || code == SQLITE_ROW || code == SQLITE_DONE) return;
  if (code == SQLITE_NOTADB) fail("{}: not an SQLite file, expected an atlas", name);
  if (code == SQLITE_INTERRUPT) fail("{}: the query took too long", name);
  fail("{}: {}", name, handle_ ? sqlite3_errmsg(handle_.get()) : sqlite3_errstr(code));
}

void Database::run(const char* statement) {
  check(sqlite3_exec(handle_.get(), statement, nullptr, nullptr, nullptr));
}

int64_t Database::integer(const char* query) {
  Statement statement(*this, query);
  int64_t value = 0;
  if (!statement.next()) damaged(query);
  statement >> value;
  return value;
}

void Database::deadline(double seconds) {
  using Clock = std::chrono::steady_clock;
  deadline_ = Clock::now() +
              std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  constexpr int steps_between_looks = 10'000;
  sqlite3_progress_handler(
      handle_.get(), steps_between_looks,
      [](void* self) { return int{Clock::now() > static_cast<Database*>(self)->deadline_}; }, this);
}

void Database::damaged(std::string_view what) const { fail("{}: damaged atlas: {}", name, what); }

Statement::Statement(Database& database, const char* text) : database_(database) {
  sqlite3_stmt* handle = nullptr;
  database.check(sqlite3_prepare_v2(database.handle_.get(), text, -1, &handle, nullptr));
  handle_.reset(handle);
}

Statement& Statement::operator<<(int64_t value) {
  database_.check(sqlite3_bind_int64(handle_.get(), ++at_, value));
  return *this;
}
Statement& Statement::operator<<(double value) {
  database_.check(sqlite3_bind_double(handle_.get(), ++at_, value));
  return *this;
}
Statement& Statement::operator<<(std::string_view value) {
  database_.check(sqlite3_bind_text64(handle_.get(), ++at_, value.data(), value.size(),
                                      SQLITE_TRANSIENT, SQLITE_UTF8));
  return *this;
}
Statement& Statement::operator<<(std::span<const std::byte> blob) {
  database_.check(sqlite3_bind_blob64(handle_.get(), ++at_,
                                      blob.empty() ? "" : static_cast<const void*>(blob.data()),
                                      blob.size(), SQLITE_TRANSIENT));
  return *this;
}

void Statement::execute() {
  database_.check(sqlite3_step(handle_.get()));
  database_.check(sqlite3_reset(handle_.get()));
  at_ = 0;
}

void Statement::restart() {
  database_.check(sqlite3_reset(handle_.get()));
  at_ = 0;
}

bool Statement::next() {
  const int code = sqlite3_step(handle_.get());
  database_.check(code);
  at_ = 0;
  return code == SQLITE_ROW;
}

void Statement::expect(int type, const char* what) {
  if (sqlite3_column_type(handle_.get(), at_) != type)
    database_.damaged(fmt::format("column '{}' of '{}' is not {}",
                                  sqlite3_column_name(handle_.get(), at_),
                                  sqlite3_sql(handle_.get()), what));
}
Statement& Statement::operator>>(int64_t& value) {
  expect(SQLITE_INTEGER, "an integer");
  value = sqlite3_column_int64(handle_.get(), at_++);
  return *this;
}
Statement& Statement::operator>>(double& value) {
  expect(SQLITE_FLOAT, "a real number");
  value = sqlite3_column_double(handle_.get(), at_++);
  return *this;
}
Statement& Statement::operator>>(std::string& value) {
  expect(SQLITE_TEXT, "text");
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(handle_.get(), at_));
  value.assign(text, static_cast<size_t>(sqlite3_column_bytes(handle_.get(), at_++)));
  return *this;
}
void Statement::read_blob(std::span<std::byte> out) {
  expect(SQLITE_BLOB, "a blob");
  const auto size = static_cast<size_t>(sqlite3_column_bytes(handle_.get(), at_));
  if (size != out.size())
    database_.damaged(fmt::format("column '{}' of '{}' has {} bytes, expected {}",
                                  sqlite3_column_name(handle_.get(), at_),
                                  sqlite3_sql(handle_.get()), size, out.size()));
  if (size > 0) std::memcpy(out.data(), sqlite3_column_blob(handle_.get(), at_), size);
  ++at_;
}

std::string Statement::blob() {
  expect(SQLITE_BLOB, "a blob");
  const auto* bytes = static_cast<const char*>(sqlite3_column_blob(handle_.get(), at_));
  const auto size = static_cast<size_t>(sqlite3_column_bytes(handle_.get(), at_++));
  return size > 0 ? std::string(bytes, size) : std::string();
}

}  // namespace cajal::atlas
