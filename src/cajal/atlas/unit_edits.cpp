#include "cajal/atlas/unit_edits.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <sstream>

#include "cajal/core/error.h"

namespace cajal::atlas {
namespace {

bool any_between(const Attributes& attributes, int begin, int end) {
  return std::any_of(attributes.begin(), attributes.end(),
                     [&](int a) { return a >= begin && a < end; });
}

std::vector<std::string> words_of(const std::string& phrase) {
  std::istringstream stream(phrase);
  std::vector<std::string> out;
  for (std::string word; stream >> word;) out.push_back(caption::lemma(word));
  return out;
}

/// The attributes of a phrase in the order they are said, and how far two neighbours lie apart in
/// sort: shape, colour, texture, background, edge.
int word_distance(const std::string& phrase) {
  int least = 9, most = -9;
  for (const int a : read_phrase(phrase)) {
    const int sort = a < kColours ? 0 : a < kTextures ? 1 : a < kGrounds ? 2 : a < kEdge ? 3 : 4;
    least = std::min(least, sort), most = std::max(most, sort);
  }
  return most - least;
}

std::vector<int64_t> by_score(const std::vector<int64_t>& units, const std::vector<double>& scores,
                              const std::function<bool(size_t)>& wanted, int64_t most) {
  std::vector<size_t> rows;
  for (size_t i = 0; i < units.size(); ++i)
    if (wanted(i)) rows.push_back(i);
  std::stable_sort(rows.begin(), rows.end(),
                   [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  std::vector<int64_t> out;
  for (const auto row : rows)
    if (std::ssize(out) < most) out.push_back(units[row]);
  return out;
}

}  // namespace

bool mentions(const std::string& phrase, const std::vector<std::string>& words) {
  for (const auto& said : words_of(phrase))
    for (const auto& word : words)
      if (said == caption::lemma(word)) return true;
  return false;
}

std::vector<PhraseGroup> phrase_groups(const std::vector<std::string>& phrases) {
  const auto adjectives = [](const Attributes& a) {
    return std::count_if(a.begin(), a.end(), [](int x) { return x >= kColours && x < kGrounds; });
  };
  using Has = std::function<bool(const std::string&, const Attributes&)>;
  const std::vector<std::pair<std::string, Has>> properties = {
      {"a shape", [](auto&, auto& a) { return any_between(a, kShapes, kColours); }},
      {"a colour", [](auto&, auto& a) { return any_between(a, kColours, kTextures); }},
      {"a texture", [](auto&, auto& a) { return any_between(a, kTextures, kGrounds); }},
      {"a background", [](auto&, auto& a) { return any_between(a, kGrounds, kEdge); }},
      {"letters", [](auto&, auto& a) { return a.contains(kShapes + 4); }},
      {"a preposition", [](auto&, auto& a) { return a.contains(kEdge); }},
      {"no adjective", [&](auto&, auto& a) { return adjectives(a) == 0; }},
      {"one adjective", [&](auto&, auto& a) { return adjectives(a) == 1; }},
      {"two adjectives", [&](auto&, auto& a) { return adjectives(a) >= 2; }},
      {"four words or more", [](auto& p, auto&) { return words_of(p).size() >= 4; }},
      {"attributes of distant sorts", [](auto& p, auto&) { return word_distance(p) >= 3; }}};
  std::vector<PhraseGroup> out;
  for (const auto& [name, has] : properties) {
    out.push_back({name, {}});
    for (size_t i = 0; i < phrases.size(); ++i)
      if (has(phrases[i], read_phrase(phrases[i])))
        out.back().rows.push_back(static_cast<int64_t>(i));
  }
  return out;
}

std::vector<int64_t> random_units(const WorldNet& net, int64_t count, Random& random) {
  std::vector<int64_t> all(static_cast<size_t>(net.units()));
  require(count >= 0 && count <= std::ssize(all), "random units: {} of {}", count, all.size());
  std::iota(all.begin(), all.end(), 0);
  for (int64_t i = 0; i < count; ++i)
    std::swap(all[static_cast<size_t>(i)],
              all[static_cast<size_t>(i) + random.below(all.size() - static_cast<size_t>(i))]);
  all.resize(static_cast<size_t>(count));
  return all;
}

torch::Tensor unit_means(const WorldNet& net, const WorldTensors& data) {
  torch::Tensor sum;
  for (const auto& some : data.pictures.split(250)) {
    std::vector<torch::Tensor> layers;
    for (const auto& map : net.run(some, {}).second)
      layers.push_back(map.mean(torch::IntArrayRef({2, 3})).sum(0));
    const auto here = torch::cat(layers);
    sum = sum.defined() ? sum + here : here;
  }
  return sum / static_cast<double>(data.pictures.size(0));
}

std::vector<double> accuracy_without_each(const WorldNet& net, WorldTask task,
                                          const std::vector<int64_t>& units,
                                          const WorldTensors& data) {
  std::vector<double> out;
  for (const auto unit : units) out.push_back(world_accuracy(net, task, data, {.units = {unit}}));
  return out;
}

std::vector<GroupEffect> delete_groups(const WorldNet& net, WorldTask task,
                                       const DescribedUnits& units,
                                       const std::vector<std::string>& phrases,
                                       const WorldTensors& data, Random& random, int trials) {
  const auto accuracy = [&](const std::vector<int64_t>& deleted) {
    return world_accuracy(net, task, data, {.units = deleted});
  };
  const double whole = accuracy({});
  std::vector<GroupEffect> out;
  for (const auto& group : phrase_groups(phrases)) {
    if (group.rows.size() < 4) continue;
    std::vector<int64_t> chosen;
    for (const auto row : group.rows) chosen.push_back(units.unit[static_cast<size_t>(row)]);
    out.push_back({group.name, std::ssize(chosen), whole, accuracy(chosen), {}});
    for (int t = 0; t < trials; ++t)
      out.back().without_random.push_back(accuracy(random_units(net, std::ssize(chosen), random)));
  }
  return out;
}

Edit edit_by_phrases(const WorldNet& net, WorldTask task, const DescribedUnits& units,
                     const std::vector<std::string>& phrases, const std::vector<std::string>& words,
                     const WorldTensors& valid, const WorldTensors& valid_clean,
                     const WorldTensors& adversarial, const WorldTensors& clean,
                     const EditOptions& o, Random& random) {
  require(std::ssize(phrases) == units.size() && o.most > 0 && o.trials > 0,
          "edit: {} phrases for {} units, {} deletions, {} trials", phrases.size(), units.size(),
          o.most, o.trials);
  const auto scores = accuracy_without_each(net, task, units.unit, valid);
  const auto guided = by_score(
      units.unit, scores, [&](size_t i) { return mentions(phrases[i], words); }, o.most);
  const auto any = by_score(
      units.unit, scores, [](size_t) { return true; }, o.most);
  const auto means = o.rule == DeletionRule::mean ? unit_means(net, valid) : torch::Tensor();
  const auto accuracy = [&](const std::vector<int64_t>& order, int64_t count,
                            const WorldTensors& on) {
    return world_accuracy(net, task, on, {{order.begin(), order.begin() + count}, o.rule, means});
  };
  Edit out;
  out.candidates = std::ssize(guided);
  const double whole = accuracy({}, 0, valid_clean);
  for (int64_t n = 1; n <= out.candidates; ++n)
    if (accuracy(guided, n, valid_clean) >= whole - o.clean_loss) out.chosen = n;
  std::vector<std::vector<int64_t>> trials;
  for (int t = 0; t < o.trials; ++t) trials.push_back(random_units(net, out.candidates, random));
  const auto curve = [&](const std::string& name, const std::vector<std::vector<int64_t>>& orders) {
    EditCurve c{name, {}, {}, {}};
    for (int64_t n = 0; n <= out.candidates; ++n) {
      double sum = 0, squares = 0;
      const auto count = static_cast<double>(orders.size());
      for (const auto& order : orders) {
        const double a = accuracy(order, n, adversarial);
        sum += a, squares += a * a;
      }
      const double mean = sum / count;
      c.adversarial.push_back(mean);
      c.spread.push_back(
          count < 2 ? 0 : std::sqrt(std::max(0.0, squares - count * mean * mean) / (count - 1)));
    }
    out.curves.push_back(std::move(c));
  };
  curve("guided", {guided}), curve("sort all", {any}), curve("random", trials);
  for (int64_t n = 0; n <= out.candidates; ++n)
    out.curves[0].clean.push_back(accuracy(guided, n, clean));
  return out;
}

}  // namespace cajal::atlas
