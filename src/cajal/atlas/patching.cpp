#include "cajal/atlas/patching.h"

#include "cajal/core/error.h"
#include "cajal/core/random.h"

namespace cajal::atlas {
namespace {

bool ends_with_any(std::string_view name, std::initializer_list<std::string_view> ends) {
  for (const auto end : ends)
    if (name.ends_with(end)) return true;
  return false;
}

// bool [size], true at the indices.
torch::Tensor chosen(const std::vector<int64_t>& indices, int64_t size, std::string_view what,
                     std::string_view hook) {
  auto mask = torch::zeros({size}, torch::kBool);
  for (const int64_t index : indices) {
    require(index >= -size && index < size, "{}: {} {} is out of range, there are {}", hook, what,
            index, size);
    mask[index < 0 ? index + size : index] = true;
  }
  return mask;
}

}  // namespace

Run record(lm::Transformer& model, const torch::Tensor& input,
           const std::vector<std::string>& names, lm::Pass pass) {
  lm::Hooks hooks = pass.hooks ? *pass.hooks : lm::Hooks();
  Run run;
  std::vector<char> met(names.size(), false);
  for (size_t i = 0; i < names.size(); ++i)
    hooks.add(names[i], [&run, &met, i](std::string_view name, const torch::Tensor& value) {
      run.values[std::string(name)] = value;
      met[i] = true;
      return torch::Tensor();
    });
  pass.hooks = &hooks;
  run.output = model->forward(input, pass);
  for (size_t i = 0; i < names.size(); ++i)
    require(met[i], "no hook point of this {} model is called '{}'", to_name(model->config.family),
            lm::full_hook_name(names[i]));
  return run;
}

SiteAxes site_axes(std::string_view hook, int64_t dimensions) {
  if (ends_with_any(hook, {"hook_pattern", "hook_attn_scores"})) return {2, 1, 3};
  if (dimensions == 4) return {1, 2, 3};
  if (dimensions == 3) return {1, -1, 2};
  return {-1, -1, static_cast<int>(dimensions) - 1};
}

torch::Tensor site_mask(const Site& site, std::string_view hook, torch::IntArrayRef sizes) {
  const auto rank = static_cast<int64_t>(sizes.size());
  const auto axes = site_axes(hook, rank);
  auto mask = torch::ones(std::vector<int64_t>(sizes.size(), 1), torch::kBool);
  const auto restrict = [&](const std::vector<int64_t>& indices, int axis, const char* what) {
    if (indices.empty()) return;
    require(axis >= 0, "{} has no {}s to choose from: its shape is {}", hook, what,
            shape_text(sizes));
    std::vector<int64_t> shape(sizes.size(), 1);
    shape[static_cast<size_t>(axis)] = sizes[static_cast<size_t>(axis)];
    mask = mask & chosen(indices, sizes[static_cast<size_t>(axis)], what, hook).reshape(shape);
  };
  restrict(site.positions, axes.position, "position");
  restrict(site.heads, axes.head, "head");
  restrict(site.units, axes.unit, "unit");
  return mask;
}

int patch(lm::Hooks& hooks, const Site& site, Recording source) {
  return hooks.add(site.hook, [site, source = std::move(source)](std::string_view name,
                                                                 const torch::Tensor& value) {
    const auto found = source.find(name);
    require(found != source.end(), "patch: the source holds no '{}'", name);
    auto sizes = value.sizes().vec();
    const auto& other = found->second;
    if (other.dim() == value.dim() && other.size(0) == 1) sizes[0] = 1;
    require(other.sizes() == torch::IntArrayRef(sizes),
            "patch: the source's '{}' is {}, expected {}", name, shape_text(other.sizes()),
            shape_text(value.sizes()));
    const auto mask = site_mask(site, name, value.sizes()).to(value.device());
    return torch::where(mask, other.to(value.options()), value);
  });
}

int patch(lm::Hooks& hooks, const std::string& hook, torch::Tensor mask, torch::Tensor value) {
  require(mask.scalar_type() == torch::kBool, "patch: the mask of '{}' is {}, expected bool", hook,
          c10::toString(mask.scalar_type()));
  return hooks.add(hook, [mask, value](std::string_view, const torch::Tensor& own) {
    return torch::where(mask.to(own.device()), value.to(own.options()), own);
  });
}

Recording means(const Recording& reference, bool over_positions) {
  Recording out;
  for (const auto& [name, value] : reference) {
    const auto axes = site_axes(name, value.dim());
    if (!over_positions || axes.position < 0) {
      out[name] = value.mean(0, /*keepdim=*/true);
    } else if (axes.position == 1) {
      out[name] = value.mean(torch::IntArrayRef({0, 1}), /*keepdim=*/true);
    }
  }
  return out;
}

int ablate(lm::Hooks& hooks, const Site& site, Ablate how, const Recording& reference,
           uint64_t seed) {
  return hooks.add(site.hook, [site, how, reference, seed](std::string_view name,
                                                           const torch::Tensor& value) {
    const auto mask = site_mask(site, name, value.sizes()).to(value.device());
    if (how == Ablate::zero) return value.masked_fill(mask, 0);
    const auto found = reference.find(name);
    require(found != reference.end(), "ablate: the reference holds no '{}'", name);
    auto other = found->second.to(value.options());
    if (how == Ablate::mean) {
      if (other.size(0) > 1) other = other.mean(0, /*keepdim=*/true);
    } else {
      Random random(seed);
      std::vector<int64_t> rows;
      for (int64_t row = 0; row < value.size(0); ++row)
        rows.push_back(static_cast<int64_t>(random.below(static_cast<uint64_t>(other.size(0)))));
      other = other.index_select(0, torch::tensor(rows, torch::kLong).to(other.device()));
    }
    bool fits = other.dim() == value.dim();
    for (int64_t axis = 0; fits && axis < value.dim(); ++axis)
      fits = other.size(axis) == 1 || other.size(axis) == value.size(axis);
    require(fits, "ablate: the reference's '{}' is {}, expected one that fits {}", name,
            shape_text(found->second.sizes()), shape_text(value.sizes()));
    return torch::where(mask, other, value);
  });
}

NormSplit frozen_norm_split(lm::Transformer& model, const torch::Tensor& input,
                            const lm::Hooks& change,
                            const std::function<torch::Tensor(const torch::Tensor&)>& metric,
                            const std::string& norms, lm::Pass pass) {
  const auto scales = norms + ".hook_scale";
  const auto before = record(model, input, {scales}, pass);
  lm::Hooks hooks = change;
  pass.hooks = &hooks;
  const auto measure = [&](const torch::Tensor& output) { return metric(output); };
  // The same points are open in all three passes, so that nothing but the change differs.
  const auto after = measure(record(model, input, {scales}, pass).output);
  patch(hooks, {scales}, before.values);
  const auto frozen = measure(model->forward(input, pass));
  const auto start = measure(before.output);
  return {after - start, frozen - start, after - frozen};
}

}  // namespace cajal::atlas
