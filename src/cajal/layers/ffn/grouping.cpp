#include "cajal/layers/ffn/grouping.h"

#include "cajal/layers/ffn/balancing.h"

namespace cajal {

ByGroup::ByGroup(const torch::Tensor& groups, int64_t count) {
  order = groups.argsort(/*stable=*/true, /*dim=*/0, /*descending=*/false);
  back = torch::empty_like(order);
  back.index_copy_(0, order, torch::arange(order.numel(), order.options()));
  const auto counts = balancing::count(groups, count).cpu();
  const auto* number = counts.data_ptr<int64_t>();
  for (int64_t group = 0, begin = 0; group < count; begin += number[group++])
    if (number[group] > 0) runs.push_back({group, begin, number[group]});
}

}  // namespace cajal
