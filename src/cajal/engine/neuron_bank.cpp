#include "cajal/engine/neuron_bank.h"

#include <algorithm>
#include <numeric>

namespace cajal::engine {
namespace {

int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

void require_shape(const RowMatrix& matrix, int64_t rows, int64_t width, const char* name,
                   std::string_view where) {
  require(matrix.rows == rows && matrix.width == width, "{}: {} is [{}, {}], expected [{}, {}]",
          where, name, matrix.rows, matrix.width, rows, width);
}

void check_rows(const NeuronRows& rows, std::string_view where) {
  const int64_t neurons = rows.neurons(), width = rows.width();
  require(neurons > 0 && width > 0, "{}: {} neurons of width {}", where, neurons, width);
  if (rows.gated()) require_shape(rows.gate, neurons, width, "gate", where);
  if (rows.value_by_output.rows > 0) {
    require_shape(rows.value_by_output, width, neurons, "value by output", where);
  } else {
    require_shape(rows.value, neurons, width, "value", where);
  }
  for (const auto& bias : {rows.key_bias, rows.gate_bias})
    require(bias.empty() || static_cast<int64_t>(bias.size()) == neurons,
            "{}: a bias has {} values, expected {}", where, bias.size(), neurons);
}

std::vector<int32_t> checked_order(const std::vector<int32_t>& given, int64_t neurons,
                                   std::string_view where) {
  std::vector<int32_t> order = given;
  if (order.empty()) {
    order.resize(neurons);
    std::iota(order.begin(), order.end(), 0);
  }
  std::vector<bool> seen(neurons);
  for (const int32_t neuron : order) {
    require(neuron >= 0 && neuron < neurons, "{}: the order names neuron {} of {}", where, neuron,
            neurons);
    require(!seen[neuron], "{}: the order names neuron {} twice", where, neuron);
    seen[neuron] = true;
  }
  return order;
}

/// The bytes of rows in a format, through floats where they are not in it already.
class Recoder {
 public:
  Recoder(const RowMatrix& from, Format to)
      : from_(from), to_(to), values_(from.width), bytes_(row_bytes(to, from.width)) {}

  const void* row(int64_t r) {
    if (from_.format == to_) return from_.row(r);
    encode_row(to_, floats(r), from_.width, bytes_.data());
    return bytes_.data();
  }
  const float* floats(int64_t r) {
    decode_row(from_.format, from_.row(r), from_.width, values_.data());
    return values_.data();
  }

 private:
  const RowMatrix& from_;
  Format to_;
  std::vector<float> values_;
  std::vector<uint8_t> bytes_;
};

PackedMatrix packed_rows(const RowMatrix& from, Format format, std::span<const int32_t> order,
                         std::string_view where) {
  const auto neurons = static_cast<int64_t>(order.size());
  PackedMatrix out(format, round_up(neurons, kTileRows), from.width, Grouping::rows, where);
  Recoder recoder(from, format);
  for (int64_t i = 0; i < neurons; ++i) out.set_row(i, recoder.row(order[i]));
  return out;
}

OwnedRows owned_rows(Format format, int64_t rows, int64_t width, std::string_view where) {
  require_row(format, width, where);
  OwnedRows out;
  out.memory = WeightMemory(rows * row_bytes(format, width));
  out.view = row_matrix(format, out.memory.data(), rows, width, where);
  return out;
}

uint8_t* row_of(OwnedRows& rows, int64_t r) {
  return reinterpret_cast<uint8_t*>(rows.memory.data()) + r * rows.view.stride;
}

OwnedRows neuron_rows(const RowMatrix& from, Format format, std::span<const int32_t> order,
                      std::string_view where) {
  auto out = owned_rows(format, static_cast<int64_t>(order.size()), from.width, where);
  Recoder recoder(from, format);
  for (size_t i = 0; i < order.size(); ++i)
    std::memcpy(row_of(out, static_cast<int64_t>(i)), recoder.row(order[i]), out.view.stride);
  return out;
}

/// The transpose of the rows in `order`, in single precision: [width, order].
std::vector<float> transposed(const RowMatrix& from, std::span<const int32_t> order) {
  const auto count = static_cast<int64_t>(order.size());
  std::vector<float> out(from.width * count);
  Recoder recoder(from, from.format);
  for (int64_t i = 0; i < count; ++i) {
    const float* row = recoder.floats(order[i]);
    for (int64_t c = 0; c < from.width; ++c) out[c * count + i] = row[c];
  }
  return out;
}

/// One row an input, over all places of a section.
OwnedRows input_rows(const RowMatrix& from, Format format, std::span<const int32_t> order,
                     std::string_view where) {
  const auto neurons = static_cast<int64_t>(order.size());
  const int64_t places = round_up(neurons, std::max<int64_t>(kTileRows, block_values(format)));
  auto out = owned_rows(format, from.width, places, where);
  const auto columns = transposed(from, order);
  std::vector<float> row(places);
  for (int64_t i = 0; i < from.width; ++i) {
    std::copy_n(columns.begin() + i * neurons, neurons, row.begin());
    encode_row(format, row.data(), places, row_of(out, i));
  }
  return out;
}

/// Whether the blocks along the neurons of an output's row stay whole in a new order.
bool keeps_blocks(Format from, Format to, std::span<const int32_t> order) {
  if (from != to) return false;
  const int block = block_values(from);
  for (size_t i = 0; i < order.size(); ++i)
    if (order[i] % block != static_cast<int>(i % block) ||
        (i % block != 0 && order[i] != order[i - 1] + 1))
      return false;
  return order.size() % block == 0;
}

/// Values with a row an output, in groups of neurons.
PackedMatrix packed_values(const NeuronRows& rows, Format format, std::span<const int32_t> order,
                           std::string_view where) {
  const auto neurons = static_cast<int64_t>(order.size());
  const int64_t block = std::max<int64_t>(kTileRows, block_values(format));
  const int64_t places = round_up(neurons, block), width = rows.width();
  PackedMatrix out(format, width, places, Grouping::columns, where);
  std::vector<uint8_t> bytes(row_bytes(format, places));
  std::vector<float> values(places);
  if (rows.value_by_output.rows == 0) {
    std::vector<float> some(block * width);  // [block, width]
    Recoder recoder(rows.value, format);
    for (int64_t first = 0; first < places; first += block) {
      std::fill(some.begin(), some.end(), 0.0f);
      for (int64_t i = first; i < std::min(neurons, first + block); ++i)
        std::copy_n(recoder.floats(order[i]), width, some.begin() + (i - first) * width);
      for (int64_t o = 0; o < width; ++o) {
        for (int64_t i = 0; i < block; ++i) values[i] = some[i * width + o];
        encode_row(format, values.data(), block, bytes.data());
        out.set_block(o, first / block, bytes.data());
      }
    }
    return out;
  }
  const RowMatrix& from = rows.value_by_output;
  const bool copies = keeps_blocks(from.format, format, order);
  const int64_t size = row_bytes(format, block_values(format));
  Recoder recoder(from, format);
  for (int64_t o = 0; o < width; ++o) {
    if (copies) {
      for (int64_t i = 0; i < neurons; i += block_values(format))
        std::copy_n(from.row(o) + order[i] / block_values(format) * size, size,
                    bytes.begin() + i / block_values(format) * size);
    } else {
      const float* of = recoder.floats(o);
      for (int64_t i = 0; i < neurons; ++i) values[i] = of[order[i]];
      encode_row(format, values.data(), places, bytes.data());
    }
    out.set_row(o, bytes.data());
  }
  return out;
}

/// Values with a row a neuron.
OwnedRows value_rows(const NeuronRows& rows, Format format, std::span<const int32_t> order,
                     std::string_view where) {
  if (rows.value_by_output.rows == 0) return neuron_rows(rows.value, format, order, where);
  const int64_t width = rows.width(), all = rows.neurons();
  std::vector<int32_t> outputs(width);
  std::iota(outputs.begin(), outputs.end(), 0);
  const auto values = transposed(rows.value_by_output, outputs);  // [neurons, width]
  const RowMatrix floats = row_matrix(Format::f32, values.data(), all, width, where);
  return neuron_rows(floats, format, order, where);
}

std::vector<float> ordered_bias(std::span<const float> bias, std::span<const int32_t> order) {
  if (bias.empty()) return {};
  std::vector<float> out(round_up(static_cast<int64_t>(order.size()), kTileRows));
  for (size_t i = 0; i < order.size(); ++i) out[i] = bias[order[i]];
  return out;
}

}  // namespace

NeuronBank::NeuronBank(const NeuronRows& rows, Law law, const BankPlan& plan,
                       std::string_view where, std::span<const float> output_bias)
    : law_(law),
      gated_(rows.gated()),
      width_(rows.width()),
      key_form_(plan.key),
      gate_form_(plan.gate),
      value_form_(plan.value),
      output_bias_(output_bias.begin(), output_bias.end()) {
  check_rows(rows, where);
  require(output_bias.empty() || static_cast<int64_t>(output_bias.size()) == width_,
          "{}: the output bias has {} values, expected {}", where, output_bias.size(), width_);
  require(gate_form_ != Form::neurons, "{}: gates lie in groups or by inputs", where);
  require(value_form_ != Form::inputs, "{}: values lie in groups or by neurons", where);
  require(!gated_ || (key_form_ == Form::inputs) == (gate_form_ == Form::inputs),
          "{}: keys and gates lie by inputs both or neither", where);
  require(gated_ || key_form_ != Form::neurons || value_form_ == Form::neurons,
          "{}: keys by single neurons without gates need values by neurons", where);
  const auto order = checked_order(plan.order, rows.neurons(), where);
  neurons_ = static_cast<int64_t>(order.size());
  auto sections = plan.sections;
  if (sections.empty()) {
    const auto& value = rows.value_by_output.rows > 0 ? rows.value_by_output : rows.value;
    sections = {{neurons_, rows.key.format, value.format}};
  }
  place_of_.assign(rows.neurons(), -1);
  int64_t first = 0, first_group = 0;
  for (const auto& of : sections) {
    require(of.neurons > 0 && of.neurons <= neurons_ - first,
            "{}: the sections do not add up to {} neurons", where, neurons_);
    const auto chosen = std::span(order).subspan(first, of.neurons);
    Section section;
    section.first_group = first_group;
    section.neurons = of.neurons;
    section.groups = round_up(of.neurons, kTileRows) / kTileRows;
    const auto lay = [&](const RowMatrix& from, Form form, PackedMatrix& packed, OwnedRows& by) {
      if (form == Form::groups) packed = packed_rows(from, of.key, chosen, where);
      if (form == Form::neurons) by = neuron_rows(from, of.key, chosen, where);
      if (form == Form::inputs) by = input_rows(from, of.key, chosen, where);
    };
    lay(rows.key, key_form_, section.key, section.key_rows);
    if (gated_) lay(rows.gate, gate_form_, section.gate, section.gate_rows);
    if (value_form_ == Form::groups) {
      section.value = packed_values(rows, of.value, chosen, where);
    } else {
      section.value_rows = value_rows(rows, of.value, chosen, where);
    }
    section.key_bias = ordered_bias(rows.key_bias, chosen);
    section.gate_bias = ordered_bias(rows.gate_bias, chosen);
    for (int64_t i = 0; i < of.neurons; ++i)
      place_of_[chosen[i]] = static_cast<int32_t>(section.first_neuron() + i);
    sections_.push_back(std::move(section));
    first += of.neurons, first_group += sections_.back().groups;
  }
  require(first == neurons_, "{}: the sections hold {} neurons, expected {}", where, first,
          neurons_);
}

NeuronBank NeuronBank::join(std::vector<NeuronBank> banks, std::string_view where) {
  require(!banks.empty(), "{}: no neurons to join", where);
  NeuronBank out = std::move(banks[0]);
  for (size_t i = 1; i < banks.size(); ++i) {
    NeuronBank& next = banks[i];
    require(next.width_ == out.width_ && next.law_ == out.law_ && next.gated_ == out.gated_ &&
                next.key_form_ == out.key_form_ && next.gate_form_ == out.gate_form_ &&
                next.value_form_ == out.value_form_,
            "{}: part {} differs in width, law, gates or form from part 0", where, i);
    require(next.output_bias_.empty(), "{}: part {} has an output bias; only part 0 may", where, i);
    const int64_t groups = out.groups();
    for (auto& section : next.sections_) {
      section.first_group += groups;
      out.sections_.push_back(std::move(section));
    }
    for (const int32_t place : next.place_of_)
      out.place_of_.push_back(place < 0 ? -1 : static_cast<int32_t>(place + kTileRows * groups));
    out.neurons_ += next.neurons_;
  }
  return out;
}

std::vector<int32_t> NeuronBank::neuron_at() const {
  std::vector<int32_t> out(kTileRows * groups(), -1);
  for (size_t i = 0; i < place_of_.size(); ++i)
    if (place_of_[i] >= 0) out[place_of_[i]] = static_cast<int32_t>(i);
  return out;
}

int64_t NeuronBank::bytes() const {
  int64_t sum = 0;
  for (const auto& section : sections_) {
    for (const auto* packed : {&section.key, &section.gate, &section.value}) sum += packed->bytes();
    for (const auto* rows : {&section.key_rows, &section.gate_rows, &section.value_rows})
      sum += static_cast<int64_t>(rows->memory.size());
  }
  return sum;
}

}  // namespace cajal::engine
