#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

/// The laws of neurons: functions of one number with a few parameters, each written once
/// (bounded-inl.h, rectified-inl.h, exponential-inl.h) and computed in one pass over memory.
namespace cajal::laws {

enum class Family { sigmoid, relu, elu, learned, other };  // as the survey has them

struct Parameter {
  const char* name;
  double start;  // its value unless given
  bool learned;  // else a constant of the law
};

struct Law {
  const char* name;
  Family family;
  const char* formula;
  const char* source;
  std::vector<Parameter> parameters;  // learned ones first
  int learned = 0;                    // how many of them
  int index = 0;                      // place in `all`
};

/// Every law, in the order of its family.
std::span<const Law> all();

/// The law of that name, or nothing; `at` throws Error that names the nearest one there is.
const Law* find(std::string_view name);
const Law& at(std::string_view name);

/// What the parameters of a run of numbers are: one set for all, or one a column.
enum class Sharing { all, columns };

/// y[i] = law(x[i]) for `count` numbers. parameters: [parameters] (Sharing::all), or
/// [parameters, columns] where number i lies in column i of `count` = columns. x may be y.
void forward(const Law& law, Sharing sharing, const float* x, int64_t count,
             const float* parameters, float* y);
void forward(const Law& law, Sharing sharing, const double* x, int64_t count,
             const double* parameters, double* y);

/// dx[i] = dy[i] law'(x[i]), and by_parameter[k] (or [k, column]) += dy[i] ∂law(x[i])/∂parameter k
/// for the learned ones. At a kink the derivative is that from the left, 0 for |x|.
void backward(const Law& law, Sharing sharing, const float* x, const float* dy, int64_t count,
              const float* parameters, float* dx, double* by_parameter);
void backward(const Law& law, Sharing sharing, const double* x, const double* dy, int64_t count,
              const double* parameters, double* dx, double* by_parameter);

}  // namespace cajal::laws
