#include "cajal/surgery/selection.h"

#include "cajal/core/error.h"
#include "cajal/layers/ffn/experts.h"
#include "cajal/surgery/moefy.h"
#include "cajal/surgery/split.h"

namespace cajal::surgery {

Selection::Selection(const lm::Transformer& model) {
  for (const auto& block : model->blocks) {
    require(block.ffn.experts != nullptr, "selection: the model is not cut into experts");
    of_layer_.push_back(block.ffn.experts);
  }
}

int64_t Selection::active(double ratio) const {
  const int64_t count = of_layer_.at(0)->count;
  return expert_counts({.experts = count, .ratio = ratio}, count).active;
}

void Selection::use(lm::Transformer& model, RouterKind router, double ratio) const {
  use(model, router, std::vector<int64_t>(of_layer_.size(), active(ratio)));
}

void Selection::use(lm::Transformer& model, RouterKind router) const {
  std::vector<int64_t> active;
  for (const auto& experts : of_layer_) active.push_back(experts->active);
  use(model, router, active);
}

void Selection::use(lm::Transformer& model, RouterKind router,
                    const std::vector<int64_t>& active) const {
  for (size_t l = 0; l < of_layer_.size(); ++l) {
    auto experts = std::make_shared<lm::Experts>(*of_layer_[l]);
    experts->router = router, experts->active = active[l];
    if (router == RouterKind::similarity) {
      const auto rows = neuron_rows(model->blocks[l].ffn);
      const auto centres =
          experts::centres(rows.gate.defined() ? rows.gate : rows.key, experts->count);
      experts->first = centres / centres.norm(2, -1, /*keepdim=*/true).clamp_min(1e-12);
    }
    model->blocks[l].ffn.experts = std::move(experts);
  }
}

void Selection::use_random(lm::Transformer& model, double ratio, lm::Hooks& hooks) const {
  for (auto& block : model->blocks) block.ffn.experts.reset();
  hooks.add("blocks.*.mlp.hook_post", [count = of_layer_.at(0)->count, active = active(ratio)](
                                          std::string_view, const torch::Tensor& post) {
    auto sizes = post.sizes().vec();
    sizes.back() = count;
    return experts::keep(post, experts::best(torch::rand(sizes), active));
  });
}

}  // namespace cajal::surgery
