#include "cajal/surgery/function_world.h"

#include <algorithm>

#include "cajal/core/error.h"
#include "cajal/models/lm/generate.h"
#include "cajal/surgery/brick_parts.h"

namespace cajal::surgery {

double FunctionWorld::loss(lm::Transformer of, const std::vector<int32_t>& ids) const {
  return lm::evaluate(of, ids, std::ssize(ids), context(), 32).loss();
}

std::vector<double> FunctionWorld::test_losses(const lm::Transformer& of) const {
  std::vector<double> out;
  for (const auto& text : test) out.push_back(loss(of, text.ids));
  return out;
}

double FunctionWorld::mean_test_loss(const lm::Transformer& of) const {
  double sum = 0;
  for (const double one : test_losses(of)) sum += one;
  return sum / static_cast<double>(test.size());
}

FunctionWorld make_function_world(std::span<const FunctionText> texts,
                                  const train::SmallLanguageOptions& options, int64_t judged,
                                  uint64_t seed) {
  train::SmallLanguageModel trained(options, seed, torch::kCPU);
  FunctionWorld out;
  out.untrained = own_copy(trained.model);
  std::vector<int32_t> all;
  for (const auto& [name, ids] : texts) {
    require(std::ssize(ids) / 10 > options.context && judged > options.context,
            "function '{}': {} bytes, a tenth of which is to fill a window of {}", name, ids.size(),
            options.context);
    out.train.push_back({name, part(ids, 0, 0.8)});
    out.valid.push_back({name, part(ids, 0.8, 0.9)});
    out.test.push_back({name, part(ids, 0.9, 1)});
    auto& test = out.test.back().ids;
    test.resize(std::min(test.size(), static_cast<size_t>(judged)));
    all.insert(all.end(), out.train.back().ids.begin(), out.train.back().ids.end());
  }
  seed_everything(seed);
  trained.fit(torch::tensor(all).to(torch::kByte));
  out.model = own_copy(trained.model);
  return out;
}

std::vector<int32_t> byte_ids(std::string_view text) {
  std::vector<int32_t> out;
  out.reserve(text.size());
  for (const char c : text) out.push_back(static_cast<unsigned char>(c));
  return out;
}

std::vector<int32_t> part(const std::vector<int32_t>& ids, double from, double to) {
  const auto at = [&](double share) {
    return static_cast<std::ptrdiff_t>(share * static_cast<double>(ids.size()));
  };
  return {ids.begin() + at(from), ids.begin() + at(to)};
}

}  // namespace cajal::surgery
