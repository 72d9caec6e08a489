#include "cajal/surgery/plan.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

namespace cajal::surgery {
namespace {

struct Words {  // SET=F[,rest=G]
  std::string set;
  std::pair<Storage, Storage> first, rest;  // key, value
};

std::pair<Storage, Storage> parse_pair(std::string_view text, const std::string& where) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) {
    const auto both = Storage::parse(text, where);
    return {both, both};
  }
  const auto key = Storage::parse(text.substr(0, slash), where);
  const auto value = Storage::parse(text.substr(slash + 1), where);
  require((key.kind == Storage::Kind::drop) == (value.kind == Storage::Kind::drop),
          "{}: '{}' drops one half of a neuron", where, text);
  return {key, value};
}

Words parse_words(std::string_view text) {
  const auto where = fmt::format("plan '{}'", text);
  constexpr const char* forms =
      "all=F, heavy=F,rest=G, random=F,rest=G, inverse=F,rest=G or mix=F,values=G (F, G: q8_0, "
      "q4_0, "
      "bf16, drop, svd:0.3, asvd:0.3, ...)";
  const auto comma = text.find(',');
  const auto first = text.substr(0, comma);
  const auto equals = first.find('=');
  require(equals != std::string_view::npos, "{}: expected {}", where, forms);
  Words words;
  words.set = first.substr(0, equals);
  const bool all = words.set == "all", mix = words.set == "mix";
  require(all || mix || words.set == "heavy" || words.set == "random" || words.set == "inverse",
          "{}: '{}' is not a set of neurons, expected {}", where, words.set, forms);
  require(all == (comma == std::string_view::npos), "{}: expected {}", where, forms);
  words.first = parse_pair(first.substr(equals + 1), where);
  if (all) {
    require(words.first.first.kind != Storage::Kind::drop, "{}: drops every neuron", where);
    return words;
  }
  const auto rest = text.substr(comma + 1);
  const std::string_view second = mix ? "values=" : "rest=";
  require(rest.starts_with(second), "{}: '{}' should be {}G", where, rest, second);
  words.rest = parse_pair(rest.substr(second.size()), where);
  require(!mix || words.rest.first.kind != Storage::Kind::drop, "{}: drops values alone", where);
  require(words.first.first.kind != Storage::Kind::drop, "{}: only the rest can be dropped", where);
  return words;
}

void read_group(const Json& json, const std::string& where, GroupPlan& out) {
  options::require_object(json, where);
  options::refuse_unknown_keys(json, where, {"neurons", "key", "value"});
  require(json.contains("neurons") && json.contains("key") && json.contains("value"),
          "{}: expected neurons, key and value", where);
  options::read(json["neurons"], where + ".neurons", out.neurons);
  std::string text;
  options::read(json["key"], where + ".key", text);
  out.key = Storage::parse(text, where + ".key");
  options::read(json["value"], where + ".value", text);
  out.value = Storage::parse(text, where + ".value");
}

LayerPlan read_layer(const Json& json, int64_t neurons, const std::string& where) {
  options::require_object(json, where);
  options::refuse_unknown_keys(json, where, {"order", "groups"});
  LayerPlan layer;
  if (json.contains("order")) {
    options::read(json["order"], where + ".order", layer.order);
    std::vector<bool> seen(static_cast<size_t>(neurons));
    require(static_cast<int64_t>(layer.order.size()) == neurons,
            "{}.order: {} entries, expected one for each of {} neurons", where, layer.order.size(),
            neurons);
    for (const auto i : layer.order) {
      require(i >= 0 && i < neurons && !seen[i], "{}.order: {} is out of range or there twice",
              where, i);
      seen[i] = true;
    }
  }
  require(json.contains("groups") && json["groups"].is_array() && !json["groups"].empty(),
          "{}.groups: expected a list of groups", where);
  int64_t sum = 0;
  for (size_t g = 0; g < json["groups"].size(); ++g) {
    const auto name = fmt::format("{}.groups[{}]", where, g);
    read_group(json["groups"][g], name, layer.groups.emplace_back());
    const auto count = layer.groups.back().neurons;
    require(count > 0 && count <= neurons - sum, "{}.neurons: {}, expected 1 to {}", name, count,
            neurons - sum);
    sum += count;
  }
  require(sum == neurons, "{}.groups: {} neurons in all, expected {}", where, sum, neurons);
  return layer;
}

int64_t matrix_bytes(const Storage& storage, int64_t rows, int64_t width) {
  switch (storage.kind) {
    case Storage::Kind::drop:
      return 0;
    case Storage::Kind::format:
      return rows * row_bytes(storage.format, width);
    case Storage::Kind::low_rank:
    case Storage::Kind::weighted_low_rank:
      return storage.rank(rows, width) * (rows + width) * block_bytes(storage.format);
  }
  return 0;
}

}  // namespace

Storage Storage::parse(std::string_view text, std::string_view where) {
  if (text == "drop") return {.kind = Kind::drop};
  const bool weighted = text.starts_with("asvd:");
  if (weighted || text.starts_with("svd:")) {
    double share = 0;
    const auto number = text.substr(text.find(':') + 1);
    const auto [end, code] = std::from_chars(number.data(), number.data() + number.size(), share);
    require(code == std::errc() && end == number.data() + number.size() && share > 0 && share <= 1,
            "{}: '{}' is not svd:SHARE or asvd:SHARE with a share of the rank above 0 and up to 1",
            where, text);
    return {.kind = weighted ? Kind::weighted_low_rank : Kind::low_rank,
            .format = Format::f16,
            .rank_share = share};
  }
  return {.kind = Kind::format, .format = from_name<Format>(text, where)};
}

std::string Storage::text() const {
  if (kind == Kind::drop) return "drop";
  if (kind == Kind::format) return to_name(format);
  return fmt::format("{}:{}", kind == Kind::low_rank ? "svd" : "asvd", rank_share);
}

int64_t Storage::rank(int64_t rows, int64_t columns) const {
  return std::max<int64_t>(1,
                           std::llround(rank_share * static_cast<double>(std::min(rows, columns))));
}

Json Plan::json() const {
  Json out = {{"name", name}, {"layers", Json::array()}};
  for (const auto& layer : layers) {
    Json groups = Json::array();
    for (const auto& group : layer.groups)
      groups.push_back(
          {{"neurons", group.neurons}, {"key", group.key.text()}, {"value", group.value.text()}});
    Json one = Json::object();
    if (!layer.order.empty()) one["order"] = layer.order;
    one["groups"] = std::move(groups);
    out["layers"].push_back(std::move(one));
  }
  return out;
}

Plan Plan::from_json(const Json& json, const std::vector<int64_t>& neurons,
                     const std::string& where) {
  options::require_object(json, where);
  options::refuse_unknown_keys(json, where, {"name", "layers"});
  Plan plan;
  if (json.contains("name")) options::read(json["name"], where + ".name", plan.name);
  require(json.contains("layers") && json["layers"].is_array(), "{}.layers: expected a list",
          where);
  require(json["layers"].size() == neurons.size(), "{}.layers: {} layers, the model has {}", where,
          json["layers"].size(), neurons.size());
  for (size_t l = 0; l < neurons.size(); ++l)
    plan.layers.push_back(
        read_layer(json["layers"][l], neurons[l], fmt::format("{}.layers[{}]", where, l)));
  return plan;
}

Plan make_plan(std::string_view text, const atlas::Census& census, const PlanOptions& options) {
  const auto words = parse_words(text);
  Plan plan;
  plan.name = text;
  for (size_t l = 0; l < census.layers.size(); ++l) {
    const auto& layer = census.layers[l];
    auto& out = plan.layers.emplace_back();
    if (words.set == "all") {
      out.groups = {{layer.neurons, words.first.first, words.first.second}};
      continue;
    }
    if (words.set == "mix") {
      const size_t layers = census.layers.size(), eighth = layers / 8;
      const bool more = l < eighth || l >= 7 * layers / 8 || (l - eighth) % 3 == 2;
      out.groups = {
          {layer.neurons, words.first.first, more ? words.rest.second : words.first.second}};
      continue;
    }
    const auto score = words.set == "random" ? Score::random : options.score;
    out.order = ranking(layer, score, options.seed + l);
    if (words.set == "inverse") std::reverse(out.order.begin(), out.order.end());
    const auto heavy = heavy_count(layer.neurons, options.ratio);
    if (heavy > 0) out.groups.push_back({heavy, words.first.first, words.first.second});
    if (heavy < layer.neurons)
      out.groups.push_back({layer.neurons - heavy, words.rest.first, words.rest.second});
  }
  return plan;
}

std::string usual_mix(int64_t width) {
  return width % block_values(Format::q4_K) == 0 ? "mix=q4_K,values=q6_K" : "mix=q5_0,values=q8_0";
}

int64_t group_bytes(const GroupPlan& group, int64_t width, bool gated) {
  return (gated ? 2 : 1) * matrix_bytes(group.key, group.neurons, width) +
         matrix_bytes(group.value, group.neurons, width);
}

int64_t plan_bytes(const Plan& plan, int64_t width, bool gated) {
  int64_t bytes = 0;
  for (const auto& layer : plan.layers)
    for (const auto& group : layer.groups) bytes += group_bytes(group, width, gated);
  return bytes;
}

double plan_bits(const Plan& plan, int64_t width, bool gated) {
  int64_t neurons = 0;
  for (const auto& layer : plan.layers)
    for (const auto& group : layer.groups) neurons += group.neurons;
  return 8.0 * static_cast<double>(plan_bytes(plan, width, gated)) /
         static_cast<double>(neurons * width * (gated ? 3 : 2));
}

Forecast forecast(const atlas::LayerCensus& layer, Score score, double ratio, Format heavy,
                  Format rest) {
  const auto order = ranking(layer, score, 0);
  const auto count = heavy_count(layer.neurons, ratio);
  Forecast out;
  out.ratio = static_cast<double>(count) / static_cast<double>(layer.neurons);
  out.share = energy_share(layer, order.data(), order.data() + count);
  const double high = bits_per_value(heavy), low = bits_per_value(rest);
  const auto error = [](double bits) { return std::exp2(-2 * bits); };
  const double uniform = error(out.ratio * high + (1 - out.ratio) * low);
  // s error(high) + (1 - s) error(low) = uniform
  out.needed = high > low ? (error(low) - uniform) / (error(low) - error(high)) : 1;
  return out;
}

}  // namespace cajal::surgery
