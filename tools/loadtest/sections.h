#pragma once
// What is measured of a server under load, each with a server of its own.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tools/loadtest/child_server.h"
#include "tools/loadtest/peers.h"

namespace heddle::loadtest {

struct LoadOptions {
  bool quick = false;  // small numbers, and bounds for a machine that does other things too
  int http_threads = 1;
};

struct Row {
  std::string what;
  double value = 0.0;
  std::string unit = {};
  double bound = 0.0;  // asked for
  enum class Asked { kNothing, kLess, kMore, kSame } asked = Asked::kNothing;

  bool holds() const;
};

struct Section {
  std::string name;
  std::string about;
  std::vector<Row> (*run)(const LoadOptions&);
};

const std::vector<Section>& sections();

std::vector<Row> run_streams(const LoadOptions& options);
std::vector<Row> run_idle(const LoadOptions& options);
std::vector<Row> run_models(const LoadOptions& options);
std::vector<Row> run_burst(const LoadOptions& options);
std::vector<Row> run_aborts(const LoadOptions& options);
std::vector<Row> run_slope(const LoadOptions& options);

/// p in 0 to 1; sorts.
double percentile(std::vector<double>& values, double p);
double ms_between(Clock::time_point a, Clock::time_point b);
/// A chat request in bytes.
std::string chat(std::string_view content, std::int64_t n_tokens, bool stream);
/// Counters as at the start, each as a row.
void add_counters(std::vector<Row>& rows, const Counters& before, const Counters& after);

}  // namespace heddle::loadtest
