#include "cajal/engine/feed_forward.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>

#include "kernels/numbers.h"

namespace cajal::engine {
namespace {

/// Rows of random weights in a format, with what they decode to.
struct Weights {
  Weights(Format format, int64_t rows, int64_t width, uint64_t seed)
      : bytes(rows * row_bytes(format, width)),
        values(rows * width),
        view(row_matrix(format, bytes.data(), rows, width, "test")) {
    auto random = normals(rows * width, seed);
    for (int64_t r = 0; r < rows; ++r) {
      encode_row(format, random.data() + r * width, width, bytes.data() + r * view.stride);
      decode_row(format, view.row(r), width, values.data() + r * width);
    }
  }
  std::vector<uint8_t> bytes;
  std::vector<float> values;
  RowMatrix view;
};

/// A network in double precision and the bank's view of the same weights.
struct Network {
  Network(Format format, int64_t neurons, int64_t width, bool gated, Law law,
          bool by_output = false)
      : neurons(neurons),
        width(width),
        gated(gated),
        law(law),
        key(format, neurons, width, 1),
        gate(format, neurons, width, 2),
        value(format, by_output ? width : neurons, by_output ? neurons : width, 3),
        key_bias(normals(neurons, 4)),
        gate_bias(normals(neurons, 5)),
        output_bias(normals(width, 6)),
        by_output(by_output) {}

  NeuronRows rows() const {
    NeuronRows rows;
    rows.key = key.view;
    if (gated) rows.gate = gate.view, rows.gate_bias = gate_bias;
    (by_output ? rows.value_by_output : rows.value) = value.view;
    rows.key_bias = key_bias;
    return rows;
  }
  NeuronBank bank(const BankPlan& plan = {}) const {
    return NeuronBank(rows(), law, plan, "test", output_bias);
  }
  double value_of(int64_t neuron, int64_t output) const {
    return by_output ? value.values[output * neurons + neuron]
                     : value.values[neuron * width + output];
  }

  /// Law of the gate and of the whole neuron for a token.
  struct Act {
    double law, all;
  };
  Act act(int64_t neuron, const float* x) const {
    const auto dot = [&](const Weights& of, double bias) {
      for (int64_t c = 0; c < width; ++c) bias += double{of.values[neuron * width + c]} * x[c];
      return bias;
    };
    const auto respond = [&](double at) {
      auto of = static_cast<float>(at);
      apply_law(law, &of, 1, &of);
      return double{of};
    };
    const double key_at = dot(key, key_bias[neuron]);
    if (!gated) return {respond(key_at), respond(key_at)};
    const double responded = respond(dot(gate, gate_bias[neuron]));
    return {responded, responded * key_at};
  }

  /// FFN(x) over the neurons that `counts` lets through.
  std::vector<float> dense(
      const std::vector<float>& x,
      const std::function<bool(int64_t token, int64_t neuron, Act)>& counts =
          [](int64_t, int64_t, Act) { return true; }) const {
    const auto batch = static_cast<int64_t>(x.size()) / width;
    std::vector<float> y;
    for (int64_t b = 0; b < batch; ++b) {
      std::vector<double> sum(output_bias.begin(), output_bias.end());
      for (int64_t i = 0; i < neurons; ++i) {
        const auto a = act(i, x.data() + b * width);
        if (!counts(b, i, a)) continue;
        for (int64_t o = 0; o < width; ++o) sum[o] += a.all * value_of(i, o);
      }
      y.insert(y.end(), sum.begin(), sum.end());
    }
    return y;
  }

  int64_t neurons, width;
  bool gated;
  Law law;
  Weights key, gate, value;
  std::vector<float> key_bias, gate_bias, output_bias;
  bool by_output;
};

std::vector<float> forward(const SparseFeedForward& ffn, const std::vector<float>& x,
                           int threads = 1, PassCount* count = nullptr) {
  ThreadPool pool(threads);
  std::vector<float> y(x.size(), NAN);
  const auto got =
      ffn.forward(x.data(), static_cast<int64_t>(x.size()) / ffn.bank().width(), y.data(), pool);
  if (count) *count = got;
  return y;
}

/// A selector that chooses what a test says.
Selector chooses(Selection::Unit unit, std::vector<std::vector<int32_t>> of_token) {
  Selector selector;
  selector.choose = [=](const float*, int64_t batch, ThreadPool&, Selection& out) {
    out.start(unit);
    for (int64_t b = 0; b < batch; ++b) {
      const auto& of = of_token[b % of_token.size()];
      out.chosen.insert(out.chosen.end(), of.begin(), of.end());
      out.end_token();
    }
  };
  return selector;
}

// 16 bits round activations so finely that single precision is the measure.
constexpr int kFine = 16;

class Ffn : public testing::TestWithParam<Format> {
 protected:
  int64_t width() const { return block_values(GetParam()) == 256 ? 256 : 64; }
  int64_t by_output_neurons() const { return block_values(GetParam()) == 256 ? 512 : 96; }
};

TEST_P(Ffn, WithAllNeuronsEqualsTheDenseFormOnEveryTarget) {
  for (const bool gated : {false, true})
    for (const auto value : {Form::groups, Form::neurons}) {
      const Network network(GetParam(), 75, width(), gated, gated ? Law::silu : Law::gelu);
      BankPlan plan;
      plan.sections = {{75, GetParam(), value == Form::groups ? Format::f32 : GetParam()}};
      plan.value = value;
      const SparseFeedForward ffn(network.bank(plan), select_all(), kFine);
      for (const int64_t batch : {1, 3, 65}) {
        const auto x = normals(batch * width(), 9);
        const auto expected = network.dense(x);
        on_every_target([&] { EXPECT_LT(relative_error(forward(ffn, x), expected), 1e-4); });
      }
      EXPECT_TRUE(forward(ffn, {}).empty());
    }
}

TEST_P(Ffn, KeepsTheBitsOfValuesThatAreBlockedAlongTheNeurons) {
  const Network network(GetParam(), by_output_neurons(), width(), true, Law::silu, true);
  const SparseFeedForward ffn(network.bank(), select_all(), kFine);
  const auto x = normals(2 * width(), 9);
  EXPECT_LT(relative_error(forward(ffn, x), network.dense(x)), 1e-4);
}

TEST_P(Ffn, OfChosenGroupsEqualsTheMaskedDenseForm) {
  const Network network(GetParam(), by_output_neurons() - (is_quantised(GetParam()) ? 0 : 7),
                        width(), true, Law::silu, true);
  const std::vector<std::vector<int32_t>> groups = {{0, 2}, {1}, {}, {0, 1, 2}};
  const SparseFeedForward ffn(network.bank(), chooses(Selection::Unit::groups, groups), kFine);
  const auto x = normals(5 * width(), 9);
  const auto expected = network.dense(x, [&](int64_t token, int64_t neuron, auto) {
    const auto& of = groups[token % 4];
    return std::find(of.begin(), of.end(), neuron / 32) != of.end();
  });
  on_every_target([&] { EXPECT_LT(relative_error(forward(ffn, x, 2), expected), 1e-4); });
}

TEST_P(Ffn, IsBitwiseTheSameForEveryNumberOfThreads) {
  const Network network(GetParam(), 1100, width(), true, Law::relu);
  BankPlan plan;
  for (const auto value : {Form::groups, Form::neurons}) {
    plan.value = value;
    plan.sections = {{1100, GetParam(), value == Form::groups ? Format::q8_0 : GetParam()}};
    const SparseFeedForward ffn(network.bank(plan), skip_silent());
    const auto x = normals(3 * width(), 9);
    const auto one = forward(ffn, x);
    for (const int threads : {2, 3, 5, 16}) EXPECT_EQ(forward(ffn, x, threads), one);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Ffn, kEveryFormat,
                         [](const auto& info) { return to_name(info.param); });

TEST(SparseFeedForward, TwoThreadsGiveTheBitsOfOne2000TimesOf2000) {
  const Network network(Format::q4_0, 320, 64, true, Law::relu);
  BankPlan plan;
  ThreadPool one(1), two(2);
  for (const auto value : {Form::groups, Form::neurons}) {
    plan.value = value;
    const SparseFeedForward ffn(network.bank(plan), skip_silent());
    for (int run = 0; run < 1000; ++run) {
      const auto x = normals(64, run);
      std::vector<float> a(64), b(64);
      ffn.forward(x.data(), 1, a.data(), one);
      ffn.forward(x.data(), 1, b.data(), two);
      ASSERT_EQ(a, b) << run;
    }
  }
}

TEST(SparseFeedForward, OfAnyWidthAndNumberOfNeuronsEqualsTheDenseForm) {
  for (const int64_t width : {1, 40, 65})
    for (const int64_t neurons : {1, 31, 33, 100})
      for (const auto value : {Form::groups, Form::neurons})
        for (const int64_t batch : {0, 1, 3, 65}) {
          const Network network(Format::bf16, neurons, width, false, Law::sigmoid);
          BankPlan plan;
          plan.value = value;
          const auto x = normals(batch * width, 9);
          const auto y = forward(SparseFeedForward(network.bank(plan)), x, 2);
          if (batch > 0) {
            EXPECT_LT(relative_error(y, network.dense(x)), 1e-5);
          }
        }
}

TEST(SparseFeedForward, SkippingSilentNeuronsLosesNothing) {
  const Network network(Format::q8_0, 160, 64, false, Law::relu);
  BankPlan plan;
  for (const auto value : {Form::groups, Form::neurons}) {
    plan.value = value;
    const auto bank = network.bank(plan);
    const auto x = normals(64, 9);
    PassCount all, loud;
    const auto expected = forward(SparseFeedForward(bank, select_all(), kFine), x, 1, &all);
    EXPECT_LT(relative_error(forward(SparseFeedForward(bank, skip_silent(), kFine), x, 1, &loud),
                             expected),
              1e-6);
    int64_t fire = 0;
    for (int64_t i = 0; i < 160; ++i) fire += network.act(i, x.data()).all > 0;
    EXPECT_EQ(all.neurons, 160);
    if (value == Form::neurons) {
      EXPECT_EQ(loud.neurons, fire);
      EXPECT_EQ(all.bytes - loud.bytes, (160 - fire) * row_bytes(Format::q8_0, 64));
    }
  }
}

TEST(SparseFeedForward, OfChosenPlacesEqualsTheMaskedDenseForm) {
  const Network network(Format::q8_0, 96, 64, true, Law::silu);
  BankPlan plan;
  plan.value = Form::neurons;
  const std::vector<std::vector<int32_t>> places = {{0, 3, 64, 95}, {40}, {}};
  const SparseFeedForward ffn(network.bank(plan), chooses(Selection::Unit::places, places), kFine);
  const auto x = normals(3 * 64, 9);
  const auto expected = network.dense(x, [&](int64_t token, int64_t neuron, auto) {
    const auto& of = places[token];
    return std::find(of.begin(), of.end(), neuron) != of.end();
  });
  PassCount count;
  EXPECT_LT(relative_error(forward(ffn, x, 2, &count), expected), 1e-4);
  EXPECT_EQ(count.neurons, 5);
}

TEST(SparseFeedForward, WithKeysByNeuronReadsTheKeysOfChosenPlacesOnly) {
  const Network network(Format::q8_0, 75, 64, false, Law::relu);
  BankPlan plan;
  plan.key = plan.value = Form::neurons;
  plan.sections = {{40, Format::q8_0, Format::q8_0}, {35, Format::q8_0, Format::q8_0}};
  const auto bank = network.bank(plan);  // the second section begins at place 64
  const std::vector<std::vector<int32_t>> places = {{0, 3, 39, 64, 98}, {3, 70}, {}};
  const SparseFeedForward ffn(bank, chooses(Selection::Unit::places, places), kFine);
  const auto x = normals(3 * 64, 9);
  const auto expected = network.dense(x, [&](int64_t token, int64_t neuron, auto) {
    const auto& of = places[token];
    return std::find(of.begin(), of.end(), bank.place_of(neuron)) != of.end();
  });
  PassCount count;
  EXPECT_LT(relative_error(forward(ffn, x, 2, &count), expected), 1e-4);
  EXPECT_EQ(count.bytes, (6 + count.neurons) * row_bytes(Format::q8_0, 64));
  EXPECT_EQ(forward(ffn, x, 1), forward(ffn, x, 2));
}

TEST(SparseFeedForward, WithKeysByNeuronTakesWholeGroupsAndEveryNeuronToo) {
  const Network network(Format::bf16, 75, 40, false, Law::gelu);
  BankPlan plan;
  plan.key = plan.value = Form::neurons;
  const auto bank = network.bank(plan);
  const auto x = normals(2 * 40, 9);
  EXPECT_LT(relative_error(forward(SparseFeedForward(bank), x), network.dense(x)), 1e-4);
  const SparseFeedForward last(bank, select_groups({0, 2}));
  EXPECT_LT(relative_error(forward(last, x),
                           network.dense(x, [](int64_t, int64_t i, auto) { return i / 32 != 1; })),
            1e-4);
}

TEST(SparseFeedForward, CatsReadsKeysAndValuesOnlyWhereTheGateIsLarge) {
  const Network network(Format::q8_0, 96, 64, true, Law::silu);
  BankPlan plan;
  plan.key = Form::neurons, plan.value = Form::neurons;
  const float threshold = 0.8f;
  const SparseFeedForward ffn(network.bank(plan), threshold_gate(threshold), kFine);
  const auto x = normals(64, 9);
  int64_t kept = 0;
  const auto expected = network.dense(x, [&](int64_t, int64_t, auto act) {
    kept += std::fabs(act.law) > threshold;
    return std::fabs(act.law) > threshold;
  });
  PassCount count;
  EXPECT_LT(relative_error(forward(ffn, x, 2, &count), expected), 1e-4);
  EXPECT_EQ(count.neurons, kept);
  EXPECT_EQ(count.bytes, 96 * row_bytes(Format::q8_0, 64) + 2 * kept * row_bytes(Format::q8_0, 64));
  BankPlan packed;
  EXPECT_LT(
      relative_error(
          forward(SparseFeedForward(network.bank(packed), threshold_gate(threshold), kFine), x),
          expected),
      0.02);  // values in q8_0 blocks along the neurons
}

TEST(SparseFeedForward, TealReadsRowsOnlyOfLargeInputsAndActivations) {
  const Network network(Format::bf16, 100, 40, true, Law::silu);
  BankPlan plan;
  plan.key = plan.gate = Form::inputs;
  plan.value = Form::neurons;
  const SparseFeedForward ffn(network.bank(plan), threshold_inputs(0.5f, 0.3f));
  auto x = normals(2 * 40, 9);
  PassCount count;
  const auto y = forward(ffn, x, 2, &count);
  for (auto& value : x)
    if (std::fabs(value) <= 0.5f) value = 0;
  const auto expected =
      network.dense(x, [](int64_t, int64_t, auto act) { return std::fabs(act.all) > 0.3; });
  EXPECT_LT(relative_error(y, expected), 1e-5);
  EXPECT_LT(count.neurons, 100);
}

TEST(SparseFeedForward, FollowsAnOrderAndSectionsInTheirOwnFormats) {
  const Network network(Format::f32, 150, 64, true, Law::silu);
  BankPlan plan;
  for (int32_t i = 0; i < 150; ++i) plan.order.push_back((i * 7 + 3) % 150);
  plan.sections = {{70, Format::f32, Format::f32}, {80, Format::bf16, Format::q8_0}};
  const auto bank = network.bank(plan);
  EXPECT_EQ(bank.groups(), 6);
  EXPECT_EQ(bank.place_of(plan.order[0]), 0);
  EXPECT_EQ(bank.place_of(plan.order[70]), 96);
  EXPECT_EQ(bank.neuron_at()[70], -1);
  const auto x = normals(3 * 64, 9);
  EXPECT_LT(relative_error(forward(SparseFeedForward(bank), x, 2), network.dense(x)), 0.02);
  // The first section alone is exact.
  const SparseFeedForward first(bank, select_groups({2, 0, 1}));
  const auto expected =
      network.dense(x, [&](int64_t, int64_t neuron, auto) { return bank.place_of(neuron) < 96; });
  EXPECT_LT(relative_error(forward(first, x), expected), 1e-5);
}

TEST(SparseFeedForward, LeavesOutNeuronsThatAPlanDrops) {
  const Network network(Format::f32, 50, 16, false, Law::relu);
  BankPlan plan;
  plan.order = {4, 40, 7};
  const auto x = normals(16, 9);
  const auto expected = network.dense(
      x, [](int64_t, int64_t neuron, auto) { return neuron == 4 || neuron == 40 || neuron == 7; });
  EXPECT_LT(relative_error(forward(SparseFeedForward(network.bank(plan)), x), expected), 1e-5);
}

TEST(SparseFeedForward, JoinedBanksAreTheSumOfTheirParts) {
  const Network a(Format::f32, 50, 32, true, Law::silu), b(Format::q8_0, 64, 32, true, Law::silu);
  auto bank_a = NeuronBank(a.rows(), Law::silu, {}, "a");
  auto bank_b = NeuronBank(b.rows(), Law::silu, {}, "b");
  const auto x = normals(2 * 32, 9);
  const auto y_a = forward(SparseFeedForward(bank_a), x),
             y_b = forward(SparseFeedForward(bank_b), x);
  std::vector<float> expected;
  for (size_t i = 0; i < y_a.size(); ++i) expected.push_back(y_a[i] + y_b[i]);
  const auto joined = NeuronBank::join({bank_a, bank_b}, "joined");
  EXPECT_EQ(joined.neurons(), 114);
  EXPECT_EQ(joined.place_of(50), 64);
  EXPECT_LT(relative_error(forward(SparseFeedForward(joined), x, 2), expected), 1e-6);
}

TEST(NeuronBank, KeepsOneCopyOfTheWeights) {
  const Network network(Format::q4_0, 256, 64, true, Law::silu);
  EXPECT_EQ(network.bank().bytes(), 3 * 256 * row_bytes(Format::q4_0, 64));
}

TEST(NeuronBank, RefusesWhatDoesNotFitAndNamesIt) {
  const Network network(Format::q8_0, 64, 64, true, Law::silu);
  const auto message = [&](const std::function<void(NeuronRows&, BankPlan&)>& spoil) {
    auto rows = network.rows();
    BankPlan plan;
    spoil(rows, plan);
    try {
      NeuronBank(rows, Law::silu, plan, "layer 3");
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(message([](auto&, auto& plan) {
              plan.order = {3, 64};
            }),
            "layer 3: the order names neuron 64 of 64");
  EXPECT_EQ(message([](auto&, auto& plan) {
              plan.order = {3, 3};
            }),
            "layer 3: the order names neuron 3 twice");
  EXPECT_EQ(message([](auto&, auto& plan) {
              plan.sections = {{63, Format::f32, Format::f32}};
            }),
            "layer 3: the sections hold 63 neurons, expected 64");
  EXPECT_EQ(message([](auto&, auto& plan) {
              plan.sections = {{65, Format::f32, Format::f32}};
            }),
            "layer 3: the sections do not add up to 64 neurons");
  EXPECT_EQ(message([](auto& rows, auto& plan) { rows.gate = {}, plan.key = Form::neurons; }),
            "layer 3: keys by single neurons without gates need values by neurons");
  EXPECT_EQ(message([](auto& rows, auto&) { rows.gate.rows = 63; }),
            "layer 3: gate is [63, 64], expected [64, 64]");
  EXPECT_NE(message([](auto&, auto& plan) {
              plan.sections = {{64, Format::q4_K, Format::f32}};
            }),
            "accepted");
}

TEST(SparseFeedForward, RefusesASelectorThatItsBankCannotServe) {
  const Network network(Format::f32, 40, 16, true, Law::silu);
  EXPECT_THROW(SparseFeedForward(network.bank(), threshold_inputs(0.1f, 0.1f)), Error);
  ThreadPool pool(1);
  const auto x = normals(16, 9);
  std::vector<float> y(16);
  const SparseFeedForward wrong(network.bank(), select_groups({5}));
  EXPECT_THROW(wrong.forward(x.data(), 1, y.data(), pool), Error);
}

}  // namespace
}  // namespace cajal::engine
