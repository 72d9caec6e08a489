#pragma once
#include "cajal/atlas/findings.h"
#include "cajal/atlas/sqlite.h"

// The part of the atlas file that holds the collectors' tables.
namespace cajal::atlas {

/// Throws Error unless the file is an atlas of the schema that this build reads.
void check_atlas(Database& db);

/// Statements that make the tables.
extern const char* const collector_tables;

/// Fixed-point sums as they lie in a blob: low and high 64 bits, little-endian as this machine is.
struct StoredSum {
  uint64_t low;
  int64_t high;
};
inline StoredSum stored(const ExactSum& sum) { return {sum.low(), sum.high()}; }
inline ExactSum restored(const StoredSum& sum) { return {sum.high, sum.low}; }

void save_totals(Database& db, const Census& census);
void load_totals(Database& db, Census& census);

void save_tables(Database& db, int64_t index, const LayerCensus& layer);
/// Fills layer.tables, which were made for what the file says it holds.
void load_tables(Database& db, int64_t index, LayerCensus& layer);

/// The tables of findings: statements that make them, and both ways.
extern const char* const finding_tables;
void save_findings(Database& db, const Findings& findings);
std::optional<Findings> read_findings(Database& db);

}  // namespace cajal::atlas
