// The server under load, over loopback and with an engine that computes nothing:
// docs/benchmarks/server.md. Built with the tests.

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/loadtest/child_server.h"
#include "tools/loadtest/sections.h"

namespace heddle::loadtest {
namespace {

constexpr const char* kUsage =
    "usage: loadtest [--quick] [--json] [--http-threads N] [SECTION...]\n"
    "Exit code 1 where something that is asked for does not hold. Sections:\n";

std::string asked_of(const Row& row) {
  switch (row.asked) {
    case Row::Asked::kNothing:
      return "";
    case Row::Asked::kLess:
      return fmt::format("< {:g}", row.bound);
    case Row::Asked::kMore:
      return fmt::format(">= {:g}", row.bound);
    case Row::Asked::kSame:
      return fmt::format("{:g}", row.bound);
  }
  return "";
}

void print(const Section& section, const std::vector<Row>& rows) {
  fmt::print("{}: {}\n", section.name, section.about);
  for (const Row& row : rows) {
    fmt::print("  {:<30} {:>12.10g} {:<4} {:>10}{}\n", row.what,
               static_cast<double>(static_cast<std::int64_t>(row.value * 100.0 + 0.5)) / 100.0,
               row.unit, asked_of(row), row.holds() ? "" : "  MISSED");
  }
  std::fflush(stdout);
}

nlohmann::json json_of(const std::vector<Row>& rows) {
  auto list = nlohmann::json::array();
  for (const Row& row : rows) {
    list.push_back({{"what", row.what},
                    {"value", row.value},
                    {"unit", row.unit},
                    {"asked", asked_of(row)},
                    {"holds", row.holds()}});
  }
  return list;
}

int usage() {
  std::string text = kUsage;
  for (const Section& s : sections()) text += fmt::format("  {:<8} {}\n", s.name, s.about);
  fmt::print(stderr, "{}", text);
  return 2;
}

int run(const std::vector<std::string>& args) {
  LoadOptions options;
  bool json = false;
  std::vector<std::string> wanted;
  for (std::size_t i = 0; i < args.size(); ++i) {
    if (args[i] == "--quick") {
      options.quick = true;
    } else if (args[i] == "--json") {
      json = true;
    } else if (args[i] == "--http-threads" && i + 1 < args.size()) {
      options.http_threads = std::atoi(args[++i].c_str());
    } else if (args[i].starts_with("-")) {
      return usage();
    } else {
      wanted.push_back(args[i]);
    }
  }
  for (const std::string& name : wanted) {
    if (std::ranges::none_of(sections(), [&](const Section& s) { return s.name == name; })) {
      return usage();
    }
  }
  raise_descriptor_limit();
  nlohmann::json all = nlohmann::json::object();
  bool good = true;
  for (const Section& section : sections()) {
    if (!wanted.empty() && std::ranges::find(wanted, section.name) == wanted.end()) continue;
    const std::vector<Row> rows = section.run(options);
    for (const Row& row : rows) good = good && row.holds();
    if (json) {
      all[section.name] = json_of(rows);
    } else {
      print(section, rows);
    }
  }
  if (json) fmt::print("{}\n", all.dump());
  return good ? 0 : 1;
}

}  // namespace
}  // namespace heddle::loadtest

int main(int argc, char** argv) {
  using namespace heddle::loadtest;
  try {
    if (argc == 3 && std::strcmp(argv[1], "--child") == 0) return run_child(argv[2]);
    return run({argv + 1, argv + argc});
  } catch (const std::exception& e) {
    fmt::print(stderr, "loadtest: {}\n", e.what());
    return 1;
  }
}
