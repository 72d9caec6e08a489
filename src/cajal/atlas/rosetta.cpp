#include "cajal/atlas/rosetta.h"

#include <algorithm>
#include <cmath>

#include "cajal/core/error.h"

namespace cajal::atlas {
namespace {

// [images, channels, h, w] -> [channels, images x h x w]
torch::Tensor flat(const torch::Tensor& maps) { return maps.transpose(0, 1).flatten(1); }

torch::Tensor resized(const torch::Tensor& maps, int64_t height, int64_t width) {
  if (maps.size(2) == height && maps.size(3) == width) return maps;
  return at::upsample_bilinear2d(maps, {height, width}, /*align_corners=*/false);
}

// Both maps at the larger size.
std::pair<torch::Tensor, torch::Tensor> same_size(const torch::Tensor& a, const torch::Tensor& b) {
  const int64_t height = std::max(a.size(2), b.size(2)), width = std::max(a.size(3), b.size(3));
  return {resized(a, height, width), resized(b, height, width)};
}

// Two layers as [units, images x pixels] whose products are those at the larger size. Enlarging is
// linear: maps of the larger size taken back through its transpose meet the small ones where they
// are fewer.
std::pair<torch::Tensor, torch::Tensor> comparable(const torch::Tensor& a, const torch::Tensor& b) {
  const auto back = [](const torch::Tensor& large, const torch::Tensor& small) {
    return flat(at::upsample_bilinear2d_backward(
        large, {large.size(2), large.size(3)},
        {large.size(0), large.size(1), small.size(2), small.size(3)}, false));
  };
  if (a.size(2) < b.size(2) && a.size(3) < b.size(3)) return {flat(a), back(b, a)};
  if (b.size(2) < a.size(2) && b.size(3) < a.size(3)) return {back(a, b), flat(b)};
  const auto [x, y] = same_size(a, b);
  return {flat(x), flat(y)};
}

// Σ of the squares of every unit, enlarged where the other's maps are larger.
torch::Tensor squares(const torch::Tensor& a, const torch::Tensor& other) {
  return same_size(a, other).first.square().sum(torch::IntArrayRef({0, 2, 3})).to(torch::kDouble);
}

torch::Tensor correlation(const torch::Tensor& product, const torch::Tensor& square_a,
                          const torch::Tensor& square_b) {
  const auto scores = product / (square_a.unsqueeze(1) * square_b.unsqueeze(0)).sqrt();
  return torch::nan_to_num(scores, 0, 0, 0);
}

}  // namespace

torch::Tensor tokens_as_maps(const torch::Tensor& tokens, int64_t special) {
  const auto patches = tokens.slice(1, special);
  const auto side = static_cast<int64_t>(std::lround(std::sqrt(patches.size(1))));
  require(side * side == patches.size(1), "{} tokens after {} special ones are no square",
          patches.size(1), special);
  return patches.transpose(1, 2).reshape({tokens.size(0), tokens.size(2), side, side});
}

void UnitStatisticsPass::add(const UnitMaps& maps) {
  if (batches_ == 0)
    for (const auto& layer : maps) {
      mean_.push_back(torch::zeros({layer.size(1)}, torch::kDouble));
      square_.push_back(torch::zeros({layer.size(1)}, torch::kDouble));
      count_.push_back(0);
    }
  require(maps.size() == mean_.size(), "unit statistics: a batch of {} layers after one of {}",
          maps.size(), mean_.size());
  ++batches_;
  for (size_t l = 0; l < maps.size(); ++l) {
    const auto x = flat(maps[l]).to(torch::kDouble);
    const auto n = static_cast<double>(x.size(1));
    const auto mean = x.mean(1);
    if (pooling_ == Pooling::batches) {
      mean_[l] += mean, square_[l] += x.var(1);
      continue;
    }
    // Chan's update of a running mean and sum of squares about it.
    const auto gap = mean - mean_[l];
    const double all = count_[l] + n;
    square_[l] += (x - mean.unsqueeze(1)).square().sum(1) + gap.square() * (count_[l] * n / all);
    mean_[l] += gap * (n / all);
    count_[l] = all;
  }
}

UnitStatistics UnitStatisticsPass::finish() const {
  require(batches_ > 0, "unit statistics of no image");
  UnitStatistics out;
  for (size_t l = 0; l < mean_.size(); ++l) {
    const auto n = static_cast<double>(batches_);
    const bool exact = pooling_ == Pooling::exact;
    out.mean.push_back(exact ? mean_[l] : mean_[l] / n);
    out.deviation.push_back((square_[l] / (exact ? count_[l] : n)).sqrt());
  }
  return out;
}

UnitMaps normalise_units(const UnitMaps& maps, const UnitStatistics& statistics) {
  UnitMaps out;
  for (size_t l = 0; l < maps.size(); ++l) {
    const auto of = [&](const torch::Tensor& t) {
      return t.to(maps[l].scalar_type()).reshape({1, -1, 1, 1});
    };
    out.push_back((maps[l] - of(statistics.mean.at(l))) / (of(statistics.deviation.at(l)) + 1e-5));
  }
  return out;
}

void UnitMatcher::add(const UnitMaps& maps_a, const UnitMaps& maps_b) {
  require(!maps_a.empty() && !maps_b.empty() && maps_a[0].size(0) == maps_b[0].size(0),
          "unit matcher: maps of {} and {} images, expected the same",
          maps_a.empty() ? 0 : maps_a[0].size(0), maps_b.empty() ? 0 : maps_b[0].size(0));
  const torch::NoGradGuard no_grad;
  const auto a = normalise_units(maps_a, a_), b = normalise_units(maps_b, b_);
  const size_t pairs = a.size() * b.size();
  product_.resize(pairs * shifts_.size()), square_a_.resize(pairs), square_b_.resize(pairs);
  ++batches_;
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t j = 0; j < b.size(); ++j) {
      const auto [x, y] = comparable(a[i], b[j]);
      const auto pixels = y.size(1) / b[j].size(0);
      const auto xx = squares(a[i], b[j]), yy = squares(b[j], a[i]);
      const size_t k = i * b.size() + j;
      const auto accumulate = [](torch::Tensor& sum, const torch::Tensor& part) {
        sum = sum.defined() ? sum + part : part;
      };
      for (size_t s = 0; s < shifts_.size(); ++s) {
        const auto moved = shifts_[s] ? y.roll(shifts_[s] * pixels, 1) : y;
        const auto product = torch::mm(x, moved.t()).to(torch::kDouble);
        accumulate(product_[s * pairs + k],
                   pooling_ == Pooling::batches ? correlation(product, xx, yy) : product);
      }
      if (pooling_ == Pooling::batches) continue;
      accumulate(square_a_[k], xx);
      accumulate(square_b_[k], yy);
    }
}

int64_t UnitMatcher::bytes() const {
  int64_t sum = 0;
  for (const auto* sums : {&product_, &square_a_, &square_b_})
    for (const auto& t : *sums)
      if (t.defined()) sum += static_cast<int64_t>(t.nbytes());
  return sum;
}

torch::Tensor UnitMatcher::table(size_t shift) const {
  require(batches_ > 0, "unit matcher: no batch was added");
  require(shift < shifts_.size(), "unit matcher: table {} of {}", shift, shifts_.size());
  std::vector<torch::Tensor> rows;
  const size_t columns = b_.mean.size();
  for (size_t i = 0; i < a_.mean.size(); ++i) {
    std::vector<torch::Tensor> row;
    for (size_t j = 0; j < columns; ++j) {
      const size_t k = i * columns + j;
      const auto& product = product_[shift * a_.mean.size() * columns + k];
      row.push_back(pooling_ == Pooling::batches
                        ? product / static_cast<double>(batches_)
                        : correlation(product, square_a_[k], square_b_[k]));
    }
    rows.push_back(torch::cat(row, 1));
  }
  return torch::cat(rows).to(torch::kFloat);
}

torch::Tensor naive_table(const UnitMaps& maps_a, const UnitMaps& maps_b,
                          const UnitStatistics& statistics_a, const UnitStatistics& statistics_b) {
  const torch::NoGradGuard no_grad;
  const auto a = normalise_units(maps_a, statistics_a), b = normalise_units(maps_b, statistics_b);
  std::vector<torch::Tensor> rows;
  for (const auto& layer_a : a)
    for (int64_t i = 0; i < layer_a.size(1); ++i) {
      std::vector<torch::Tensor> row;
      for (const auto& layer_b : b)
        for (int64_t j = 0; j < layer_b.size(1); ++j) {
          const auto [x, y] = same_size(layer_a.slice(1, i, i + 1), layer_b.slice(1, j, j + 1));
          row.push_back((x * y).sum() / (x.square().sum() * y.square().sum()).sqrt());
        }
      rows.push_back(torch::stack(row));
    }
  return torch::nan_to_num(torch::stack(rows), 0, 0, 0);
}

std::vector<UnitPair> mutual_best(const torch::Tensor& table, int64_t k) {
  require(table.dim() == 2 && k > 0, "mutual_best: table {} and k {}, expected two axes and k > 0",
          shape_text(table.sizes()), k);
  const auto of_row = std::get<1>(table.topk(std::min(k, table.size(1)), 1));
  const auto of_column = std::get<1>(table.topk(std::min(k, table.size(0)), 0));
  auto chosen = torch::zeros(table.sizes(), torch::kBool).scatter_(1, of_row, true);
  chosen &= torch::zeros(table.sizes(), torch::kBool).scatter_(0, of_column, true);
  const auto found = chosen.nonzero();
  std::vector<UnitPair> out;
  for (int64_t n = 0; n < found.size(0); ++n) {
    const auto i = found[n][0].item<int64_t>(), j = found[n][1].item<int64_t>();
    out.push_back({i, j, table[i][j].item<double>()});
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const UnitPair& x, const UnitPair& y) { return x.score > y.score; });
  return out;
}

std::vector<UnitPair> one_way_best(const torch::Tensor& table) {
  const auto [score, best] = table.max(1);
  std::vector<UnitPair> out;
  for (int64_t i = 0; i < table.size(0); ++i)
    out.push_back({i, best[i].item<int64_t>(), score[i].item<double>()});
  return out;
}

double null_threshold(const std::vector<torch::Tensor>& shuffled_tables, double percentile) {
  std::vector<double> scores;
  for (const auto& table : shuffled_tables)
    for (const auto& pair : mutual_best(table)) scores.push_back(pair.score);
  require(!scores.empty(), "null_threshold: no shuffled table");
  std::sort(scores.begin(), scores.end());
  return scores[static_cast<size_t>(
      std::ceil(percentile * static_cast<double>(scores.size() - 1)))];
}

std::vector<RosettaUnit> rosetta_set(const std::vector<torch::Tensor>& tables, double threshold) {
  require(!tables.empty(), "rosetta_set: no table");
  std::vector<RosettaUnit> all;
  for (int64_t unit = 0; unit < tables[0].size(0); ++unit) all.push_back({unit, {}, 0});
  for (const auto& table : tables) {
    require(table.size(0) == tables[0].size(0), "rosetta_set: tables of {} and {} common units",
            tables[0].size(0), table.size(0));
    for (const auto& pair : mutual_best(table))
      if (pair.score > threshold) {
        auto& unit = all[static_cast<size_t>(pair.a)];
        unit.buddies.push_back(pair.b);
        unit.score += pair.score / static_cast<double>(tables.size());
      }
  }
  std::erase_if(all, [&](const RosettaUnit& u) { return u.buddies.size() != tables.size(); });
  std::stable_sort(all.begin(), all.end(),
                   [](const RosettaUnit& x, const RosettaUnit& y) { return x.score > y.score; });
  return all;
}

std::vector<int64_t> cluster_units(const torch::Tensor& similarity, double threshold) {
  require(similarity.dim() == 2 && similarity.size(0) == similarity.size(1),
          "cluster_units: similarity is {}, expected [n, n]", shape_text(similarity.sizes()));
  const auto wide = similarity.to(torch::kDouble).contiguous();
  const auto s = wide.accessor<double, 2>();
  std::vector<std::vector<int64_t>> clusters;
  for (int64_t i = 0; i < similarity.size(0); ++i) clusters.push_back({i});
  const auto alike = [&](const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
    double sum = 0;
    for (const int64_t i : a)
      for (const int64_t j : b) sum += s[i][j];
    return sum / static_cast<double>(a.size() * b.size());
  };
  for (;;) {
    double best = threshold;
    size_t into = 0, from = 0;
    for (size_t i = 0; i < clusters.size(); ++i)
      for (size_t j = i + 1; j < clusters.size(); ++j)
        if (const double now = alike(clusters[i], clusters[j]); now >= best)
          best = now, into = i, from = j;
    if (into == from) break;
    clusters[into].insert(clusters[into].end(), clusters[from].begin(), clusters[from].end());
    clusters.erase(clusters.begin() + static_cast<int64_t>(from));
  }
  std::vector<int64_t> out(static_cast<size_t>(similarity.size(0)));
  for (size_t c = 0; c < clusters.size(); ++c)
    for (const int64_t i : clusters[c]) out[static_cast<size_t>(i)] = static_cast<int64_t>(c);
  return out;
}

double linear_cka(const torch::Tensor& a, const torch::Tensor& b) {
  const auto x = (a - a.mean(0)).to(torch::kDouble), y = (b - b.mean(0)).to(torch::kDouble);
  const auto cross = torch::mm(x.t(), y).square().sum();
  return (cross / (torch::mm(x.t(), x).norm() * torch::mm(y.t(), y).norm())).item<double>();
}

}  // namespace cajal::atlas
