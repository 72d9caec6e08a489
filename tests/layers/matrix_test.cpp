#include "cajal/layers/matrix.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"
#include "checks.h"

namespace cajal {
namespace {

using testing::difference;

torch::Tensor encoded(Format format, const torch::Tensor& rows) {
  const auto bytes = row_bytes(format, rows.size(1));
  auto out = torch::empty({rows.size(0), bytes}, torch::kByte);
  for (int64_t r = 0; r < rows.size(0); ++r)
    encode_row(format, rows.data_ptr<float>() + r * rows.size(1), rows.size(1),
               out.data_ptr<uint8_t>() + r * bytes);
  return out;
}

Matrix made(Format format, const torch::Tensor& weight, Major major) {
  switch (format) {
    case Format::f32:
      return Matrix::dense(weight, major);
    case Format::f16:
      return Matrix::dense(weight.to(torch::kHalf), major);
    case Format::bf16:
      return Matrix::dense(weight.to(torch::kBFloat16), major);
    default:
      return Matrix::packed(format, encoded(format, weight), weight.size(1), major);
  }
}

class Matrices : public ::testing::TestWithParam<std::tuple<Format, Major>> {};

TEST_P(Matrices, ApplyTheirDecodedWeights) {
  const auto [format, major] = GetParam();
  torch::manual_seed(1);
  const auto matrix = made(format, torch::randn({96, 256}), major);
  const auto w = major == Major::output ? matrix.decoded() : matrix.decoded().t();
  const auto bias = torch::randn(matrix.outputs());
  for (const int64_t rows : {1, 3, 8, 9, 50}) {
    const auto x = torch::randn({rows, matrix.inputs()});
    EXPECT_LE(difference(matrix.apply(x, bias), torch::matmul(x, w.t()) + bias), 2e-4)
        << rows << " rows";
    EXPECT_LE(difference(matrix.apply(x.unsqueeze(0)), torch::matmul(x, w.t()).unsqueeze(0)), 2e-4);
  }
}

TEST_P(Matrices, LookUpRowsAndSlicesWithoutTheRest) {
  const auto [format, major] = GetParam();
  torch::manual_seed(2);
  const auto matrix = made(format, torch::randn({40, 256}), major);
  const auto ids = torch::tensor({{3, 39}, {0, 3}});
  EXPECT_EQ(difference(matrix.lookup(ids), matrix.decoded().index({ids})), 0);
  EXPECT_EQ(difference(matrix.rows(5, 20).decoded(), matrix.decoded().slice(0, 5, 20)), 0);
}

INSTANTIATE_TEST_SUITE_P(
    Formats, Matrices,
    ::testing::Combine(::testing::Values(Format::f32, Format::f16, Format::bf16, Format::q8_0,
                                         Format::q4_0, Format::q5_1, Format::q4_K, Format::q6_K),
                       ::testing::Values(Major::output, Major::input)),
    [](const auto& info) {
      return to_name(std::get<0>(info.param)) +
             (std::get<1>(info.param) == Major::output ? "_output" : "_input");
    });

TEST(Matrix, SlabsCoverEveryRowOfALargeMatrix) {
  torch::manual_seed(3);
  for (const Major major : {Major::output, Major::input}) {
    const auto matrix = made(Format::bf16, torch::randn({1500, 1100}), major);
    const auto w = major == Major::output ? matrix.decoded() : matrix.decoded().t();
    const auto x = torch::randn({20, matrix.inputs()});
    EXPECT_LE(difference(matrix.apply(x), torch::matmul(x, w.t())), 1e-3);
  }
}

TEST(Matrix, PassesGradientsToParametersAndInputs) {
  auto weight = torch::randn({6, 4}, torch::kDouble).set_requires_grad(true);
  auto x = torch::randn({2, 4}, torch::kDouble).set_requires_grad(true);
  Matrix::dense(weight).apply(x).sum().backward();
  EXPECT_LE(difference(weight.grad(), x.detach().sum(0).expand({6, 4})), 1e-12);
  EXPECT_LE(difference(x.grad(), weight.detach().sum(0).expand({2, 4})), 1e-12);
}

TEST(Matrix, RefusesInputsOfAnotherWidth) {
  try {
    Matrix::dense(torch::zeros({3, 4})).apply(torch::zeros({1, 5}));
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "matrix: last axis of x is 5, expected 4 inputs");
  }
}

}  // namespace
}  // namespace cajal
