#pragma once
#include <cstdint>
#include <vector>

namespace cajal::data {

/// Curves with a class each: values [count, points, channels], row-major.
struct Curves {
  int64_t points = 0, channels = 1, classes = 0;
  std::vector<float> values;
  std::vector<int64_t> labels;

  int64_t count() const { return static_cast<int64_t>(labels.size()); }
};

struct BumpOptions {
  int64_t points = 128;
  double noise = 0.5;    // standard deviation of the Matérn 5/2 process
  double length = 0.05;  // its length, of the unit interval
  double width = 0.04;   // of the bump
  double signal = 1;     // root of the bump's energy over that of the noise
  bool centred = false;  // every bump in the middle instead of anywhere
  double shift = 0;      // of every curve to the right, in [-1, 1], by moving the bump
};

/// Noise and a bump at a uniform place: a Gaussian, its derivative, a Mexican hat or two bumps;
/// four classes. The same seed at another number of points gives the same bumps in other noise.
/// Source: generator A of dossier functional-networks.
Curves shifted_bumps(int64_t count, const BumpOptions& options, uint64_t seed);

struct BrainWaveOptions {
  int64_t points = 256, channels = 8;
  double rate = 128;   // samples a second
  double decibel = 0;  // event over noise, on the channels that carry it
};

/// Mixed 1/f noise with a P300-like wave on channels 3 to 5 at 0.2 to 1.4 s, a 10 Hz burst of
/// random phase, or nothing; three classes. Source: generator B of dossier functional-networks.
Curves brain_waves(int64_t count, const BrainWaveOptions& options, uint64_t seed);

}  // namespace cajal::data
