#include "cajal/data/function_texts.h"

#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/data/toy_translate.h"

namespace cajal::data {
namespace {

class Writer {
 public:
  explicit Writer(uint64_t seed) : random_(seed) {}

  std::string arith() {
    const int64_t a = below(100), b = below(100);
    return below(2) == 0 ? fmt::format("{}+{}={}\n", a, b, a + b)
                         : fmt::format("{}-{}={}\n", std::max(a, b), std::min(a, b),
                                       std::max(a, b) - std::min(a, b));
  }

  std::string brackets() {
    static constexpr const char* kPairs[] = {"()", "[]", "{}"};
    std::string out, open;
    for (int64_t i = 0, steps = 8 + below(12); i < steps; ++i) {
      if (!open.empty() && below(2) == 0) {
        out += open.back(), open.pop_back();
      } else {
        const auto* pair = kPairs[below(3)];
        out += pair[0], open += pair[1];
      }
    }
    return out + std::string(open.rbegin(), open.rend()) + "\n";
  }

  std::string recall() {
    std::string out, keys = "0123456789", values;
    for (size_t i = 0; i < 5; ++i) {
      std::swap(keys[i], keys[i + static_cast<size_t>(below(static_cast<int64_t>(10 - i)))]);
      values += static_cast<char>('a' + below(26));
      out += fmt::format("k{}:{} ", keys[i], values.back());
    }
    const auto asked = static_cast<size_t>(below(5));
    return out + fmt::format("k{}?{}\n", keys[asked], values[asked]);
  }

  std::string code() {
    static constexpr const char* kNames[] = {"alpha", "beta", "count", "index", "total", "value"};
    const auto* a = kNames[below(6)];
    const auto* b = kNames[below(6)];
    switch (below(3)) {
      case 0:
        return fmt::format("int {} = {} + {};\n", a, b, below(10));
      case 1:
        return fmt::format("for (int i = 0; i < {}; ++i) {{ {} += i; }}\n", a, b);
      default:
        return fmt::format("if ({} > {}) {{ return {}; }}\n", a, below(10), b);
    }
  }

 private:
  int64_t below(int64_t count) {
    return static_cast<int64_t>(random_.below(static_cast<uint64_t>(count)));
  }
  Random random_;
};

std::string translations(int64_t bytes, uint64_t seed) {
  const auto pairs = bytes / 40 + 8;
  const auto toy = toy_translate({.train = pairs, .valid = 1, .test = 1, .seed = seed});
  std::string out;
  for (const auto& pair : toy.train) {
    const auto say = [&](const std::vector<int32_t>& ids) {
      for (const int32_t id : ids) out += toy.words[static_cast<size_t>(id)] + " ";
    };
    say(pair.source), out += "= ", say(pair.target), out.back() = '\n';
    if (std::ssize(out) >= bytes) break;
  }
  return out;
}

}  // namespace

std::string function_text(const std::string& function, int64_t bytes, uint64_t seed) {
  require(bytes > 0, "function text: {} bytes", bytes);
  std::string out;
  if (function == "translate") {
    out = translations(bytes, seed);
  } else {
    Writer writer(seed);
    const auto line = [&] {
      if (function == "arith") return writer.arith();
      if (function == "brackets") return writer.brackets();
      if (function == "recall") return writer.recall();
      if (function == "code") return writer.code();
      fail("function '{}': expected arith, brackets, recall, translate or code", function);
    };
    while (std::ssize(out) < bytes) out += line();
  }
  out.resize(static_cast<size_t>(std::min<int64_t>(bytes, std::ssize(out))));
  return out;
}

}  // namespace cajal::data
