#pragma once
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cajal/core/error.h"

namespace cajal {

/// "; did you mean 'x'?" for the known name nearest to `name`, or nothing when none is near.
std::string did_you_mean(std::string_view name, const std::vector<std::string_view>& known);

/// Things registered by name from static initialisers, kept in alphabetical order.
template <class T>
class Registry {
 public:
  explicit Registry(std::string kind) : kind_(std::move(kind)) {}

  /// Adds an entry; the returned value lets a static initialiser call it. Throws on a taken name.
  bool add(const std::string& name, T entry) {
    require(entries_.emplace(name, std::move(entry)).second, "{} '{}' is registered twice", kind_,
            name);
    return true;
  }

  const T* find(std::string_view name) const {
    const auto it = entries_.find(name);
    return it == entries_.end() ? nullptr : &it->second;
  }

  /// The entry of that name; throws Error that names the nearest one there is.
  const T& at(std::string_view name) const {
    if (const T* entry = find(name)) return *entry;
    fail("no {} is called '{}'{}", kind_, name, did_you_mean(name, names()));
  }

  std::vector<std::string_view> names() const {
    std::vector<std::string_view> out;
    for (const auto& [name, entry] : entries_) out.push_back(name);
    return out;
  }

  const std::map<std::string, T, std::less<>>& entries() const { return entries_; }

 private:
  std::string kind_;
  std::map<std::string, T, std::less<>> entries_;
};

}  // namespace cajal
