#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace cajal {

/// One value of an unpickled object. Values refer to others by their place in Pickle::values, so a
/// value may be shared or, through lists and dicts, hold itself.
struct PickleValue {
  enum class Kind : uint8_t {
    none,
    boolean,     // integer: 0 or 1
    integer,     // integer
    wide,        // an integer of more than 64 bits; text: its bytes, least significant first
    real,        // its value is not kept
    text,        // text
    tuple,       // items: elements
    list,        // items: elements
    dict,        // items: key, value, key, value, ...
    global,      // text: its name, e.g. "torch.FloatStorage"
    call,        // items: a global, the tuple of arguments, then any states that it was given;
                 // what it would make is never made
    persistent,  // items: the value by which the pickler named something that lies outside
  };
  Kind kind = Kind::none;
  int64_t integer = 0;
  std::string_view text = {};
  std::vector<uint32_t> items = {};
};

struct Pickle {
  std::vector<PickleValue> values;
  uint32_t root = 0;
  size_t end = 0;  // the byte behind it

  const PickleValue& operator[](uint32_t place) const { return values[place]; }
};

/// Reads the Python pickle (protocols 2 to 5) at byte `begin` without running anything: calls stay
/// descriptions, except those of collections.OrderedDict and defaultdict, which become dicts. Only
/// `globals` may be named. Text views point into `bytes` and `globals`. Throws Error that names the
/// byte on any other global, on opcodes that checkpoints do not need, and beyond bounds on size and
/// nesting. Source: CPython, Lib/pickletools.py.
Pickle unpickle(std::span<const std::byte> bytes, std::string_view where,
                std::span<const std::string_view> globals, size_t begin = 0);

}  // namespace cajal
