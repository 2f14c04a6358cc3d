#pragma once
// The command line as data: one table of commands and flags that the parser, the help texts and
// docs/cli.md share.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace heddle::cli {

enum class CommandId : unsigned {
  kGenerate,
  kChat,
  kScore,
  kTokenize,
  kInspect,
  kBench,
  kBenchServe,
  kPull,
  kVersion,
  kSelftest,
  kServe,
  kBatch,
  kNeedle,
  kHelp,
  kDocs,
};

enum class ValueKind { kSwitch, kInt, kFloat, kChoice, kText, kPath, kIntList };

/// One flag. `name` is the long name without dashes, unique within a command; it is also the key in
/// configuration files and, in capitals with HEDDLE_ before it, the environment twin.
struct FlagSpec {
  std::string_view name;
  char letter = '\0';     // -n
  unsigned commands = 0;  // bit 1 << CommandId
  ValueKind kind = ValueKind::kSwitch;
  std::string_view value = {};  // what stands for the value in help texts: "N"
  std::string_view help = {};
  std::string_view fallback = {};  // the default, as help texts state it
  double low = 0.0;                // numbers: allowed range, ends included
  double high = 0.0;               // for whole numbers 2^63 stands for 2^63 - 1
  bool low_open = false;           // low itself is not allowed
  std::string_view choices = {};   // kChoice: "f32 f16 bf16"
  bool env = false;                // has an environment twin
  bool repeatable = false;         // else the last one counts
  bool leaves = false;             // a switch that prints something and leaves: needs no operand
};

struct CommandSpec {
  CommandId id = CommandId::kHelp;
  std::string_view name;
  std::string_view operands;  // "MODEL"
  int min_operands = 0;
  int max_operands = 0;
  std::string_view summary;
  std::string_view details = {};  // paragraphs for help texts and docs/cli.md
  bool hidden = false;
  bool model_configs = false;  // --config may name a model's config.json in place of MODEL
};

std::span<const FlagSpec> flag_table();
std::span<const CommandSpec> command_table();

/// Throws kBadInput listing the commands.
const CommandSpec& find_command(std::string_view name);
std::vector<const FlagSpec*> flags_of(const CommandSpec& command);
std::string env_name(const FlagSpec& flag);        // "HEDDLE_TOP_K"
std::string allowed_values(const FlagSpec& flag);  // "a number from 0 to 100"
std::vector<std::string_view> choices_of(const FlagSpec& flag);

/// Where values come from besides the arguments; replaced in tests.
struct ParseSources {
  std::function<const char*(const char*)> environment;       // like std::getenv
  std::function<std::string(const std::string&)> read_file;  // text of a configuration file
};

/// The checked values of one call. Asking for a flag that the command does not have is an error of
/// ours; asking for one that was not given is nullopt or an empty list.
class Arguments {
 public:
  explicit Arguments(const CommandSpec& command) : command_(&command) {}

  const CommandSpec& command() const { return *command_; }
  const std::vector<std::string>& operands() const { return operands_; }
  bool on(std::string_view name) const;
  std::optional<std::int64_t> integer(std::string_view name) const;
  std::optional<double> number(std::string_view name) const;
  std::optional<std::string> text(std::string_view name) const;
  std::vector<std::string> texts(std::string_view name) const;
  std::vector<std::int64_t> integers(std::string_view name) const;
  bool has(std::string_view name) const { return values(name) != nullptr; }
  /// The file of --config, if it describes a model rather than settings; "" otherwise.
  const std::string& model_config() const { return model_config_; }

 private:
  friend class Parser;
  const std::vector<std::string>* values(std::string_view name) const;

  const CommandSpec* command_;
  std::vector<std::string> operands_;
  std::string model_config_;
  std::map<std::string, std::vector<std::string>, std::less<>> values_;
};

/// Parses what follows the command's name. Flags win over the environment, the environment over the
/// file of --config. Throws kBadInput naming the flag, the value and what is allowed. After --help
/// and flags that `leave` nothing more is required, after --kernels no operand is.
Arguments parse_arguments(const CommandSpec& command,
                          std::span<const std::string> args,
                          const ParseSources& sources);

/// "HEDDLE_TEMPP is not known" for every such name that nothing reads.
std::vector<std::string> unknown_environment(std::span<const std::string> names);

}  // namespace heddle::cli
