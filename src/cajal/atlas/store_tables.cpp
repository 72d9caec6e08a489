#include "cajal/atlas/store_tables.h"

#include <cstring>

#include "cajal/core/error.h"

namespace cajal::atlas {

const char* const collector_tables = R"(
CREATE TABLE totals(kind TEXT PRIMARY KEY, counts BLOB NOT NULL);
CREATE TABLE counts(layer INTEGER NOT NULL, neuron INTEGER NOT NULL, input_mean REAL,
  input_variance REAL, input_skew REAL, input_kurtosis REAL, powers BLOB NOT NULL,
  histogram BLOB NOT NULL, positions BLOB NOT NULL, tokens BLOB NOT NULL,
  PRIMARY KEY(layer, neuron));
CREATE TABLE grams(layer INTEGER NOT NULL, neuron INTEGER NOT NULL, tokens INTEGER NOT NULL,
  given_up INTEGER NOT NULL, grams BLOB NOT NULL, PRIMARY KEY(layer, neuron, tokens));
)";

namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

template <class T>
std::vector<T> elements(Database& db, const std::string& blob, const char* what) {
  if (blob.size() % sizeof(T) != 0)
    db.damaged(
        fmt::format("{} of {} bytes, expected a multiple of {}", what, blob.size(), sizeof(T)));
  std::vector<T> out(blob.size() / sizeof(T));
  if (!blob.empty()) std::memcpy(out.data(), blob.data(), blob.size());
  return out;
}

}  // namespace

void save_totals(Database& db, const Census& census) {
  Statement insert(db, "INSERT INTO totals VALUES(?, ?)");
  (insert << "tokens" << std::as_bytes(std::span(census.token_totals))).execute();
  (insert << "positions" << std::as_bytes(std::span(census.position_totals))).execute();
}

void load_totals(Database& db, Census& census) {
  Statement select(db, "SELECT counts FROM totals WHERE kind = ?");
  for (auto [kind, totals] : {std::pair("tokens", &census.token_totals),
                              std::pair("positions", &census.position_totals)}) {
    select << std::string_view(kind);
    if (!select.next()) db.damaged(fmt::format("no '{}' in table totals", kind));
    *totals = elements<int64_t>(db, select.blob(), kind);
    select.restart();
  }
}

void save_tables(Database& db, int64_t index, const LayerCensus& layer) {
  const auto& tables = layer.tables;
  const bool any = tables.kind.shapes || tables.positions.defined() || tables.tokens.defined();
  const auto packed = [](const KeyTable& table, int64_t i) {
    return table.defined() ? table.packed(i) : std::string();
  };
  if (any) {
    Statement counts(db, "INSERT INTO counts VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    for (int64_t i = 0; i < layer.neurons; ++i) {
      std::array<StoredSum, 4> powers{};
      std::span<const uint32_t> bins;
      const auto shape = tables.moments.shape(i, layer.tokens);
      if (tables.kind.shapes) {
        for (size_t k = 0; k < 4; ++k) powers[k] = stored(tables.moments.power[k][i]);
        bins = std::span(tables.histogram.count).subspan(i * Histogram::bins, Histogram::bins);
      }
      (counts << index << i << shape.mean << shape.variance << shape.skew << shape.kurtosis
              << std::as_bytes(std::span(powers)) << std::as_bytes(bins)
              << bytes_of(packed(tables.positions, i)) << bytes_of(packed(tables.tokens, i)))
          .execute();
    }
  }
  Statement grams(db, "INSERT INTO grams VALUES(?, ?, ?, ?, ?)");
  for (const auto& table : tables.grams)
    for (int64_t i = 0; i < layer.neurons; ++i) {
      const auto all = table.of(i);
      if (all.empty() && !table.given_up(i)) continue;
      (grams << index << i << int64_t{table.order()} << int64_t{table.given_up(i)}
             << std::as_bytes(std::span(all)))
          .execute();
    }
}

namespace {

void load_counts(Database& db, int64_t index, LayerCensus& layer) {
  auto& tables = layer.tables;
  Statement row(db,
                "SELECT neuron, powers, histogram, positions, tokens FROM counts WHERE layer = ? "
                "ORDER BY neuron");
  row << index;
  std::vector<std::string> positions, tokens;
  int64_t i = 0;
  for (; row.next(); ++i) {
    int64_t neuron = 0;
    row >> neuron;
    if (neuron != i || i >= layer.neurons)
      db.damaged(fmt::format("layer {} has counts of neuron {}", index, neuron));
    std::array<StoredSum, 4> powers;
    row.read_blob(std::as_writable_bytes(std::span(powers)));
    if (tables.kind.shapes) {
      for (size_t k = 0; k < 4; ++k) tables.moments.power[k][i] = restored(powers[k]);
      row.read_blob(std::as_writable_bytes(
          std::span(tables.histogram.count).subspan(i * Histogram::bins, Histogram::bins)));
    } else {
      row.blob();
    }
    positions.push_back(row.blob()), tokens.push_back(row.blob());
  }
  if (i != layer.neurons)
    db.damaged(
        fmt::format("layer {} has counts of {} neurons, expected {}", index, i, layer.neurons));
  try {
    if (tables.positions.defined())
      tables.positions = KeyTable(tables.kind.positions, std::move(positions));
    if (tables.tokens.defined())
      tables.tokens = KeyTable(tables.kind.vocabulary, std::move(tokens));
  } catch (const Error& error) {
    db.damaged(fmt::format("layer {}: {}", index, error.what()));
  }
}

}  // namespace

void load_tables(Database& db, int64_t index, LayerCensus& layer) {
  auto& tables = layer.tables;
  if (tables.kind.shapes || tables.positions.defined() || tables.tokens.defined())
    load_counts(db, index, layer);
  Statement row(db, "SELECT neuron, tokens, given_up, grams FROM grams WHERE layer = ?");
  row << index;
  while (row.next()) {
    int64_t neuron = 0, order = 0, given_up = 0;
    row >> neuron >> order >> given_up;
    if (neuron < 0 || neuron >= layer.neurons || order < 2 || order > tables.kind.orders)
      db.damaged(fmt::format("layer {} has {}-grams of neuron {}", index, order, neuron));
    auto& table = tables.grams[static_cast<size_t>(order - 2)];
    for (const auto& gram : elements<Gram>(db, row.blob(), "grams")) {
      if (gram.last < 0 || gram.count <= 0)
        db.damaged(
            fmt::format("layer {} neuron {} has an n-gram {} times", index, neuron, gram.count));
      table.add(neuron, gram.hash, gram.last, gram.count);
    }
    if (given_up) table.give_up(neuron);
  }
}

}  // namespace cajal::atlas
