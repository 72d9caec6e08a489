// Which neurons of a layer carry the difference between two prompts: patching MODEL LAYER "The king
// took his" "The queen took her" scores every neuron by attribution patching, then checks the best
// ones by exact patching.
#include <cajal/atlas/attribution.h>
#include <cajal/core/error.h>
#include <cajal/models/lm/checkpoint.h>
#include <cajal/text/tokenizer.h>

#include <cstdio>

int main(int argc, char** argv) try {
  using namespace cajal;
  require(argc == 5, "usage: patching MODEL LAYER TEXT OTHER (two texts of equally many tokens)");
  const auto folder = lm::find_model(argv[1]);
  auto model = lm::load(folder);
  const auto tokenizer = text::Tokenizer::open(folder);
  const auto ids_of = [&](const char* text) {
    const auto ids = tokenizer.encode(text);
    return torch::tensor(std::vector<int64_t>(ids.begin(), ids.end())).unsqueeze(0);
  };
  const auto ids = ids_of(argv[3]), other = ids_of(argv[4]);
  const std::string point = "blocks." + std::string(argv[2]) + ".mlp.hook_post";

  // How much more the first text's answer is expected than the second's.
  const auto answer = [&](const torch::Tensor& of) {
    return model->forward(of).select(1, -1).argmax(-1);
  };
  const auto metric = atlas::logit_difference(answer(ids), answer(other));

  const auto scores = atlas::attribution_patching(model, ids, other, {point}, metric);
  const auto last = scores.at(point).select(1, -1)[0];
  const auto best = std::get<1>(last.abs().topk(5));

  const torch::NoGradGuard no_gradient;
  const auto source = atlas::record(model, other, {point});
  const double before = metric(model->forward(ids)).item<double>();
  std::printf("logit difference %.3f; neurons of the other text put in:\n", before);
  for (int64_t k = 0; k < 5; ++k) {
    const auto neuron = best[k].item<int64_t>();
    lm::Hooks hooks;
    atlas::patch(hooks, {point, {-1}, {}, {neuron}}, source.values);
    const double after = metric(model->forward(ids, {.hooks = &hooks})).item<double>();
    std::printf("  neuron %5ld: expected %+.4f, measured %+.4f\n", static_cast<long>(neuron),
                last[neuron].item<double>(), after - before);
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}
