#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cajal/core/torch.h"
#include "cajal/engine/names.h"

namespace cajal::lm {

/// Called at a hook point with its TransformerLens name and value; returns the value to go on with:
/// an undefined tensor leaves it as it is.
using HookFunction =
    std::function<torch::Tensor(std::string_view name, const torch::Tensor& value)>;

/// Functions attached to points of the forward pass. Names are TransformerLens's
/// ("blocks.3.mlp.hook_post"), their short forms ("post3"), or patterns with *
/// ("blocks.*.mlp.hook_post", "*"). docs/models.md lists the points and their shapes.
class Hooks {
 public:
  /// Attaches `function` to every point that `pattern` names; returns a handle for `remove`.
  /// Several functions of one point run in the order in which they were added.
  int add(std::string_view pattern, HookFunction function);
  void remove(int handle);
  void clear();  // the functions and the stop
  bool empty() const { return entries_.empty() && stop_.empty(); }

  /// The forward pass ends once this point was visited; its value is then the result.
  void stop_after(std::string_view name);

  // For the model:
  bool wants(std::string_view name) const;
  torch::Tensor visit(std::string_view name,
                      torch::Tensor value);  // throws Stopped at the stop point
  struct Stopped {
    torch::Tensor value;
  };

 private:
  struct Entry {
    int handle;
    std::string pattern;
    HookFunction function;
  };
  std::vector<Entry> entries_;
  std::string stop_;
  int next_ = 0;
};

/// "post5" -> "blocks.5.mlp.hook_post", "pattern3" -> "blocks.3.attn.hook_pattern", "scale4ln1" ->
/// "blocks.4.ln1.hook_scale", "embed" -> "hook_embed"; full names and patterns pass unchanged.
std::string full_hook_name(std::string_view name);

}  // namespace cajal::lm
