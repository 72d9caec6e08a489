#include "cajal/surgery/index_lists.h"

#include <algorithm>
#include <iterator>
#include <numeric>

#include "cajal/core/error.h"

namespace cajal::surgery {
namespace {

constexpr int64_t kMost = int64_t{1} << 40;  // entries of a matrix

void put(std::string& out, uint64_t value) {
  for (; value >= 128; value >>= 7) out += static_cast<char>(value | 128);
  out += static_cast<char>(value);
}

class Reader {
 public:
  Reader(std::string_view bytes, std::string_view where) : bytes_(bytes), where_(where) {}
  int64_t next(std::string_view what, int64_t most) {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      require(at_ < bytes_.size(), "{}: cut off inside {} at byte {}", where_, what, at_);
      const auto byte = static_cast<uint8_t>(bytes_[at_++]);
      require(shift < 63, "{}: {} at byte {} is longer than 63 bits", where_, what, at_ - 1);
      value |= static_cast<uint64_t>(byte & 127) << shift;
      if (byte < 128) break;
    }
    require(value <= static_cast<uint64_t>(most), "{}: {} is {}, expected at most {}", where_, what,
            value, most);
    return static_cast<int64_t>(value);
  }
  size_t left() const { return bytes_.size() - at_; }

 private:
  std::string_view bytes_, where_;
  size_t at_ = 0;
};

void check_fit(const std::vector<torch::Tensor>& matrices, const IndexLists& lists) {
  check(lists);
  require(matrices.size() == lists.sizes.size(), "index lists: {} lists for {} matrices",
          lists.sizes.size(), matrices.size());
  for (size_t m = 0; m < matrices.size(); ++m)
    require(matrices[m].numel() == lists.sizes[m] && matrices[m].is_contiguous() &&
                matrices[m].scalar_type() == torch::kFloat && matrices[m].device().is_cpu(),
            "index lists: matrix {} is {} {}, expected {} contiguous floats on the CPU", m,
            shape_text(matrices[m].sizes()), c10::toString(matrices[m].scalar_type()),
            lists.sizes[m]);
}

}  // namespace

int64_t IndexLists::count() const {
  int64_t sum = 0;
  for (const auto& list : indices) sum += std::ssize(list);
  return sum;
}
int64_t IndexLists::entries() const {
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
}

void check(const IndexLists& lists) {
  require(lists.sizes.size() == lists.indices.size(), "index lists: {} sizes for {} lists",
          lists.sizes.size(), lists.indices.size());
  for (size_t m = 0; m < lists.sizes.size(); ++m) {
    require(lists.sizes[m] >= 0 && lists.sizes[m] <= kMost, "index lists: matrix {} has {} entries",
            m, lists.sizes[m]);
    int64_t last = -1;
    for (const auto i : lists.indices[m]) {
      require(i > last && i < lists.sizes[m],
              "index lists: index {} after {} in matrix {} of {} entries", i, last, m,
              lists.sizes[m]);
      last = i;
    }
  }
}

std::string encode(const IndexLists& lists) {
  check(lists);
  std::string out;
  put(out, lists.sizes.size());
  for (size_t m = 0; m < lists.sizes.size(); ++m) {
    put(out, static_cast<uint64_t>(lists.sizes[m]));
    put(out, lists.indices[m].size());
    int64_t last = -1;
    for (const auto i : lists.indices[m]) put(out, static_cast<uint64_t>(i - last - 1)), last = i;
  }
  return out;
}

IndexLists decode(std::string_view bytes, std::string_view where) {
  Reader reader(bytes, where);
  // Each matrix takes two bytes and each index one: no count can exceed what is left.
  const auto count = reader.next("the number of matrices", std::ssize(bytes) / 2);
  IndexLists out;
  for (int64_t m = 0; m < count; ++m) {
    out.sizes.push_back(reader.next("a size", kMost));
    const auto length = reader.next(
        "a length", std::min<int64_t>(out.sizes.back(), static_cast<int64_t>(reader.left())));
    auto& list = out.indices.emplace_back();
    int64_t last = -1;
    for (int64_t i = 0; i < length; ++i) {
      last += 1 + reader.next("an index", out.sizes.back() - last - 2);
      list.push_back(last);
    }
  }
  require(reader.left() == 0, "{}: {} bytes after the last list", where, reader.left());
  return out;
}

std::vector<std::vector<float>> shut(const std::vector<torch::Tensor>& matrices,
                                     const IndexLists& lists) {
  check_fit(matrices, lists);
  std::vector<std::vector<float>> out;
  for (size_t m = 0; m < matrices.size(); ++m) {
    auto* values = matrices[m].data_ptr<float>();
    auto& kept = out.emplace_back();
    for (const auto i : lists.indices[m]) kept.push_back(values[i]), values[i] = 0;
  }
  return out;
}

void restore(const std::vector<torch::Tensor>& matrices, const IndexLists& lists,
             const std::vector<std::vector<float>>& values) {
  check_fit(matrices, lists);
  require(values.size() == matrices.size(), "index lists: values of {} matrices, expected {}",
          values.size(), matrices.size());
  for (size_t m = 0; m < matrices.size(); ++m)
    require(values[m].size() == lists.indices[m].size(),
            "index lists: {} values for {} indices of matrix {}", values[m].size(),
            lists.indices[m].size(), m);
  for (size_t m = 0; m < matrices.size(); ++m)
    for (size_t i = 0; i < values[m].size(); ++i)
      matrices[m].data_ptr<float>()[lists.indices[m][i]] = values[m][i];
}

IndexLists unite(const IndexLists& a, const IndexLists& b) {
  require(a.sizes == b.sizes, "index lists: of other matrices");
  IndexLists out{a.sizes, {}};
  for (size_t m = 0; m < a.sizes.size(); ++m)
    std::set_union(a.indices[m].begin(), a.indices[m].end(), b.indices[m].begin(),
                   b.indices[m].end(), std::back_inserter(out.indices.emplace_back()));
  return out;
}

IndexLists random_like(const IndexLists& lists) {
  IndexLists out{lists.sizes, {}};
  for (size_t m = 0; m < lists.sizes.size(); ++m) {
    const auto chosen =
        torch::randperm(lists.sizes[m], torch::kLong).slice(0, 0, std::ssize(lists.indices[m]));
    const auto sorted = std::get<0>(chosen.sort()).contiguous();
    out.indices.emplace_back(sorted.data_ptr<int64_t>(),
                             sorted.data_ptr<int64_t>() + sorted.numel());
  }
  return out;
}

double jaccard(const IndexLists& a, const IndexLists& b) {
  const auto both = unite(a, b).count();
  return both == 0 ? 1
                   : static_cast<double>(a.count() + b.count() - both) / static_cast<double>(both);
}

}  // namespace cajal::surgery
