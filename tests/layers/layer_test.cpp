#include "cajal/layers/layer.h"

#include <gtest/gtest.h>

#include "checks.h"

namespace cajal {
namespace {

using testing::message;

struct ScaledGatherOptions {
  int64_t width = 0;
  double scale = 1;
};
CAJAL_OPTIONS(ScaledGatherOptions, width, scale)

/// Two outputs, an index input, an optional input, a buffer: what the two FFNs do not have.
class ScaledGatherImpl : public torch::nn::Module {
 public:
  explicit ScaledGatherImpl(const ScaledGatherOptions& o) : options(o) {
    require(o.width > 0, "scaled_gather: width must be positive, got {}", o.width);
    gain = register_parameter("gain", torch::ones({o.width}));
    unused = register_parameter("unused", torch::ones({2}));
    calls = register_buffer("calls", torch::zeros({1}, torch::kLong));
  }
  std::tuple<torch::Tensor, torch::Tensor> forward(const torch::Tensor& x,
                                                   const torch::Tensor& index,
                                                   const torch::Tensor& shift) {
    auto rows = x.index_select(0, index) * gain * options.scale;
    if (shift.defined()) rows = rows + shift;
    return {rows, rows.sum(-1)};
  }

  const ScaledGatherOptions options;
  torch::Tensor gain, unused, calls;
};
TORCH_MODULE(ScaledGather);

const auto registered =
    layers::add<ScaledGather>("scaled_gather", "a layer of this test",
                              {.example = {.width = 3},
                               .inputs = {{"x", "[nodes, width]"},
                                          {.name = "index", .shape = "[picks]", .below = "nodes"},
                                          {.name = "shift", .shape = "[width]", .optional = true}},
                               .outputs = {{"rows", "[picks, width]"}, {"sums", "[picks]"}},
                               .axes = {.sizes = {{"nodes", 6}}, .rest = {}}});

NamedTensors example_inputs(const layers::Kind& kind, torch::Dtype type) {
  const auto axes = layers::with_options(kind.axes, kind.example);
  NamedTensors inputs;
  for (const auto& port : kind.inputs)
    if (!port.optional) inputs[port.name] = layers::example(port, axes, 4, type);
  return inputs;
}

TEST(EveryLayer, RunsItsExampleAndKeepsToItsDeclaredShapes) {
  for (const auto& [name, kind] : layers::registry().entries()) {
    torch::manual_seed(1);
    const auto layer = layers::build(name, kind.example);
    const auto out = layer.forward(example_inputs(kind, torch::kFloat));
    ASSERT_FALSE(out.empty()) << name;
    for (const auto& [output, tensor] : out)
      EXPECT_TRUE(torch::isfinite(tensor).all().item<bool>()) << name << " " << output;
  }
}

TEST(EveryLayer, GivesTheSameTwiceForTheSameSeed) {
  for (const auto& [name, kind] : layers::registry().entries()) {
    const auto run = [&name = name, &kind = kind] {
      torch::manual_seed(1);
      const auto layer = layers::build(name, kind.example);
      layer.module->eval();
      return layer.forward(example_inputs(kind, torch::kFloat));
    };
    const auto first = run(), second = run();
    for (const auto& [output, tensor] : first)
      EXPECT_TRUE(torch::equal(tensor, second.at(output))) << name << " " << output;
  }
}

// One random direction through all inputs and parameters at once: cheap enough for every layer.
TEST(EveryLayer, HasTheDerivativeOfItsFunctionAlongARandomDirection) {
  for (const auto& [name, kind] : layers::registry().entries()) {
    if (kind.surrogate_gradient) continue;
    torch::manual_seed(1);
    const auto layer = layers::build(name, kind.example);
    layers::move(layer, torch::kCPU, torch::kDouble);
    layer.module->eval();
    const auto inputs = example_inputs(kind, torch::kDouble);
    const auto gradients = layers::run_with_gradients(layer, inputs);
    NamedTensors points;
    for (const auto& [input, tensor] : inputs)
      if (tensor.is_floating_point()) points[input] = tensor;
    for (const auto& parameter : layer.module->named_parameters())
      points[parameter.key()] = parameter.value().detach();
    NamedTensors directions;
    double expected = 0;
    for (const auto& [point, tensor] : points) {
      directions[point] = torch::randn_like(tensor);
      expected += (directions[point] * gradients.at("grad." + point)).sum().item<double>();
    }
    const torch::NoGradGuard no_grad;
    const auto value_at = [&](double step) {
      for (auto& [point, tensor] : points) tensor.add_(directions[point], step);
      double sum = 0;
      for (const auto& [output, tensor] : layer.forward(inputs))
        if (tensor.is_floating_point()) sum += tensor.sum().item<double>();
      for (auto& [point, tensor] : points) tensor.sub_(directions[point], step);
      return sum;
    };
    const double step = 1e-6;
    const double measured = (value_at(step) - value_at(-step)) / (2 * step);
    EXPECT_NEAR(measured, expected, 1e-5 * std::max(1.0, std::abs(expected))) << name;
  }
}

TEST(Layer, AnUnknownNameNamesTheNearest) {
  EXPECT_EQ(message([] { layers::build("gated_feedforward", Json::object()); }),
            "no layer is called 'gated_feedforward'; did you mean 'gated_feed_forward'?");
}

TEST(Layer, AnUnknownOptionIsNamedWithItsLayer) {
  const auto text = message([] { layers::build("scaled_gather", {{"widht", 3}}); });
  EXPECT_TRUE(text.starts_with("scaled_gather: unknown option 'widht'")) << text;
}

TEST(Layer, KeepsAllOptionsItWasBuiltWith) {
  EXPECT_EQ(layers::build("scaled_gather", {{"width", 3}}).options.dump(),
            R"({"width":3,"scale":1.0})");
}

class GatherLayer : public ::testing::Test {
 protected:
  layers::Layer layer = layers::build("scaled_gather", {{"width", 3}});
  NamedTensors inputs = {{"x", torch::ones({4, 3})},
                         {"index", torch::tensor({0, 3}, torch::kLong)}};
};

TEST_F(GatherLayer, GivesItsOutputsByName) {
  const auto out = layer.forward(inputs);
  EXPECT_EQ(out.at("rows").sizes(), torch::IntArrayRef({2, 3}));
  EXPECT_EQ(out.at("sums").sizes(), torch::IntArrayRef({2}));
}

TEST_F(GatherLayer, TakesAnOptionalInputWhenGiven) {
  inputs["shift"] = torch::full({3}, 2.0f);
  EXPECT_EQ(layer.forward(inputs).at("rows")[0][0].item<float>(), 3);
}

TEST_F(GatherLayer, RefusesAMissingInput) {
  inputs.erase("index");
  EXPECT_EQ(message([&] { layer.forward(inputs); }),
            "scaled_gather: input 'index' [picks] is missing");
}

TEST_F(GatherLayer, RefusesAnUnknownInput) {
  inputs["shfit"] = torch::ones({3});
  EXPECT_EQ(message([&] { layer.forward(inputs); }),
            "scaled_gather: no input is called 'shfit'; did you mean 'shift'?; "
            "inputs are x, index, shift");
}

TEST_F(GatherLayer, RefusesAnIndexOutOfRange) {
  inputs["index"][1] = 4;
  EXPECT_EQ(message([&] { layer.forward(inputs); }),
            "scaled_gather: index holds index 4, expected 0 to 3 (nodes - 1)");
}

TEST_F(GatherLayer, RefusesFloatsForIndices) {
  inputs["index"] = torch::ones({2});
  EXPECT_EQ(message([&] { layer.forward(inputs); }),
            "scaled_gather: index is Float, expected int64 indices");
}

TEST_F(GatherLayer, RefusesAWrongShapeNamingWhatItExpected) {
  inputs["x"] = torch::ones({4, 2});
  EXPECT_EQ(message([&] { layer.forward(inputs); }),
            "scaled_gather: x is [4, 2], expected [nodes, width] with width = 3");
}

TEST_F(GatherLayer, GradientsWeighTheCotangentsOfAllOutputs) {
  const auto out = layers::run_with_gradients(
      layer, inputs, {{"rows", torch::zeros({2, 3})}, {"sums", torch::tensor({2.0f, 5.0f})}});
  EXPECT_EQ(out.at("grad.gain")[0].item<float>(), 7);
  EXPECT_EQ(out.at("grad.x")[3][0].item<float>(), 5);
  EXPECT_EQ(out.at("grad.x")[1][0].item<float>(), 0);
  EXPECT_FALSE(out.contains("grad.index"));
}

TEST_F(GatherLayer, AParameterThatNothingDependsOnHasGradientZero) {
  const auto out = layers::run_with_gradients(layer, inputs);
  EXPECT_TRUE(torch::equal(out.at("grad.unused"), torch::zeros({2})));
}

TEST_F(GatherLayer, RefusesACotangentOfAnotherShape) {
  EXPECT_EQ(message([&] {
              layers::run_with_gradients(layer, inputs, {{"sums", torch::ones(3)}});
            }),
            "scaled_gather: cotangent of 'sums' is [3], expected [2]");
}

TEST_F(GatherLayer, WeightsMustNameEveryParameter) {
  EXPECT_EQ(message([&] {
              layers::load_weights(layer, {{"gain", torch::ones({3})}}, "w");
            }),
            "w: parameter 'unused' [2] of scaled_gather is missing");
}

TEST_F(GatherLayer, WeightsMustHaveTheShapesOfTheParameters) {
  EXPECT_EQ(message([&] {
              layers::load_weights(layer,
                                   {{"gain", torch::ones({4})}, {"unused", torch::ones({2})}}, "w");
            }),
            "w: tensor 'gain' is [4], expected [3] (scaled_gather with "
            "{\"width\":3,\"scale\":1.0})");
}

TEST_F(GatherLayer, WeightsMayNotHoldAnythingElse) {
  const auto text = message([&] {
    layers::load_weights(
        layer,
        {{"gain", torch::ones({3})}, {"unused", torch::ones({2})}, {"gian", torch::ones({3})}},
        "w");
  });
  EXPECT_EQ(text,
            "w: tensor 'gian' is no parameter of scaled_gather; did you mean 'gain'?; "
            "its parameters are gain, unused, calls");
}

TEST_F(GatherLayer, WeightsThatAreRefusedChangeNothing) {
  EXPECT_THROW(
      layers::load_weights(layer, {{"gain", torch::zeros({3})}, {"unused", torch::ones({5})}}, "w"),
      Error);
  EXPECT_EQ(layer.module->named_parameters()["gain"].sum().item<float>(), 3);
}

TEST_F(GatherLayer, MovingToAnotherTypeLeavesIntegerBuffersAlone) {
  layers::move(layer, torch::kCPU, torch::kDouble);
  EXPECT_EQ(layer.module->named_parameters()["gain"].scalar_type(), torch::kDouble);
  EXPECT_EQ(layer.module->named_buffers()["calls"].scalar_type(), torch::kLong);
}

TEST(Axes, TheRestStandsForTheSameAxesInEveryPort) {
  layers::Axes axes;
  layers::check("it", {"a", "[..., width]"}, torch::ones({2, 3, 4}), axes);
  layers::check("it", {"b", "[batch, ...]"}, torch::ones({7, 2, 3}), axes);
  EXPECT_EQ(message([&] {
              layers::check("it", {"c", "[...]"}, torch::ones({2, 4}), axes);
            }),
            "it: c is [2, 4], expected [...] with ... = [2, 3]");
}

TEST(Axes, ANumberInAShapeIsThatSize) {
  layers::Axes axes;
  EXPECT_EQ(message([&] {
              layers::check("it", {"p", "[points, 3]"}, torch::ones({9, 2}), axes);
            }),
            "it: p is [9, 2], expected [points, 3]");
}

TEST(Axes, AnOptionOfZeroNamesNoAxis) {
  EXPECT_TRUE(layers::with_options({}, {{"neurons", 0}, {"rate", 0.5}}).sizes.empty());
}

}  // namespace
}  // namespace cajal
