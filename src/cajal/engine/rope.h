#pragma once
#include "cajal/engine/config.h"
#include "cajal/engine/fields.h"

namespace cajal::lm {

/// The rotary settings of a config.json in one form: the keys of today's `rope_parameters`
/// (rope_type, rope_theta, partial_rotary_factor, factor ...), whether they are written so or as
/// `rope_theta` + `rope_scaling`. `layer_type` picks one of the settings where a file holds one for
/// each kind of layer ("full_attention", "sliding_attention").
Json rope_settings(const Fields& fields, double theta, std::string_view layer_type);

/// Frequencies for heads of `head_width` under `settings` (see `rope_settings`); `context` is
/// max_position_embeddings. Computed in fp32 step by step as transformers does, since at large
/// positions the last bit matters. Throws Error naming an unknown rope_type or a missing field.
Rope make_rope(const Json& settings, int64_t head_width, double partial, int64_t context,
               const std::string& where);

}  // namespace cajal::lm
