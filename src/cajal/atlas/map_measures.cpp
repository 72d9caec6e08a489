// Comparisons of maps, and maps for people.
#include <algorithm>
#include <cmath>

#include "cajal/atlas/attention_map.h"
#include "cajal/core/error.h"
#include "cajal/core/files.h"
#include "cajal/math/ranks.h"

namespace cajal::atlas {
namespace {

std::vector<double> entries(const torch::Tensor& map, const MapRegion& region) {
  require(map.dim() == 2 && map.size(0) == map.size(1) && region.first < map.size(0),
          "a map is {}, expected [tokens, tokens] with more than {}", shape_text(map.sizes()),
          region.first);
  const auto wide = map.to(torch::kDouble).contiguous();
  const auto view = wide.accessor<double, 2>();
  std::vector<double> out;
  for (int64_t i = region.first; i < map.size(0); ++i)
    for (int64_t j = region.first; j < (region.causal ? i + 1 : map.size(0)); ++j)
      out.push_back(view[i][j]);
  return out;
}

torch::Tensor as_tensor(std::vector<double> values) {
  return torch::tensor(values, torch::kDouble);
}

bool is_word_byte(unsigned char c) { return c >= 0x80 || std::isalnum(c); }

bool all_punctuation(std::string_view token) {
  bool any = false;
  for (const char c : token) {
    const auto byte = static_cast<unsigned char>(c);
    if (is_word_byte(byte)) return false;
    any |= !std::isspace(byte);
  }
  return any;
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '&')
      out += "&amp;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

}  // namespace

double map_agreement(const torch::Tensor& a, const torch::Tensor& b, const MapRegion& region) {
  return math::spearman(entries(a, region), entries(b, region));
}

double map_change(const torch::Tensor& before, const torch::Tensor& after,
                  const MapRegion& region) {
  return 1 - map_agreement(before, after, region);
}

LayerChange layer_change(const LayerMaps& maps, const MapRegion& region) {
  const bool post = maps.stages.back().stage == "norm2";
  const auto& atb = maps.at(post ? "norm1" : "residual1");
  const auto& ffn = maps.at("ffn");
  const auto& residual = maps.at("residual2");
  const auto& end = maps.stages.back().map;
  LayerChange out{map_change(atb, ffn, region), map_change(ffn, residual, region),
                  map_change(residual, end, region), map_change(atb, end, region)};
  const auto by_ffn = as_tensor(entries(ffn, region)) - as_tensor(entries(atb, region));
  const auto after = as_tensor(entries(end, region)) - as_tensor(entries(ffn, region));
  out.cancel = (by_ffn.dot(after) / (by_ffn.norm() * after.norm())).item<double>();
  return out;
}

torch::Tensor row_shares(const torch::Tensor& map) {
  return map / map.sum(-1, /*keepdim=*/true).clamp_min(1e-30);
}

torch::Tensor amplification(const torch::Tensor& before, const torch::Tensor& after) {
  return row_shares(after) - row_shares(before);
}

torch::Tensor mixing_ratio(const Contributions& x, int64_t first_row) {
  const int64_t rows = x.parts.size(0);
  const auto own = x.parts.slice(1, first_row, first_row + rows).diagonal(0, 0, 1).t();
  const auto mixed = (x.parts.sum(1) - own).norm(2, -1);
  return mixed / (mixed + own.norm(2, -1));
}

std::vector<torch::Tensor> attention_rollout(const std::vector<LayerMaps>& layers) {
  std::vector<torch::Tensor> out;
  for (const auto& layer : layers) {
    const auto& a = layer.attention;
    const auto mixed = 0.5 * a + 0.5 * torch::eye(a.size(0), a.options());
    out.push_back(out.empty() ? mixed : torch::matmul(mixed, out.back()));
  }
  return out;
}

PairClass pair_class(const std::vector<std::string>& tokens, int64_t i, int64_t j) {
  const auto& a = tokens.at(static_cast<size_t>(i));
  const auto& b = tokens.at(static_cast<size_t>(j));
  if (i != j && a == b) return PairClass::same_token;
  if (all_punctuation(a) || all_punctuation(b)) return PairClass::punctuation;
  // Byte-level tokens of one word follow each other without a space.
  const auto [low, high] = std::minmax(i, j);
  bool one_word = low < high;
  for (int64_t k = low + 1; one_word && k <= high; ++k) {
    const auto& token = tokens[static_cast<size_t>(k)];
    one_word = !token.empty() && is_word_byte(static_cast<unsigned char>(token[0])) &&
               is_word_byte(static_cast<unsigned char>(tokens[static_cast<size_t>(k) - 1].back()));
  }
  if (one_word) return PairClass::same_word;
  return high - low == 1 ? PairClass::adjacent : PairClass::other;
}

void write_map(const std::filesystem::path& path, const torch::Tensor& map,
               const std::vector<std::string>& tokens) {
  const auto wide = map.to(torch::kDouble).contiguous();
  const auto view = wide.accessor<double, 2>();
  const int64_t n = map.size(0);
  require(std::ssize(tokens) == n, "{}: {} tokens for a map of {}", path.string(), tokens.size(),
          shape_text(map.sizes()));
  std::string csv, pgm = fmt::format("P5\n{} {}\n255\n", n, n);
  std::string html = "<!doctype html><meta charset=\"utf-8\"><table><tr><th></th>";
  for (const auto& token : tokens) html += "<th scope=\"col\">" + escaped(token) + "</th>";
  html += "</tr>\n";
  for (int64_t i = 0; i < n; ++i) {
    const double most = std::max(1e-300, wide[i].max().item<double>());
    html += "<tr><th scope=\"row\">" + escaped(tokens[static_cast<size_t>(i)]) + "</th>";
    for (int64_t j = 0; j < n; ++j) {
      const double share = view[i][j] / most;
      csv += fmt::format("{}{:.9g}", j ? "," : "", view[i][j]);
      pgm += static_cast<char>(std::lround(255 * share));
      html += fmt::format("<td style=\"background:rgba(0,114,178,{:.2f})\">{:.3g}</td>", share,
                          view[i][j]);
    }
    csv += "\n", html += "</tr>\n";
  }
  html += "</table>\n";
  const auto with = [&](const char* ending) {
    auto out = path;
    return out += ending;
  };
  write_file(with(".csv"), csv);
  write_file(with(".pgm"), pgm);
  write_file(with(".html"), html);
}

}  // namespace cajal::atlas
