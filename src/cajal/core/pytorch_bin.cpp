#include "cajal/core/pytorch_bin.h"

#include <functional>
#include <set>
#include <tuple>
#include <utility>

#include "cajal/core/byte_reader.h"
#include "cajal/core/error.h"
#include "cajal/core/pickle.h"
#include "cajal/core/zip.h"

namespace cajal {
namespace {

using Kind = PickleValue::Kind;

constexpr std::string_view kRebuildTensor = "torch._utils._rebuild_tensor",
                           kRebuildTensorV2 = "torch._utils._rebuild_tensor_v2",
                           kRebuildTensorV3 = "torch._utils._rebuild_tensor_v3",
                           kRebuildParameter = "torch._utils._rebuild_parameter";

constexpr std::string_view kLegacyMagic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
constexpr size_t kMaxTupleItems = 64;
constexpr size_t kMaxCopies = 4;  // times the size of the file, for tensors that are not row-major

// Globals that name an element type, as a storage's class or as a dtype.
struct TypeName {
  std::string_view name;
  Dtype dtype;
};
constexpr TypeName kStorageTypes[] = {
    {"torch.DoubleStorage", Dtype::f64},
    {"torch.FloatStorage", Dtype::f32},
    {"torch.HalfStorage", Dtype::f16},
    {"torch.BFloat16Storage", Dtype::bf16},
    {"torch.LongStorage", Dtype::i64},
    {"torch.IntStorage", Dtype::i32},
    {"torch.ShortStorage", Dtype::i16},
    {"torch.CharStorage", Dtype::i8},
    {"torch.ByteStorage", Dtype::u8},
    {"torch.BoolStorage", Dtype::boolean},
    {"torch.UntypedStorage", Dtype::u8},
    {"torch.storage.UntypedStorage", Dtype::u8},
    {"torch.float64", Dtype::f64},
    {"torch.float32", Dtype::f32},
    {"torch.float16", Dtype::f16},
    {"torch.bfloat16", Dtype::bf16},
    {"torch.float8_e4m3fn", Dtype::f8_e4m3},
    {"torch.float8_e5m2", Dtype::f8_e5m2},
    {"torch.int64", Dtype::i64},
    {"torch.int32", Dtype::i32},
    {"torch.int16", Dtype::i16},
    {"torch.int8", Dtype::i8},
    {"torch.uint8", Dtype::u8},
    {"torch.bool", Dtype::boolean},
};

const std::vector<std::string_view>& allowed_globals() {
  static const auto names = [] {
    std::vector<std::string_view> all = {
        "collections.OrderedDict", kRebuildTensor, kRebuildTensorV2,
        kRebuildTensorV3,          "torch.Size",   kRebuildParameter};
    for (const auto& type : kStorageTypes) all.push_back(type.name);
    return all;
  }();
  return names;
}

struct Storage {
  std::string_view key;  // names its bytes
  Dtype dtype = Dtype::u8;
  int64_t count = 0;              // elements of the whole storage
  int64_t begin = 0, viewed = 0;  // the part of it that is meant, in elements
};

using StorageBytes = std::function<std::span<const std::byte>(const Storage&)>;

// Understands the descriptions of tensors that a pickle holds.
class Interpreter {
 public:
  Interpreter(const Pickle& pickle, std::string_view where) : pickle_(pickle), where_(where) {}

  Storage storage(const PickleValue& persistent) const;

  /// All tensors; `bytes_of` finds the bytes of a storage, `copies` bounds what copies may take.
  StoredTensors read(const StorageBytes& bytes_of, size_t copies);

 private:
  using CopyKey = std::tuple<const std::byte*, Dtype, std::vector<int64_t>, std::vector<int64_t>>;

  const PickleValue* tensor_call(uint32_t place) const;
  bool has_tensors(const PickleValue& dict) const;
  Dtype dtype(uint32_t place, std::string_view where) const;
  int64_t count(uint32_t place, std::string_view where) const;
  std::vector<int64_t> counts(uint32_t place, std::string_view where) const;
  const PickleValue& state_dict();
  void ignore(const PickleValue& key);
  StoredTensor tensor(const PickleValue& call, const std::string& where,
                      const StorageBytes& bytes_of);
  std::span<const std::byte> row_major_copy(std::span<const std::byte> from,
                                            const StoredTensor& tensor,
                                            const std::vector<int64_t>& strides, size_t bytes,
                                            std::string_view where);

  const Pickle& pickle_;
  std::string_view where_;
  StoredTensors found_;
  std::string ignored_;
  std::map<CopyKey, std::span<const std::byte>> copied_;  // tensors under two names are copied once
  size_t copies_left_ = 0;
};

// The call that rebuilds a tensor, or null when the value is something else.
const PickleValue* Interpreter::tensor_call(uint32_t place) const {
  const auto* value = &pickle_[place];
  if (value->kind != Kind::call) return nullptr;
  if (pickle_[value->items[0]].text == kRebuildParameter) {
    const auto& arguments = pickle_[value->items[1]].items;
    require(!arguments.empty(), "{}: a parameter without a tensor", where_);
    value = &pickle_[arguments[0]];
    if (value->kind != Kind::call) return nullptr;
  }
  return pickle_[value->items[0]].text.starts_with(kRebuildTensor) ? value : nullptr;
}

bool Interpreter::has_tensors(const PickleValue& dict) const {
  for (size_t i = 1; i < dict.items.size(); i += 2)
    if (tensor_call(dict.items[i])) return true;
  return false;
}

Dtype Interpreter::dtype(uint32_t place, std::string_view where) const {
  const auto& value = pickle_[place];
  if (value.kind == Kind::global)
    for (const auto& type : kStorageTypes)
      if (type.name == value.text) return type.dtype;
  fail("{}: an element type expected", where);
}

int64_t Interpreter::count(uint32_t place, std::string_view where) const {
  const auto& value = pickle_[place];
  require(value.kind == Kind::integer && value.integer >= 0,
          "{}: an integer from 0 on expected in its description", where);
  return value.integer;
}

std::vector<int64_t> Interpreter::counts(uint32_t place, std::string_view where) const {
  const auto* value = &pickle_[place];
  if (value->kind == Kind::call && pickle_[value->items[0]].text == "torch.Size") {
    const auto& arguments = pickle_[value->items[1]].items;
    require(arguments.size() == 1, "{}: torch.Size of {} values", where, arguments.size());
    value = &pickle_[arguments[0]];
  }
  require(value->kind == Kind::tuple && value->items.size() <= kMaxTupleItems,
          "{}: a tuple of at most {} sizes expected in its description", where, kMaxTupleItems);
  std::vector<int64_t> out;
  for (const uint32_t item : value->items) out.push_back(count(item, where));
  return out;
}

// ("storage", class, key, location, elements) and, in old files, (key, begin, elements) of a view.
Storage Interpreter::storage(const PickleValue& persistent) const {
  const auto& tuple = pickle_[persistent.items[0]];
  const bool named = tuple.kind == Kind::tuple && tuple.items.size() >= 5 &&
                     pickle_[tuple.items[0]].text == "storage" &&
                     pickle_[tuple.items[2]].kind == Kind::text;
  require(named, "{}: a storage is not described as torch.save describes it", where_);
  Storage out;
  out.key = pickle_[tuple.items[2]].text;
  const auto where = fmt::format("{}: storage '{}'", where_, out.key);
  out.dtype = dtype(tuple.items[1], where);
  out.count = out.viewed = count(tuple.items[4], where);
  if (tuple.items.size() > 5 && pickle_[tuple.items[5]].kind != Kind::none) {
    const auto& view = pickle_[tuple.items[5]];
    require(view.kind == Kind::tuple && view.items.size() == 3, "{}: unsound view", where);
    out.begin = count(view.items[1], where);
    out.viewed = count(view.items[2], where);
    require(out.begin <= out.count && out.viewed <= out.count - out.begin,
            "{}: a view of elements [{}, +{}] of {}", where, out.begin, out.viewed, out.count);
  }
  return out;
}

bool is_row_major(const std::vector<int64_t>& shape, const std::vector<int64_t>& strides) {
  int64_t expected = 1;
  for (size_t axis = shape.size(); axis-- > 0;) {
    if (shape[axis] != 1 && strides[axis] != expected) return false;
    expected *= shape[axis];
  }
  return true;
}

void gather(const std::byte* from, const std::vector<int64_t>& shape,
            const std::vector<int64_t>& strides, size_t element, std::byte* to) {
  const size_t last = shape.size() - 1;  // a tensor without axes is row-major
  std::vector<int64_t> index(shape.size(), 0);
  for (int64_t row = 0;;) {
    for (int64_t i = 0; i < shape[last]; ++i, to += element)
      std::memcpy(to, from + (row + i * strides[last]) * static_cast<int64_t>(element), element);
    size_t axis = last;
    for (;;) {  // to the next row, as an odometer turns
      if (axis-- == 0) return;
      row += strides[axis];
      if (++index[axis] < shape[axis]) break;
      row -= shape[axis] * strides[axis];
      index[axis] = 0;
    }
  }
}

std::span<const std::byte> Interpreter::row_major_copy(std::span<const std::byte> from,
                                                       const StoredTensor& tensor,
                                                       const std::vector<int64_t>& strides,
                                                       size_t bytes, std::string_view where) {
  const auto [place, added] =
      copied_.try_emplace({from.data(), tensor.dtype, tensor.shape, strides});
  if (!added) return place->second;
  require(bytes <= from.size() && bytes <= copies_left_,
          "{}: shape {} with strides {} repeats elements of its storage, which is not read", where,
          tensor.shape, strides);
  copies_left_ -= bytes;
  auto copy = std::make_shared<std::vector<std::byte>>(bytes);
  gather(from.data(), tensor.shape, strides, dtype_bytes(tensor.dtype), copy->data());
  place->second = *copy;
  found_.copies.push_back(std::move(copy));
  return place->second;
}

StoredTensor Interpreter::tensor(const PickleValue& call, const std::string& where,
                                 const StorageBytes& bytes_of) {
  const auto& arguments = pickle_[call.items[1]].items;
  const bool has_dtype = pickle_[call.items[0]].text == kRebuildTensorV3;
  require(arguments.size() >= (has_dtype ? 7 : 4), "{}: its description has only {} parts", where,
          arguments.size());
  require(pickle_[arguments[0]].kind == Kind::persistent, "{}: has no storage", where);
  const auto storage = this->storage(pickle_[arguments[0]]);
  StoredTensor out;
  out.dtype = has_dtype ? dtype(arguments[6], where) : storage.dtype;
  out.shape = counts(arguments[2], where);
  const auto offset = count(arguments[1], where);
  const auto strides = counts(arguments[3], where);
  require(strides.size() == out.shape.size(), "{}: shape {} but strides {}", where, out.shape,
          strides);
  const size_t bytes = tensor_bytes(out.dtype, out.shape, where);
  const size_t unit = dtype_bytes(storage.dtype), element = dtype_bytes(out.dtype);
  const auto content = bytes_of(storage).subspan(storage.begin * unit, storage.viewed * unit);
  if (bytes == 0) return out;

  int64_t last = offset;
  bool overflow = false;
  for (size_t axis = 0; axis < strides.size(); ++axis) {
    int64_t reach = 0;
    overflow |= __builtin_mul_overflow(out.shape[axis] - 1, strides[axis], &reach);
    overflow |= __builtin_add_overflow(last, reach, &last);
  }
  require(!overflow && last < static_cast<int64_t>(content.size() / element),
          "{}: shape {}, strides {} and offset {} reach past the {} elements of storage '{}'",
          where, out.shape, strides, offset, content.size() / element, storage.key);
  const auto from = content.subspan(static_cast<size_t>(offset) * element);
  out.bytes = is_row_major(out.shape, strides) ? from.first(bytes)
                                               : row_major_copy(from, out, strides, bytes, where);
  return out;
}

void Interpreter::ignore(const PickleValue& key) {
  if (ignored_.size() > 4096) return;
  ignored_ += (ignored_.empty() ? "" : ", ") +
              (key.kind == Kind::text ? std::string(key.text) : std::to_string(key.integer));
}

// The dict that holds the tensors: the whole, or the one dict in it that does.
const PickleValue& Interpreter::state_dict() {
  const auto& root = pickle_[pickle_.root];
  require(root.kind == Kind::dict, "{}: holds no dict of tensors", where_);
  if (has_tensors(root)) return root;
  const PickleValue* only = nullptr;
  std::set<uint32_t> looked_at;
  for (size_t i = 0; i < root.items.size(); i += 2) {
    const auto& value = pickle_[root.items[i + 1]];
    const bool first = looked_at.insert(root.items[i + 1]).second;
    if (!first || value.kind != Kind::dict || !has_tensors(value)) {
      ignore(pickle_[root.items[i]]);
      continue;
    }
    require(!only, "{}: holds several dicts of tensors, '{}' is not the only one", where_,
            pickle_[root.items[i]].text);
    only = &value;
  }
  require(only, "{}: holds no tensors", where_);
  return *only;
}

StoredTensors Interpreter::read(const StorageBytes& bytes_of, size_t copies) {
  copies_left_ = copies;
  const auto& dict = state_dict();
  for (size_t i = 0; i < dict.items.size(); i += 2) {
    const auto& key = pickle_[dict.items[i]];
    const auto* call = tensor_call(dict.items[i + 1]);
    if (!call) {
      ignore(key);
      continue;
    }
    require(key.kind == Kind::text, "{}: a tensor's name is not text", where_);
    std::string name(key.text);
    auto tensor = this->tensor(*call, fmt::format("{}: tensor '{}'", where_, name), bytes_of);
    require(found_.tensors.emplace(name, std::move(tensor)).second, "{}: tensor '{}' appears twice",
            where_, name);
  }
  if (!ignored_.empty()) found_.metadata["ignored_entries"] = ignored_;
  return std::move(found_);
}

std::span<const std::byte> storage_bytes(
    const std::map<std::string_view, std::span<const std::byte>>& all, std::string_view entry,
    const Storage& storage, std::string_view where) {
  const auto found = all.find(entry);
  require(found != all.end(), "{}: storage '{}' is missing", where, storage.key);
  const size_t element = dtype_bytes(storage.dtype), bytes = found->second.size();
  require(bytes % element == 0 && bytes / element == static_cast<uint64_t>(storage.count),
          "{}: storage '{}' has {} bytes, {} elements of {} are expected", where, storage.key,
          bytes, storage.count, element);
  return found->second;
}

StoredTensors read_zip(std::span<const std::byte> file, std::string_view where) {
  const auto entries = read_stored_zip(file, where);
  std::string_view main;
  for (const auto& [name, content] : entries) {
    const size_t slash = name.find('/');
    if (name != "data.pkl" && (slash == name.npos || name.substr(slash) != "/data.pkl")) continue;
    require(main.empty(), "{}: entries '{}' and '{}', one expected", where, main, name);
    main = name;
  }
  require(!main.empty(), "{}: no entry 'data.pkl', so not a file that torch.save wrote", where);
  const std::string folder(main.substr(0, main.size() - std::string_view("data.pkl").size()));
  const auto order = entries.find(folder + "byteorder");
  if (order != entries.end()) {
    const auto text = ByteReader(order->second, where).text(order->second.size());
    require(text == "little", "{}: byteorder is '{}', only little is read", where, text);
  }
  const auto pickle =
      unpickle(entries.at(main), fmt::format("{}: {}", where, main), allowed_globals());
  const auto bytes_of = [&](const Storage& storage) {
    return storage_bytes(entries, fmt::format("{}data/{}", folder, storage.key), storage, where);
  };
  return Interpreter(pickle, where).read(bytes_of, kMaxCopies * file.size());
}

// Before PyTorch 1.6: pickles of a magic number, a version, the writer's system, the object and the
// keys of its storages, then for each key the number of elements and the elements.
StoredTensors read_legacy(std::span<const std::byte> file, std::string_view where) {
  const auto magic = unpickle(file, where, {});
  require(magic[magic.root].text == kLegacyMagic, "{}: a pickle, but not of torch.save", where);
  const auto version = unpickle(file, where, {}, magic.end);
  require(version[version.root].integer == 1001, "{}: version {} of torch.save, 1001 expected",
          where, version[version.root].integer);
  const auto system = unpickle(file, where, {}, version.end);
  const auto& facts = system[system.root].items;
  for (size_t i = 0; i + 1 < facts.size(); i += 2)
    require(system[facts[i]].text != "little_endian" || system[facts[i + 1]].integer == 1,
            "{}: big-endian, only little-endian is read", where);
  const auto object = unpickle(file, where, allowed_globals(), system.end);
  const auto keys = unpickle(file, where, {}, object.end);

  Interpreter interpreter(object, where);
  std::map<std::string_view, size_t> element_bytes;
  for (const auto& value : object.values) {
    if (value.kind != Kind::persistent) continue;
    const auto storage = interpreter.storage(value);
    const size_t bytes = dtype_bytes(storage.dtype);
    require(element_bytes.try_emplace(storage.key, bytes).first->second == bytes,
            "{}: storage '{}' has elements of two sizes", where, storage.key);
  }
  require(keys[keys.root].kind == Kind::list, "{}: no list of storages before byte {}", where,
          keys.end);
  ByteReader reader(file, where, keys.end);
  std::map<std::string_view, std::span<const std::byte>> storages;
  for (const uint32_t place : keys[keys.root].items) {
    const auto key = keys[place].text;
    const auto element = element_bytes.find(key);
    require(element != element_bytes.end(), "{}: no tensor is in storage '{}'", where, key);
    const auto count = reader.read<uint64_t>();
    require(count <= reader.remaining() / element->second,
            "{}: storage '{}' of {} elements does not end in the file", where, key, count);
    require(storages.emplace(key, reader.take(count * element->second)).second,
            "{}: storage '{}' appears twice", where, key);
  }
  require(reader.remaining() == 0, "{}: {} bytes behind the last storage", where,
          reader.remaining());
  const auto bytes_of = [&](const Storage& storage) {
    return storage_bytes(storages, storage.key, storage, where);
  };
  return interpreter.read(bytes_of, kMaxCopies * file.size());
}

}  // namespace

StoredTensors read_pytorch_bin(std::span<const std::byte> file, std::string_view where) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  return text.starts_with("PK") ? read_zip(file, where) : read_legacy(file, where);
}

}  // namespace cajal
