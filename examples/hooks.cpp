// Looks at the neurons of one layer, silences the one that is most active, and shows what that does
// to the next token: hooks MODEL LAYER "It was the best of"
#include <cajal/core/error.h>
#include <cajal/models/lm/checkpoint.h>
#include <cajal/text/tokenizer.h>

#include <cstdio>

int main(int argc, char** argv) try {
  cajal::require(argc == 4, "usage: hooks MODEL LAYER TEXT");
  const auto folder = cajal::lm::find_model(argv[1]);
  auto model = cajal::lm::load(folder);
  const auto tokenizer = cajal::text::Tokenizer::open(folder);
  const auto encoded = tokenizer.encode(argv[3]);
  const auto ids = torch::tensor(std::vector<int64_t>(encoded.begin(), encoded.end())).unsqueeze(0);
  const std::string point = "blocks." + std::string(argv[2]) + ".mlp.hook_post";
  const torch::NoGradGuard no_gradient;

  int64_t busiest = -1;
  cajal::lm::Hooks hooks;
  const int look = hooks.add(point, [&](std::string_view, const torch::Tensor& post) {
    busiest = post.abs().flatten(0, 1).sum(0).argmax().item<int64_t>();
    return torch::Tensor();  // leave the value as it is
  });
  const auto next = [&] {
    const auto logits = model->forward(ids, {.hooks = &hooks});
    return tokenizer.token_text(static_cast<int32_t>(logits[0][-1].argmax().item<int64_t>()));
  };
  const auto before = next();
  hooks.remove(look);
  hooks.add(point, [&](std::string_view, const torch::Tensor& post) {
    auto silenced = post.clone();
    silenced.select(-1, busiest).zero_();
    return silenced;
  });
  const auto after = next();
  std::printf("next token '%s'; without neuron %ld of layer %s: '%s'\n",
              std::string(before).c_str(), static_cast<long>(busiest), argv[2],
              std::string(after).c_str());
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}
