#include "cajal/layers/layer.h"
#include "cajal/neurons/adaptive.h"
#include "cajal/neurons/stochastic.h"
#include "cajal/neurons/widening.h"

namespace cajal {
namespace {

/// Registers an activation that keeps the shape.
template <class Holder>
bool add(const char* name, const char* formula) {
  layers::Declaration<layers::OptionsOf<Holder>> declared;
  declared.inputs = {{"x", "[...]"}}, declared.outputs = {{"y", "[...]"}};
  declared.axes.rest = std::vector<int64_t>{4, 6};
  return layers::add<Holder>(name, std::string("activation: ") + formula, declared);
}

/// Registers one that changes the number of channels.
template <class Holder>
bool add_widening(const char* name, const char* formula) {
  layers::Declaration<layers::OptionsOf<Holder>> declared;
  declared.inputs = {{"x", "[batch, channels, ...]"}};
  declared.outputs = {{"y", "[batch, channels_out, ...]"}};
  declared.axes = {.sizes = {{"batch", 2}, {"channels", 4}}, .rest = std::vector<int64_t>{3}};
  return layers::add<Holder>(name, std::string("activation: ") + formula, declared);
}

const bool registered[] = {
    add<AbRelu>("abrelu", "max(0, x - mean x)"),
    add<Apl>("apl", "max(0, x) + sum of slope_i max(0, -x + knot_i)"),
    add<PolynomialActivation>("slaf", "a learned polynomial"),
    add<TableActivation>("table_activation", "a learned table: MTLU, LuTU or cubic spline"),
    add<KernelActivation>("kernel_activation", "a learned sum of Gaussians"),
    add<BlendedActivation>("blended_activation", "a learned weighted sum of laws"),
    add<VariableActivation>("vaf", "a small network shared by all units"),
    add<RandomLeakyRelu>("rrelu", "x, or x times a random slope below 0"),
    add<RandomTranslationRelu>("random_translation_relu", "max(0, x + noise)"),
    add<ElasticRelu>("erelu", "x times a random slope above 0"),
    add<ElasticElu>("eelu", "x times a random slope above 0, else a (e^(b x) - 1)"),
    add<NoisyHardTanh>("noisy_hard_tanh", "hard tanh with noise where it saturates"),
    add<ProbabilisticRelu>("act_s", "max(0, x) + learned deviation times noise"),
    add_widening<ConcatenatedRelu>("crelu", "[max(x, 0), max(-x, 0)]"),
    add_widening<PairedRelu>("paired_relu", "[max(s x - t, 0), max(s' x - t', 0)]"),
    add_widening<DualRelu>("dual_relu", "max(a, 0) - max(b, 0) of two halves"),
    add_widening<Maxout>("maxout", "the largest of each group of channels"),
    add_widening<GatedUnit>("glu", "a law(b) of two halves"),
};

}  // namespace
}  // namespace cajal
