#include "cajal/atlas/unit_descriptions.h"

#include <algorithm>
#include <map>

#include "cajal/core/error.h"
#include "cajal/math/phrases.h"

namespace cajal::atlas {
namespace {

using torch::Tensor;

Tensor index(const std::vector<int64_t>& rows) { return torch::tensor(rows, torch::kLong); }

/// Features of the exemplars under their masks, [units, top, features].
Tensor encode(const WorldNet& encoder, const WorldTensors& data, const Tensor& pictures,
              const Tensor& masks) {
  std::vector<Tensor> out;
  for (int64_t u = 0; u < pictures.size(0); u += 16) {
    const auto ids = pictures.slice(0, u, u + 16);
    const auto seen = encoder.run(data.pictures.index_select(0, ids.flatten()), {}).second;
    const auto mask = masks.slice(0, u, u + 16).flatten(0, 1).to(torch::kFloat);
    out.push_back(pool_under_masks(seen, mask).view({ids.size(0), ids.size(1), -1}));
  }
  return torch::cat(out);
}

/// Pixels by kind under each unit's mask over whole pictures.
Tensor count_everywhere(const WorldNet& net, const Tensor& levels, const WorldTensors& data,
                        const DescribingOptions& o) {
  const auto count = std::min(o.whole, data.pictures.size(0));
  Tensor out = torch::zeros({levels.size(0), data::kWorldPixelKinds}, torch::kDouble);
  for (int64_t at = 0; at < count; at += o.batch) {
    const auto end = std::min(count, at + o.batch);
    const auto maps = net.run(data.pictures.slice(0, at, end), {}).second;
    const auto kinds = data.kinds.slice(0, at, end).unsqueeze(0);
    int64_t unit = 0;
    for (const auto& layer : maps) {
      const auto here = levels.slice(0, unit, unit + layer.size(1));
      const auto masks = unit_masks(layer, here, data.pictures.size(2)).transpose(0, 1);
      out.slice(0, unit, unit + layer.size(1)).add_(count_kinds(masks, kinds));
      unit += layer.size(1);
    }
  }
  return out;
}

std::vector<math::Phrase> numbers(const std::vector<std::string>& phrases,
                                  std::map<std::string, int64_t>& ids) {
  std::vector<math::Phrase> out;
  for (const auto& phrase : phrases) {
    out.emplace_back();
    for (size_t at = 0; at < phrase.size();) {
      const auto end = std::min(phrase.find(' ', at), phrase.size());
      const auto word = caption::lemma(phrase.substr(at, end - at));
      out.back().push_back(ids.emplace(word, std::ssize(ids)).first->second);
      at = end + 1;
    }
  }
  return out;
}

}  // namespace

DescribedUnits DescribedUnits::of(const std::vector<int64_t>& rows) const {
  DescribedUnits out;
  for (const auto row : rows) {
    const auto r = static_cast<size_t>(row);
    out.net.push_back(net[r]), out.unit.push_back(unit[r]), out.truth.push_back(truth[r]);
    out.phrases.push_back(phrases[r]);
  }
  out.features = features.index_select(0, index(rows));
  out.inside = inside.index_select(0, index(rows));
  return out;
}

DescribedUnits join(const std::vector<DescribedUnits>& parts) {
  DescribedUnits out;
  std::vector<Tensor> features, inside;
  for (const auto& p : parts) {
    out.net.insert(out.net.end(), p.net.begin(), p.net.end());
    out.unit.insert(out.unit.end(), p.unit.begin(), p.unit.end());
    out.truth.insert(out.truth.end(), p.truth.begin(), p.truth.end());
    out.phrases.insert(out.phrases.end(), p.phrases.begin(), p.phrases.end());
    features.push_back(p.features), inside.push_back(p.inside);
  }
  out.features = torch::cat(features), out.inside = torch::cat(inside);
  return out;
}

DescribedUnits probe(const WorldNet& net, const WorldNet& encoder, const WorldTensors& data,
                     const DescribingOptions& o, uint64_t seed) {
  const torch::NoGradGuard no_grad;
  ExemplarPass pass(o.exemplars);
  for (const auto& some : data.pictures.split(o.batch)) pass.add(net.run(some, {}).second);
  const auto exemplars = pass.finish();
  const auto masks = exemplar_masks(exemplars, data.pictures.size(2));
  const auto kinds = data.kinds.index_select(0, exemplars.pictures.flatten())
                         .view({masks.size(0), masks.size(1), masks.size(2), masks.size(3)});
  const auto inside = count_kinds(masks, kinds), outside = count_kinds(~masks, kinds);
  const auto truths = find_meanings(inside, outside);
  Random random(seed, 17);
  DescribedUnits out;
  std::vector<int64_t> live;
  for (int64_t u = 0; u < masks.size(0); ++u) {
    const auto& truth = truths[static_cast<size_t>(u)];
    if (truth.dead) continue;
    live.push_back(u);
    out.net.push_back(net.name), out.unit.push_back(u), out.truth.push_back(truth);
    out.phrases.push_back(annotate(truth.meaning, o.annotators, random));
  }
  require(!live.empty(), "probe: every unit of {} is dead", net.name);
  const auto rows = index(live);
  out.features =
      encode(encoder, data, exemplars.pictures.index_select(0, rows), masks.index_select(0, rows));
  out.inside = count_everywhere(net, exemplars.levels, data, o).index_select(0, rows);
  return out;
}

std::vector<std::string> UnitCaptioner::describe(const Tensor& features,
                                                 const caption::DescribeOptions& options) {
  std::vector<std::string> out;
  for (const auto& d :
       caption::describe(describer, language, (features - mean) / deviation, options))
    out.push_back(vocabulary.decode(d.words));
  return out;
}

UnitCaptioner train_captioner(const DescribedUnits& units, const UnitCaptionerOptions& o) {
  std::vector<std::string> all;
  for (const auto& some : units.phrases) all.insert(all.end(), some.begin(), some.end());
  caption::Vocabulary vocabulary(all);
  ShowAttendTell describer(ShowAttendTellOptions{.vocabulary = vocabulary.size(),
                                                 .features = units.features.size(2),
                                                 .embedding = o.embedding,
                                                 .hidden = o.hidden,
                                                 .dropout = o.dropout});
  LstmLanguageModel language(LstmLanguageModelOptions{.vocabulary = vocabulary.size(),
                                                      .embedding = o.embedding,
                                                      .hidden = o.hidden,
                                                      .layers = o.layers,
                                                      .dropout = o.dropout});
  const auto all_features = units.features.flatten(0, 1);
  const auto mean = all_features.mean(0), deviation = all_features.std(0).clamp_min(1e-3);
  train::Annotated data{(units.features - mean) / deviation, {}};
  std::vector<caption::Words> flat;
  for (const auto& some : units.phrases) {
    data.phrases.emplace_back();
    for (const auto& phrase : some) data.phrases.back().push_back(vocabulary.encode(phrase));
    flat.insert(flat.end(), data.phrases.back().begin(), data.phrases.back().end());
  }
  train::fit_language(language, flat, o.training);
  train::fit_describer(describer, data, o.training);
  return {std::move(vocabulary), mean, deviation, describer, language};
}

std::vector<std::string> nearest_phrases(const DescribedUnits& known, const Tensor& features) {
  const auto unit = [](const Tensor& x) {
    const auto mean = x.mean(1);
    return mean / mean.norm(2, 1, true).clamp_min(1e-12);
  };
  const auto best = torch::matmul(unit(features), unit(known.features).t()).argmax(1);
  std::vector<std::string> out;
  for (int64_t i = 0; i < best.size(0); ++i)
    out.push_back(known.phrases[static_cast<size_t>(best[i].item<int64_t>())].front());
  return out;
}

std::vector<std::string> most_frequent_phrase(const DescribedUnits& known, int64_t count) {
  std::map<std::string, int64_t> often;
  for (const auto& some : known.phrases)
    for (const auto& phrase : some) ++often[phrase];
  const auto most = std::max_element(
      often.begin(), often.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return std::vector<std::string>(static_cast<size_t>(count), most->first);
}

Agreement agreement(const std::vector<std::string>& said, const DescribedUnits& units) {
  require(std::ssize(said) == units.size() && !said.empty(), "agreement: {} phrases for {} units",
          said.size(), units.size());
  std::map<std::string, int64_t> ids;
  std::vector<std::vector<math::Phrase>> references;
  Agreement out;
  const auto count = static_cast<double>(said.size());
  for (size_t i = 0; i < said.size(); ++i) {
    const auto own = read_phrase(said[i]);
    for (const auto& phrase : units.phrases[i])
      out.f1 += attribute_f1(own, read_phrase(phrase)) /
                static_cast<double>(units.phrases[i].size()) / count;
    out.attributes += static_cast<double>(own.size()) / count;
    out.exact += (own == attributes_of(units.truth[i].meaning)) / count;
    references.push_back(numbers(units.phrases[i], ids));
  }
  const auto outputs = numbers(said, ids);
  out.bleu = math::bleu(outputs, references, 4);
  out.rouge = math::rouge_l(outputs, references);
  return out;
}

Agreement annotator_agreement(const DescribedUnits& units) {
  Agreement sum;
  require(units.size() > 0 && units.phrases[0].size() > 1, "agreement: one annotator alone");
  const auto annotators = units.phrases[0].size();
  for (size_t a = 0; a < annotators; ++a) {
    auto others = units;
    std::vector<std::string> said;
    for (auto& phrases : others.phrases) {
      said.push_back(phrases[a]);
      phrases.erase(phrases.begin() + static_cast<std::ptrdiff_t>(a));
    }
    const auto one = agreement(said, others);
    const auto share = 1 / static_cast<double>(annotators);
    sum.f1 += share * one.f1, sum.bleu += share * one.bleu, sum.rouge += share * one.rouge;
    sum.attributes += share * one.attributes, sum.exact += share * one.exact;
  }
  return sum;
}

}  // namespace cajal::atlas
