#pragma once
#include <string>

#include "cajal/data/curves.h"
#include "cajal/models/small/curve_models.h"

namespace cajal::study {

/// Generated curves as tensors.
CurveSet curves(const data::Curves& generated);

/// Curves of a file of the data set "fda-curves", one a row; the last `labels` columns are one
/// number, or several that mark the class. Throws Error when it is not here.
CurveSet measured_curves(const std::string& file, int64_t labels);

}  // namespace cajal::study
