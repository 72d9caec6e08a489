#include "cajal/models/lm/hooks.h"

#include <algorithm>

namespace cajal::lm {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// The part of a block that a short name belongs to.
std::string_view owner(std::string_view name) {
  if (one_of(name, {"q", "k", "v", "z", "rot_q", "rot_k", "attn_scores", "pattern", "result"}))
    return "attn.";
  if (one_of(name, {"pre", "post", "pre_linear"})) return "mlp.";
  return "";
}

std::string_view unaliased(std::string_view name) {
  static constexpr std::pair<std::string_view, std::string_view> kAliases[] = {
      {"attn", "pattern"}, {"attn_logits", "attn_scores"},
      {"key", "k"},        {"query", "q"},
      {"value", "v"},      {"mlp", "post"},
  };
  for (const auto& [alias, full] : kAliases)
    if (name == alias) return full;
  return name;
}

}  // namespace

std::string full_hook_name(std::string_view name) {
  if (name.find_first_of(".*") != std::string_view::npos || name.starts_with("hook_"))
    return std::string(name);
  const auto digits = std::find_if(name.begin(), name.end(), is_digit);
  const auto after = std::find_if_not(digits, name.end(), is_digit);
  const auto point = unaliased(name.substr(0, static_cast<size_t>(digits - name.begin())));
  const std::string layer(digits, after), part(after, name.end());
  std::string full = layer.empty() ? "" : "blocks." + layer + ".";
  if (!part.empty()) {
    full += part + ".";
  } else if (layer.empty() && one_of(point, {"scale", "normalized"})) {
    full += "ln_final.";
  } else {
    full += owner(point);
  }
  return full + "hook_" + std::string(point);
}

int Hooks::add(std::string_view pattern, HookFunction function) {
  entries_.push_back({next_, full_hook_name(pattern), std::move(function)});
  return next_++;
}

void Hooks::remove(int handle) {
  std::erase_if(entries_, [&](const Entry& entry) { return entry.handle == handle; });
}

void Hooks::clear() {
  entries_.clear();
  stop_.clear();
}

void Hooks::stop_after(std::string_view name) { stop_ = full_hook_name(name); }

bool Hooks::wants(std::string_view name) const {
  return name == stop_ || std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
           return matches(entry.pattern, name);
         });
}

torch::Tensor Hooks::visit(std::string_view name, torch::Tensor value) {
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (!matches(entries_[i].pattern, name)) continue;
    // A copy, so that a hook may add or remove hooks while it runs.
    const auto function = entries_[i].function;
    if (auto replaced = function(name, value); replaced.defined()) value = std::move(replaced);
  }
  if (name == stop_) throw Stopped{value};
  return value;
}

}  // namespace cajal::lm
