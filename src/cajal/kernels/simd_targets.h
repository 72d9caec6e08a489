#pragma once
// Include before Highway's other headers: the same choice of instruction sets in every kernel.
// AVX3_DL is AVX-512 with VNNI; machines without AVX2 run the portable fallback. Vectors without a
// fixed size (SVE, RVV) are left out because kernels keep arrays of vectors.
#define HWY_WANT_AVX3_DL
#ifdef CAJAL_FEW_TARGETS  // sanitizer builds, which take minutes a file and target
#define HWY_DISABLED_TARGETS                                                                      \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX2 | HWY_AVX3 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | \
   HWY_RVV)
#else
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#endif
#include <hwy/targets.h>
