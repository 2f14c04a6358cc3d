#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/mapping_guard.h"
#include "models/quote_text.h"
#include "tools/heddle/commands.h"
#include "tools/heddle/flags.h"
#include "tools/heddle/help.h"
#include "tools/heddle/interrupt.h"
#include "tools/heddle/io.h"
#include "tools/serve/api/api_docs.h"

namespace heddle::cli {
namespace {

LogLevel log_level_of(const Arguments& args) {
  const std::string name = args.text("log-level").value_or(args.on("verbose") ? "info" : "warning");
  if (name == "trace") return LogLevel::kTrace;
  if (name == "debug") return LogLevel::kDebug;
  if (name == "info") return LogLevel::kInfo;
  if (name == "error") return LogLevel::kError;
  if (name == "off") return LogLevel::kOff;
  return LogLevel::kWarning;
}

void warn_of_unknown_environment() {
  std::vector<std::string> names;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string text(*entry);
    names.push_back(text.substr(0, text.find('=')));
  }
  for (const std::string& name : unknown_environment(names)) {
    log_warning(fmt::format("the environment variable {} is not one of Heddle's", printable(name)));
  }
}

int help(const Arguments& args) {
  const std::vector<std::string>& names = args.operands();
  const std::string name = names.size() == 2 ? names[0] + " " + names[1]
                           : names.empty()   ? ""
                                             : names[0];
  write_stdout(name.empty() ? help_overview() : help_of(find_command(name)));
  return 0;
}

int docs(const Arguments& args) {
  const std::string& document = args.operands()[0];
  if (document == "cli") {
    write_stdout(cli_markdown());
  } else if (document == "families") {
    write_stdout(families_markdown());
  } else if (document == "api") {
    write_stdout(serve::api_markdown({}));
  } else {
    throw bad_input(fmt::format("docs: unknown document {}; there are: cli, families, api",
                                quote_text(document)));
  }
  return 0;
}

int run_command(const Arguments& args) {
  switch (args.command().id) {
    case CommandId::kGenerate:
      return run_generate(args);
    case CommandId::kChat:
      return run_chat(args);
    case CommandId::kScore:
      return run_score(args);
    case CommandId::kTokenize:
      return run_tokenize(args);
    case CommandId::kInspect:
      return run_inspect(args);
    case CommandId::kBench:
      return run_bench(args);
    case CommandId::kBenchServe:
      return run_bench_serve(args);
    case CommandId::kPull:
      return run_pull(args);
    case CommandId::kVersion:
      return run_version(args);
    case CommandId::kSelftest:
      return run_selftest_command(args);
    case CommandId::kServe:
      return run_serve(args);
    case CommandId::kBatch:
      return run_batch(args);
    case CommandId::kNeedle:
      return run_needle(args);
    case CommandId::kHelp:
      return help(args);
    case CommandId::kDocs:
      return docs(args);
  }
  throw runtime_failure("internal: a command without a function");
}

/// Options that stand where a command would: the same as a command of their own.
std::vector<std::string> spelled_out(std::vector<std::string> args) {
  if (args.empty()) return args;
  if (args[0] == "--help" || args[0] == "-h") args[0] = "help";
  if (args[0] == "--version") args[0] = "version";
  if (args[0] == "--list-kernels") args.insert(args.begin(), "version");
  // A command of two words; a model's file of that name is ./serve.
  if (args.size() > 1 && args[0] == "bench" && args[1] == "serve") {
    args[0] = "bench serve";
    args.erase(args.begin() + 1);
  }
  return args;
}

int dispatch(std::vector<std::string> args) {
  args = spelled_out(std::move(args));
  if (args.empty()) {
    write_stderr(help_overview());
    throw bad_input("a command is missing");
  }
  const CommandSpec& command = find_command(args[0]);
  const Arguments parsed = parse_arguments(
      command, std::span<const std::string>(args).subspan(1),
      {.environment = [](const char* name) { return std::getenv(name); }, .read_file = read_input});
  if (parsed.on("help")) {
    write_stdout(help_of(command));
    return 0;
  }
  set_log_level(log_level_of(parsed));
  warn_of_unknown_environment();
  for (const FlagSpec* flag : flags_of(command)) {
    if (flag->name == "list-kernels" && parsed.on("list-kernels")) return list_kernels(parsed);
  }
  return run_command(parsed);
}

int guarded(int argc, char** argv) {
  const auto fail = [](int code, std::string_view text) {
    write_stderr(fmt::format("error: {}\n", printable(text)));
    return code;
  };
  try {
    return dispatch({argv + (argc > 0 ? 1 : 0), argv + argc});
  } catch (const Error& e) {
    return fail(static_cast<int>(e.kind()), e.what());
  } catch (const std::bad_alloc&) {
    return fail(static_cast<int>(ErrorKind::kMemory), "out of memory");
  } catch (const std::exception& e) {
    return fail(static_cast<int>(ErrorKind::kRuntime), e.what());
  }
}

}  // namespace
}  // namespace heddle::cli

int main(int argc, char** argv) {
  heddle::cli::guard_standard_streams();
  heddle::cli::install_interrupt_handler();
  heddle::install_mapping_guard();
  return heddle::cli::guarded(argc, argv);
}
