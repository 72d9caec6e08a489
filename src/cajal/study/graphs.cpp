#include "cajal/study/graphs.h"

#include <algorithm>

#include "cajal/data/citations.h"

namespace cajal::study {
namespace {

torch::Tensor both_ways(const std::vector<std::pair<int32_t, int32_t>>& links) {
  std::vector<int64_t> from, to;
  for (const auto& [u, v] : links) from.push_back(u), to.push_back(v);
  const auto one =
      torch::stack({torch::tensor(from, torch::kLong), torch::tensor(to, torch::kLong)});
  return torch::cat({one, one.flip(0)}, 1);
}

torch::Tensor labels_of(const std::vector<int>& labels) {
  return torch::tensor(std::vector<int64_t>(labels.begin(), labels.end()), torch::kLong);
}

train::GraphTask task_of(const data::CitationGraph& graph) {
  std::vector<int64_t> rows, words;
  std::vector<float> values;
  for (size_t i = 0; i + 1 < graph.word_begin.size(); ++i) {
    const auto begin = graph.word_begin[i], end = graph.word_begin[i + 1];
    for (auto k = begin; k < end; ++k) {
      rows.push_back(static_cast<int64_t>(i));
      words.push_back(graph.word_of[static_cast<size_t>(k)]);
      values.push_back(1.0F / static_cast<float>(end - begin));
    }
  }
  const auto pattern = graph::pattern(torch::tensor(rows, torch::kLong),
                                      torch::tensor(words, torch::kLong), graph.nodes, graph.words);
  return {graph::Features(pattern, torch::tensor(values)), both_ways(graph.edges),
          labels_of(graph.labels), graph.classes};
}

}  // namespace

train::GraphTask block_model_task(const data::BlockModelOptions& options, uint64_t seed) {
  auto graph = data::block_model(options, seed);
  const auto x = torch::from_blob(graph.x.data(), {graph.nodes, graph.features}).clone();
  return {graph::Features(x), both_ways(graph.edges), labels_of(graph.labels), options.classes};
}

NamedGraph find_graph(Lab& lab, const std::string& name) {
  data::BlockModelOptions generated;
  generated.nodes = lab.by_scale(300, 2000, 2000), generated.classes = 5;
  const auto instead = [&] {
    return NamedGraph{"block model, generated", block_model_task(generated, 7)};
  };
  if (lab.smoke()) return instead();
  try {
    return {name, task_of(data::read_citations(name))};
  } catch (const Error& missing) {
    lab.not_shown(name, missing.what());
    return instead();
  }
}

}  // namespace cajal::study
