#include <cajal/core/machine.h>
#include <cajal/models/lm/checkpoint.h>

#include <cstdio>

int main(int, char** argv) {
  auto model = cajal::lm::load(argv[1]);
  const auto logits = model->forward(torch::tensor({{1, 2, 3}}, torch::kLong));
  std::printf("%s: %ld layers, next id %ld\n", cajal::version().c_str(), model->config.layers,
              logits[0][-1].argmax().item<int64_t>());
}
