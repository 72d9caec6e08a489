#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "cajal/study/result.h"

namespace cajal::study {

/// A page whose marks are filled with figures from results; all else stays as it was written.
///   <!-- result SLUG: CLAIM -->...<!-- end -->                  the figure measured for the first
///                                                               claim that begins with CLAIM
///   <!-- result SLUG: TABLE / ROW / COLUMN -->...<!-- end -->   a field: of the first table that
///     begins with TABLE the first row whose cells, joined by ", ", begin with ROW
/// Without a result of SLUG it says "not measured yet", and where the result lacks what is asked
/// for, "not in the result". Throws Error that begins with `where` for a mark that does not end or
/// is not of these forms.
std::string fill_marks(std::string_view page, const std::vector<Result>& results,
                       std::string_view where);

}  // namespace cajal::study
