#include "cajal/engine/selector.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cajal/kernels/places.h"

namespace cajal::engine {
namespace {

int64_t matrix_bytes(const RowMatrix& matrix) {
  return matrix.rows * row_bytes(matrix.format, matrix.width);
}

/// A small matrix that is read whole.
struct Whole {
  Whole(const RowMatrix& from) : matrix(pack(from, Grouping::rows)) {}

  std::vector<float> times(const float* x, int64_t batch, ThreadPool& threads) const {
    std::vector<float> y(batch * matrix.rows());
    const auto all = RowSet::range(0, matrix.groups());
    if (is_quantised(matrix.format())) {
      multiply(matrix, all, RoundedActivations(x, batch, matrix.width(), 8), y.data(), threads);
    } else {
      multiply(matrix, all, PackedInput(x, batch, matrix.width()), y.data(), threads);
    }
    return y;
  }

  PackedMatrix matrix;
};

void sort_unique(std::vector<int32_t>& values, size_t from = 0) {
  std::sort(values.begin() + static_cast<int64_t>(from), values.end());
  values.erase(std::unique(values.begin() + static_cast<int64_t>(from), values.end()),
               values.end());
}

void check_borders(const std::vector<int32_t>& first_group, const NeuronBank& bank,
                   const char* what) {
  require(first_group.size() > 1 && first_group.front() == 0 &&
              first_group.back() == bank.groups() &&
              std::is_sorted(first_group.begin(), first_group.end()),
          "{}: the borders of the groups must ascend from 0 to {}", what, bank.groups());
}

void choose_range(const std::vector<int32_t>& first_group, int32_t part, Selection& out) {
  for (int32_t group = first_group[part]; group < first_group[part + 1]; ++group)
    out.chosen.push_back(group);
}

}  // namespace

Selector select_all() { return {}; }

Selector select_groups(std::vector<int32_t> groups) {
  sort_unique(groups);
  Selector selector;
  selector.name = "fixed";
  selector.choose = [groups](const float*, int64_t batch, ThreadPool&, Selection& out) {
    out.start(Selection::Unit::groups);
    for (int64_t b = 0; b < batch; ++b) {
      out.chosen.insert(out.chosen.end(), groups.begin(), groups.end());
      out.end_token();
    }
  };
  return selector;
}

Selector skip_silent() {
  Selector selector;
  selector.name = "silent";
  selector.silent = 0.0f;
  return selector;
}

Selector threshold_gate(float threshold) {
  require(threshold >= 0, "cats: threshold {}, expected at least 0", threshold);
  Selector selector;
  selector.name = "cats";
  selector.silent = threshold;
  return selector;
}

Selector threshold_inputs(float input_threshold, float activation_threshold) {
  require(input_threshold >= 0 && activation_threshold >= 0,
          "teal: thresholds {} and {}, expected at least 0", input_threshold, activation_threshold);
  Selector selector;
  selector.name = "teal";
  selector.silent_input = input_threshold;
  selector.silent_activation = activation_threshold;
  return selector;
}

Selector predict(const Predictor& predictor, const NeuronBank& bank, Selection::Unit unit) {
  const auto& [down, up, shift, law, least] = predictor;
  const auto neurons = up.rows;
  require(down.width == bank.width(), "predictor: its first matrix reads {} values, expected {}",
          down.width, bank.width());
  require(up.width == down.rows, "predictor: ranks {} and {} differ", down.rows, up.width);
  require(shift.empty() || static_cast<int64_t>(shift.size()) == neurons,
          "predictor: {} shifts for {} neurons", shift.size(), neurons);
  require(unit != Selection::Unit::all, "predictor: it chooses groups or places");
  // In the bank's order, so that the logits of a group lie together.
  const auto neuron_at = bank.neuron_at();
  std::vector<int32_t> order(neuron_at.size());
  std::vector<float> borders(neuron_at.size(),
                             INFINITY);  // the logit from which a place is guessed
  for (size_t place = 0; place < neuron_at.size(); ++place) {
    if (neuron_at[place] < 0) continue;
    require(neuron_at[place] < neurons, "predictor: {} neurons, the bank has more", neurons);
    order[place] = neuron_at[place];
    borders[place] = least - (shift.empty() ? 0.0f : shift[neuron_at[place]]);
  }
  Selector selector;
  selector.name = law == Law::identity ? "low-rank" : "mlp";
  selector.bytes = matrix_bytes(down) + matrix_bytes(up);
  selector.choose = [first = Whole(down), second = pack(up, Grouping::rows, order), borders, law,
                     unit](const float* x, int64_t batch, ThreadPool& threads, Selection& out) {
    auto hidden = first.times(x, batch, threads);
    if (law != Law::identity)
      apply_law(law, hidden.data(), static_cast<int64_t>(hidden.size()), hidden.data());
    const auto places = static_cast<int64_t>(borders.size());
    std::vector<float> logits(batch * places);
    const auto all = RowSet::range(0, second.groups());
    if (is_quantised(second.format())) {
      multiply(second, all, RoundedActivations(hidden.data(), batch, second.width(), 8),
               logits.data(), threads);
    } else {
      multiply(second, all, PackedInput(hidden.data(), batch, second.width()), logits.data(),
               threads);
    }
    out.start(unit);
    for (int64_t b = 0; b < batch; ++b) {
      const auto begin = static_cast<int64_t>(out.chosen.size());
      append_places_from(logits.data() + b * places, borders.data(), places, out.chosen);
      if (unit == Selection::Unit::groups) {
        for (auto at = out.chosen.begin() + begin; at != out.chosen.end(); ++at) *at /= kTileRows;
        out.chosen.erase(std::unique(out.chosen.begin() + begin, out.chosen.end()),
                         out.chosen.end());
      }
      out.end_token();
    }
  };
  return selector;
}

ExpertChoice choose_best(
    std::function<void(const float* x, int64_t batch, ThreadPool& threads, float* scores)> score,
    int64_t experts, int64_t count) {
  require(count > 0 && count <= experts, "router: {} of {} experts", count, experts);
  return [=](const float* x, int64_t batch, ThreadPool& threads, int32_t* out) {
    std::vector<float> scores(batch * experts);
    score(x, batch, threads, scores.data());
    std::vector<int32_t> best(experts);
    for (int64_t b = 0; b < batch; ++b) {
      const float* of = scores.data() + b * experts;
      std::iota(best.begin(), best.end(), 0);
      std::partial_sort(best.begin(), best.begin() + count, best.end(), [&](int32_t a, int32_t c) {
        // NaN counts as the least, so that the order is always one.
        const float of_a = std::isnan(of[a]) ? -INFINITY : of[a];
        const float of_c = std::isnan(of[c]) ? -INFINITY : of[c];
        return of_a != of_c ? of_a > of_c : a < c;
      });
      std::sort(best.begin(), best.begin() + count);
      std::copy_n(best.begin(), count, out + b * count);
    }
  };
}

int64_t Router::bytes() const { return matrix_bytes(first) + matrix_bytes(second); }

ExpertChoice choose_experts(const Router& router, int64_t count) {
  const int64_t experts = router.first.rows, width = router.first.width;
  require(experts > 0 && (router.second.rows == 0 ||
                          (router.second.rows == experts && router.second.width == experts)),
          "router: its matrices are [{}, {}] and [{}, {}], expected [experts, width] and "
          "[experts, experts]",
          experts, width, router.second.rows, router.second.width);
  require(router.bias.empty() || std::ssize(router.bias) == experts,
          "router: {} biases for {} experts", router.bias.size(), experts);
  const auto second =
      router.second.rows > 0 ? std::make_shared<const Whole>(router.second) : nullptr;
  const auto score = [first = Whole(router.first), second, bias = router.bias, experts, width](
                         const float* x, int64_t batch, ThreadPool& threads, float* scores) {
    auto sums = first.times(x, batch, threads);
    if (second) {
      for (int64_t b = 0; b < batch; ++b) {
        double squares = 0;
        for (int64_t i = 0; i < width; ++i) squares += double{x[b * width + i]} * x[b * width + i];
        const auto scale = static_cast<float>(1 / std::max(1e-12, std::sqrt(squares)));
        for (int64_t e = 0; e < experts; ++e) sums[b * experts + e] *= scale;
      }
      apply_law(Law::tanh, sums.data(), batch * experts, sums.data());
      sums = second->times(sums.data(), batch, threads);
    }
    for (int64_t i = 0; i < batch * experts; ++i)
      scores[i] = sums[i] + (bias.empty() ? 0.0f : bias[i % experts]);
  };
  return choose_best(score, experts, count);
}

Selector route(ExpertChoice choice, int64_t bytes, std::vector<int32_t> first_group, int64_t count,
               const NeuronBank& bank) {
  check_borders(first_group, bank, "router");
  require(count > 0 && count < std::ssize(first_group), "router: {} of {} experts", count,
          first_group.size() - 1);
  Selector selector;
  selector.name = "router";
  selector.bytes = bytes;
  selector.choose = [choice = std::move(choice), first_group, count](
                        const float* x, int64_t batch, ThreadPool& threads, Selection& out) {
    std::vector<int32_t> chosen(batch * count);
    choice(x, batch, threads, chosen.data());
    out.start(Selection::Unit::groups);
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t e = 0; e < count; ++e) choose_range(first_group, chosen[b * count + e], out);
      out.end_token();
    }
  };
  return selector;
}

Selector route(const Router& router, std::vector<int32_t> first_group, int64_t count,
               const NeuronBank& bank) {
  require(router.first.rows + 1 == std::ssize(first_group) && router.first.width == bank.width(),
          "router: it is [{}, {}], expected [{}, {}]", router.first.rows, router.first.width,
          first_group.size() - 1, bank.width());
  return route(choose_experts(router, count), router.bytes(), std::move(first_group), count, bank);
}

Selector descend(std::function<void(const float* x, int64_t batch, int32_t* out)> leaf,
                 std::vector<int32_t> first_group, int64_t bytes, const NeuronBank& bank) {
  check_borders(first_group, bank, "tree");
  Selector selector;
  selector.name = "tree";
  selector.bytes = bytes;
  selector.choose = [leaf, first_group](const float* x, int64_t batch, ThreadPool&,
                                        Selection& out) {
    std::vector<int32_t> leaves(batch);
    leaf(x, batch, leaves.data());
    out.start(Selection::Unit::groups);
    for (const int32_t of : leaves) {
      require(of >= 0 && of + 1 < static_cast<int32_t>(first_group.size()), "tree: leaf {} of {}",
              of, first_group.size() - 1);
      choose_range(first_group, of, out);
      out.end_token();
    }
  };
  return selector;
}

std::vector<int32_t> GroupEnergy::top(double share) const {
  require(share >= 0 && share <= 1, "a share of {} of the groups", share);
  std::vector<int32_t> best(of_group.size());
  std::iota(best.begin(), best.end(), 0);
  std::stable_sort(best.begin(), best.end(),
                   [&](int32_t a, int32_t b) { return of_group[a] > of_group[b]; });
  best.resize(static_cast<size_t>(std::ceil(share * static_cast<double>(best.size()))));
  std::sort(best.begin(), best.end());
  return best;
}

}  // namespace cajal::engine
