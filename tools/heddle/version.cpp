#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/thread_pool.h"
#include "kernels/backend.h"
#include "kernels/device_caps.h"
#include "tools/heddle/commands.h"
#include "tools/heddle/commit.h"
#include "tools/heddle/io.h"
#include "tools/heddle/options.h"

namespace heddle::cli {
namespace {

struct CudaState {
  std::vector<std::string> devices;
  std::string reason;  // why there are none
};

CudaState cuda_state() {
  constexpr int kMaxDevices = 64;
  CudaState state;
  for (int i = 0; i < kMaxDevices; ++i) {
    try {
      state.devices.push_back(
          make_backend({.device = DeviceKind::kCuda, .cuda_device = i})->describe());
    } catch (const Error& e) {
      if (i == 0) state.reason = e.what();
      break;
    }
  }
  return state;
}

}  // namespace

std::string program_version() {
  return fmt::format("{} ({})", HEDDLE_VERSION, commit());
}

int run_version(const Arguments& args) {
  const CudaState cuda = cuda_state();
  const std::string features = detect_cpu().describe();
  if (args.on("json")) {
    write_json({{"version", HEDDLE_VERSION},
                {"commit", commit()},
                {"compiler", compiler()},
                {"cpu_features", features},
                {"cores", available_cores()},
                {"cuda_devices", cuda.devices}});
    return 0;
  }
  std::string text = fmt::format("heddle {}\ncommit    {}\ncompiler  {}\ncpu       {}, {} cores\n",
                                 HEDDLE_VERSION, commit(), compiler(), features, available_cores());
  if (cuda.devices.empty()) text += fmt::format("cuda      none ({})\n", cuda.reason);
  for (const std::string& device : cuda.devices) text += fmt::format("cuda      {}\n", device);
  write_stdout(text);
  return 0;
}

int list_kernels(const Arguments& args) {
  Json json = Json::object();
  std::string text;
  const auto add = [&](DeviceKind kind, const char* device) {
    for (const auto& [op, variants] : list_variants(kind)) {
      json[device][op] = variants;
      std::string names;
      for (const std::string& variant : variants) names += (names.empty() ? "" : ", ") + variant;
      text += fmt::format("{:<5} {:<14} {}\n", device, op, names);
    }
  };
  add(DeviceKind::kCpu, "cpu");
  try {
    add(DeviceKind::kCuda, "cuda");
  } catch (const Error&) {
    // A build without CUDA has none to list.
  }
  bool as_json = false;
  for (const FlagSpec* flag : flags_of(args.command())) as_json |= flag->name == "json";
  if (as_json && args.on("json")) {
    write_json(json);
  } else {
    write_stdout(text);
  }
  return 0;
}

}  // namespace heddle::cli
