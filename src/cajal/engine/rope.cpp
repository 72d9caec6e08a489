#include "cajal/engine/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace cajal::lm {
namespace {

constexpr double kTau = 2 * std::numbers::pi;

using Floats = std::vector<float>;

Floats powers(double base, int64_t width) {  // base^(2i / width)
  Floats out;
  for (int64_t i = 0; i < width; i += 2)
    out.push_back(
        std::pow(static_cast<float>(base), static_cast<float>(i) / static_cast<float>(width)));
  return out;
}

std::vector<double> widened(const Floats& values) { return {values.begin(), values.end()}; }

/// f(x) for every x in single precision.
template <class F>
Floats each(Floats values, F f) {
  for (float& value : values) value = static_cast<float>(f(value));
  return values;
}

// Llama 3: short wavelengths stay, long ones are stretched by `factor`, those between go over
// smoothly.
Floats llama3_frequencies(const Floats& plain, const Fields& f) {
  const auto factor = static_cast<float>(f.positive("factor", 8)),
             low = static_cast<float>(f.positive("low_freq_factor", 1)),
             high = static_cast<float>(f.positive("high_freq_factor", 4));
  const auto original =
      static_cast<float>(f.size("original_max_position_embeddings", {}, int64_t{1} << 40));
  require(high > low, "{}: high_freq_factor {} must exceed low_freq_factor {}", f.where(), high,
          low);
  return each(plain, [&](float frequency) {
    const float wavelength = static_cast<float>(kTau) / frequency;
    const float stretched = wavelength > original / low ? frequency / factor : frequency;
    if (wavelength < original / high || wavelength > original / low) return stretched;
    const float smooth = (original / wavelength - low) / (high - low);
    return (1 - smooth) * stretched / factor + smooth * stretched;
  });
}

double yarn_scale(double factor, double scale) {
  return factor <= 1 ? 1 : 0.1 * scale * std::log(factor) + 1;
}

// YaRN (arXiv 2309.00071): pairs that turn often within the original context keep their frequency,
// pairs that turn seldom are stretched, with a ramp between.
Floats yarn_frequencies(const Fields& f, double base, int64_t width, int64_t context,
                        double& attention_factor) {
  const auto original = f.find<int64_t>("original_max_position_embeddings");
  const auto length = static_cast<double>(original.value_or(context));
  const double factor = f.positive("factor", static_cast<double>(context) / length);
  const auto scale = f.find<double>("mscale"), scale_all = f.find<double>("mscale_all_dim");
  attention_factor = f.get<double>("attention_factor",
                                   scale && scale_all && *scale != 0 && *scale_all != 0
                                       ? yarn_scale(factor, *scale) / yarn_scale(factor, *scale_all)
                                       : yarn_scale(factor, 1));
  const auto turning = [&](double turns) {  // the dimension that turns so often in the context
    return static_cast<double>(width) * std::log(length / (turns * kTau)) / (2 * std::log(base));
  };
  double low = turning(f.positive("beta_fast", 32)), high = turning(f.positive("beta_slow", 1));
  if (f.get<bool>("truncate", true)) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(width - 1));
  if (low == high) high += 0.001;
  auto plain = powers(base, width);
  for (size_t i = 0; i < plain.size(); ++i) {
    const float ramp = std::clamp(
        (static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low), 0.0f,
        1.0f);
    const float kept = 1 - ramp;
    plain[i] = 1 / (static_cast<float>(factor) * plain[i]) * (1 - kept) + 1 / plain[i] * kept;
  }
  return plain;
}

// LongRoPE (arXiv 2402.13753): a factor for every pair, one set up to the original context and
// another past it.
void longrope(const Fields& f, double base, int64_t context, Rope& rope) {
  rope.original_context = f.size("original_max_position_embeddings", context, int64_t{1} << 40);
  const auto plain = powers(base, rope.width);
  const auto scaled = [&](std::string_view key) {
    const auto factors = f.find<std::vector<double>>(key);
    require(factors.has_value(), "{}: field '{}' is missing", f.where(), key);
    require(static_cast<int64_t>(factors->size()) == rope.width / 2,
            "{} has {} values, expected {} (half of the rotated width of a head)", f.at(key),
            factors->size(), rope.width / 2);
    for (const double factor : *factors)
      require(factor > 0, "{} holds {}, expected values above 0", f.at(key), factor);
    auto scaled = plain;
    for (size_t i = 0; i < scaled.size(); ++i)
      scaled[i] = 1 / (static_cast<float>((*factors)[i]) * plain[i]);
    return widened(scaled);
  };
  rope.inverse_frequency = scaled("short_factor");
  rope.long_inverse_frequency = scaled("long_factor");
  const auto original = static_cast<double>(rope.original_context);
  const double factor = f.has("original_max_position_embeddings")
                            ? static_cast<double>(context) / original
                            : f.positive("factor", 1);
  rope.attention_factor = f.get<double>(
      "attention_factor", factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(original)));
}

}  // namespace

Json rope_settings(const Fields& fields, double theta, std::string_view layer_type) {
  Json settings = Json::object();
  if (fields.has("rope_parameters")) {
    settings = fields.json().at("rope_parameters");
    options::require_object(settings, fields.at("rope_parameters"));
    if (settings.contains(layer_type)) settings = settings.at(std::string(layer_type));
  } else if (fields.has("rope_scaling")) {
    settings = fields.json().at("rope_scaling");
  }
  options::require_object(settings, fields.at("rope settings"));
  if (!settings.contains("rope_type"))
    settings["rope_type"] = settings.contains("type") ? settings.at("type") : Json("default");
  if (!settings.contains("rope_theta")) {
    const auto base = fields.find<double>("rope_theta");
    settings["rope_theta"] = base ? *base : fields.get<double>("rotary_emb_base", theta);
  }
  if (!settings.contains("partial_rotary_factor")) {
    const auto partial = fields.find<double>("partial_rotary_factor");
    const auto share = partial ? partial : fields.find<double>("rotary_pct");
    if (share) settings["partial_rotary_factor"] = *share;
  }
  // Phi-3 keeps the original context beside the settings, and there it binds.
  if (fields.has("original_max_position_embeddings"))
    settings["original_max_position_embeddings"] =
        fields.json().at("original_max_position_embeddings");
  return settings;
}

Rope make_rope(const Json& settings, int64_t head_width, double partial, int64_t context,
               const std::string& where) {
  const Fields f(settings, where + ": rope settings");
  const double base = f.positive("rope_theta", 10000);
  const double share = f.positive("partial_rotary_factor", partial);
  Rope rope;
  rope.base = base;
  rope.width = static_cast<int64_t>(static_cast<double>(head_width) * share);
  require(share <= 1 && rope.width >= 2 && rope.width % 2 == 0,
          "{}: partial_rotary_factor {} of heads of {} rotates {} dimensions, expected an even "
          "number from 2 to {}",
          f.where(), share, head_width, rope.width, head_width);
  const auto type = f.get<std::string>("rope_type", "default");
  const auto plain = each(powers(base, rope.width), [](float power) { return 1 / power; });
  if (type == "default" || type == "dynamic") {
    // "dynamic" stretches only past max_position_embeddings, which a pass never exceeds here.
    rope.inverse_frequency = widened(plain);
  } else if (type == "linear") {
    require(f.has("factor"), "{}: field 'factor' is missing", f.where());
    rope.inverse_frequency = widened(
        each(plain, [&](float x) { return x / static_cast<float>(f.positive("factor", 1)); }));
  } else if (type == "llama3") {
    rope.inverse_frequency = widened(llama3_frequencies(plain, f));
  } else if (type == "yarn") {
    rope.inverse_frequency =
        widened(yarn_frequencies(f, base, rope.width, context, rope.attention_factor));
  } else if (type == "longrope" || type == "su") {
    longrope(f, base, context, rope);
  } else {
    fail(
        "{}: rope_type '{}' is not known here; known are default, dynamic, linear, llama3, yarn, "
        "longrope, su",
        f.where(), type);
  }
  return rope;
}

}  // namespace cajal::lm
