#include "cajal/core/pickle.h"

#include <algorithm>
#include <string>
#include <unordered_map>

#include "cajal/core/byte_reader.h"
#include "cajal/core/error.h"

namespace cajal {
namespace {

using Kind = PickleValue::Kind;

constexpr size_t kMaxBytes = size_t{64} << 20;
constexpr size_t kMaxValues = size_t{1} << 22;  // some 20 a tensor
constexpr size_t kMaxOpenMarks = 100;
constexpr std::string_view kOrderedDict = "collections.OrderedDict";
constexpr std::string_view kDefaultDict = "collections.defaultdict";

enum class Op : uint8_t {
  mark = '(',
  stop = '.',
  binint = 'J',
  binint1 = 'K',
  binint2 = 'M',
  none = 'N',
  binpersid = 'Q',
  reduce = 'R',
  binstring = 'T',
  short_binstring = 'U',
  binunicode = 'X',
  append = 'a',
  build = 'b',
  global = 'c',
  appends = 'e',
  binget = 'h',
  long_binget = 'j',
  binput = 'q',
  long_binput = 'r',
  setitem = 's',
  tuple = 't',
  setitems = 'u',
  binfloat = 'G',
  empty_list = ']',
  empty_dict = '}',
  empty_tuple = ')',
  proto = 0x80,
  tuple1 = 0x85,
  tuple2 = 0x86,
  tuple3 = 0x87,
  newobj = 0x81,
  newtrue = 0x88,
  newfalse = 0x89,
  long1 = 0x8a,
  short_binunicode = 0x8c,
  stack_global = 0x93,
  memoize = 0x94,
  frame = 0x95,
};

class Unpickler {
 public:
  Unpickler(std::span<const std::byte> bytes, std::string_view where,
            std::span<const std::string_view> globals, size_t begin)
      : reader_(bytes, where, begin), where_(where), globals_(globals), at_(begin) {}

  Pickle run() {
    check(static_cast<Op>(reader_.read<uint8_t>()) == Op::proto,
          "a pickle of protocol 2 or later expected");
    protocol();
    for (;;) {
      at_ = reader_.position();
      const auto op = static_cast<Op>(reader_.read<uint8_t>());
      if (op == Op::stop) break;
      step(op);
    }
    check(stack_.size() == 1 && marks_.empty(), "the pickle does not end with one value");
    pickle_.root = stack_[0];
    pickle_.end = reader_.position();
    return std::move(pickle_);
  }

 private:
  void check(bool condition, std::string_view what) const {
    require(condition, "{}: byte {}: {}", where_, at_, what);
  }

  uint32_t make(PickleValue value) {
    check(pickle_.values.size() < kMaxValues, "the pickle holds too many values");
    pickle_.values.push_back(std::move(value));
    return static_cast<uint32_t>(pickle_.values.size() - 1);
  }
  void push(PickleValue value) { stack_.push_back(make(std::move(value))); }
  void push_integer(Kind kind, int64_t value) { push({.kind = kind, .integer = value}); }
  void push_text(std::string_view text) { push({.kind = Kind::text, .text = text}); }

  // The lowest place of the stack that operations may touch: nothing below the last mark.
  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }

  uint32_t pop() {
    check(stack_.size() > floor(), "the pickle takes a value that is not there");
    const uint32_t value = stack_.back();
    stack_.pop_back();
    return value;
  }
  std::vector<uint32_t> pop_many(size_t count) {
    check(stack_.size() - floor() >= count, "the pickle takes a value that is not there");
    std::vector<uint32_t> values(stack_.end() - count, stack_.end());
    stack_.resize(stack_.size() - count);
    return values;
  }
  std::vector<uint32_t> pop_to_mark() {
    check(!marks_.empty(), "the pickle closes what it did not open");
    auto values = pop_many(stack_.size() - marks_.back());
    marks_.pop_back();
    return values;
  }
  PickleValue& top(Kind kind, std::string_view expected) {
    check(stack_.size() > floor(), "the pickle takes a value that is not there");
    auto& value = pickle_.values[stack_.back()];
    check(value.kind == kind, expected);
    return value;
  }

  void protocol() {
    const auto version = reader_.read<uint8_t>();
    check(version >= 2 && version <= 5, "a pickle of protocol 2 to 5 expected");
  }

  void put(uint32_t index) {
    check(stack_.size() > floor(), "the pickle keeps a value that is not there");
    memo_[index] = stack_.back();
  }
  void get(uint32_t index) {
    const auto found = memo_.find(index);
    check(found != memo_.end(), "the pickle recalls a value that it did not keep");
    stack_.push_back(found->second);
  }

  void push_global(std::string_view module, std::string_view name) {
    for (const auto known : globals_) {
      if (known.size() == module.size() + 1 + name.size() && known.starts_with(module) &&
          known.ends_with(name) && known[module.size()] == '.')
        return push({.kind = Kind::global, .text = known});
    }
    fail(
        "{}: byte {}: names the Python object '{}.{}', which a file of tensors does not need; it "
        "is "
        "not loaded",
        where_, at_, module, name);
  }
  void stack_global() {
    const auto names = pop_many(2);
    const auto &module = pickle_[names[0]], &name = pickle_[names[1]];
    check(module.kind == Kind::text && name.kind == Kind::text, "a global's name is not text");
    push_global(module.text, name.text);
  }

  void append_items(Kind kind, const std::vector<uint32_t>& items) {
    auto& target = top(
        kind, kind == Kind::list ? "append to what is no list" : "set an item of what is no dict");
    check(kind == Kind::list || items.size() % 2 == 0, "a key of a dict has no value");
    target.items.insert(target.items.end(), items.begin(), items.end());
  }

  void reduce() {
    const auto call = pop_many(2);
    check(pickle_[call[0]].kind == Kind::global, "calls what is no global");
    check(pickle_[call[1]].kind == Kind::tuple, "a call without a tuple of arguments");
    if (pickle_[call[0]].text == kOrderedDict) return push(ordered_dict(pickle_[call[1]]));
    if (pickle_[call[0]].text == kDefaultDict) return push({.kind = Kind::dict});
    push({.kind = Kind::call, .items = call});
  }
  // OrderedDict() or, as Python 2 wrote it, OrderedDict([[key, value], ...]).
  PickleValue ordered_dict(const PickleValue& arguments) {
    PickleValue dict{.kind = Kind::dict};
    if (arguments.items.empty()) return dict;
    check(arguments.items.size() == 1 && pickle_[arguments.items[0]].kind == Kind::list,
          "OrderedDict of what is no list");
    copied_ += pickle_[arguments.items[0]].items.size();  // the same list could be copied often
    check(copied_ < kMaxValues, "the pickle holds too many values");
    for (const uint32_t place : pickle_[arguments.items[0]].items) {
      const auto& pair = pickle_[place];
      check((pair.kind == Kind::list || pair.kind == Kind::tuple) && pair.items.size() == 2,
            "OrderedDict of what are no pairs");
      dict.items.insert(dict.items.end(), pair.items.begin(), pair.items.end());
    }
    return dict;
  }

  // The state of an object; nothing needs the attributes of a dict (state_dict's _metadata).
  void build() {
    const uint32_t state = pop();
    check(stack_.size() > floor(), "the pickle takes a value that is not there");
    const auto kind = pickle_[stack_.back()].kind;
    check(kind == Kind::dict || kind == Kind::call, "sets attributes of what is no object");
    if (kind == Kind::call) pickle_.values[stack_.back()].items.push_back(state);
  }

  void long1() {
    const auto bytes = reader_.text(reader_.read<uint8_t>());
    if (bytes.size() > sizeof(int64_t)) return push({.kind = Kind::wide, .text = bytes});
    const bool negative = !bytes.empty() && (bytes.back() & 0x80);
    int64_t value = negative ? -1 : 0;
    std::memcpy(&value, bytes.data(), bytes.size());
    push_integer(Kind::integer, value);
  }

  void step(Op op);

  Pickle pickle_;
  ByteReader reader_;
  std::string_view where_;
  std::span<const std::string_view> globals_;
  size_t at_;  // where the current opcode stands
  size_t copied_ = 0;
  std::vector<uint32_t> stack_;
  std::vector<size_t> marks_;  // heights of the stack
  std::unordered_map<uint32_t, uint32_t> memo_;
};

void Unpickler::step(Op op) {
  switch (op) {
    case Op::proto:
      return protocol();
    case Op::frame:
      reader_.read<uint64_t>();
      return;
    case Op::mark:
      check(marks_.size() < kMaxOpenMarks, "nested too deeply");
      return marks_.push_back(stack_.size());
    case Op::none:
      return push({});
    case Op::newtrue:
      return push_integer(Kind::boolean, 1);
    case Op::newfalse:
      return push_integer(Kind::boolean, 0);
    case Op::binint:
      return push_integer(Kind::integer, reader_.read<int32_t>());
    case Op::binint1:
      return push_integer(Kind::integer, reader_.read<uint8_t>());
    case Op::binint2:
      return push_integer(Kind::integer, reader_.read<uint16_t>());
    case Op::long1:
      return long1();
    case Op::binfloat:
      reader_.take(8);
      return push({.kind = Kind::real});
    case Op::short_binstring:
    case Op::short_binunicode:
      return push_text(reader_.text(reader_.read<uint8_t>()));
    case Op::binstring:
    case Op::binunicode:
      return push_text(reader_.text(reader_.read<uint32_t>()));
    case Op::empty_list:
      return push({.kind = Kind::list});
    case Op::empty_dict:
      return push({.kind = Kind::dict});
    case Op::empty_tuple:
      return push({.kind = Kind::tuple});
    case Op::tuple:
      return push({.kind = Kind::tuple, .items = pop_to_mark()});
    case Op::tuple1:
    case Op::tuple2:
    case Op::tuple3:
      return push(
          {.kind = Kind::tuple,
           .items = pop_many(static_cast<size_t>(op) - static_cast<size_t>(Op::tuple1) + 1)});
    case Op::append:
      return append_items(Kind::list, pop_many(1));
    case Op::appends:
      return append_items(Kind::list, pop_to_mark());
    case Op::setitem:
      return append_items(Kind::dict, pop_many(2));
    case Op::setitems:
      return append_items(Kind::dict, pop_to_mark());
    case Op::global: {
      const auto module = reader_.line();
      return push_global(module, reader_.line());
    }
    case Op::stack_global:
      return stack_global();
    case Op::reduce:
    case Op::newobj:
      return reduce();
    case Op::build:
      return build();
    case Op::binpersid:
      return push({.kind = Kind::persistent, .items = {pop()}});
    case Op::binput:
      return put(reader_.read<uint8_t>());
    case Op::long_binput:
      return put(reader_.read<uint32_t>());
    case Op::memoize:
      return put(static_cast<uint32_t>(memo_.size()));
    case Op::binget:
      return get(reader_.read<uint8_t>());
    case Op::long_binget:
      return get(reader_.read<uint32_t>());
    case Op::stop:
      break;
  }
  fail("{}: byte {}: pickle opcode {:#04x}, which a file of tensors does not need", where_, at_,
       static_cast<int>(op));
}

}  // namespace

Pickle unpickle(std::span<const std::byte> bytes, std::string_view where,
                std::span<const std::string_view> globals, size_t begin) {
  // What follows a pickle in the same file may be long: only so much of it can be the pickle.
  return Unpickler(bytes.first(std::min(bytes.size(), begin + kMaxBytes)), where, globals, begin)
      .run();
}

}  // namespace cajal
