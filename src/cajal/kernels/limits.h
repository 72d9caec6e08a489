#pragma once
#include <cstddef>

#include "cajal/core/threads.h"

namespace cajal {

/// Best rate of `rounds` at which the threads of the pool read `bytes` (more than the caches hold),
/// four streams a thread, in bytes a second: no decoding can be faster than its bytes at this rate.
/// Throws Error when there is not that much memory.
double measure_read_bandwidth(ThreadPool& threads, size_t bytes = size_t{1} << 30, int rounds = 5);

}  // namespace cajal
