#include "tools/heddle/flags.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "models/quote_text.h"
#include "tools/heddle/similar_name.h"

namespace heddle::cli {
namespace {

constexpr std::string_view kForeignVariables[] = {
    "HEDDLE_BUILD",      "HEDDLE_HOME",      "HEDDLE_DATA",  "HEDDLE_CPU_ISA",
    "HEDDLE_TEST_MODEL", "HEDDLE_LOG_LINES", "HEDDLE_WERROR"};

bool belongs(const FlagSpec& flag, const CommandSpec& command) {
  return (flag.commands & (1U << static_cast<unsigned>(command.id))) != 0;
}

std::int64_t whole_bound(double bound) {
  return bound >= 0x1p63 ? std::numeric_limits<std::int64_t>::max()
                         : static_cast<std::int64_t>(bound);
}

bool in_range(const FlagSpec& flag, double value) {
  return (flag.low_open ? value > flag.low : value >= flag.low) && value <= flag.high;
}

bool in_range(const FlagSpec& flag, std::int64_t value) {
  return value >= whole_bound(flag.low) && value <= whole_bound(flag.high);
}

std::optional<std::int64_t> to_integer(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::optional<double> to_number(std::string_view text) {
  double value = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  if (!std::isfinite(value)) return std::nullopt;
  return value;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

bool is_valid(const FlagSpec& flag, std::string_view text) {
  switch (flag.kind) {
    case ValueKind::kSwitch:
      return text == "true" || text == "false" || text == "1" || text == "0";
    case ValueKind::kInt: {
      const auto value = to_integer(text);
      return value && in_range(flag, *value);
    }
    case ValueKind::kFloat: {
      const auto value = to_number(text);
      return value && in_range(flag, *value);
    }
    case ValueKind::kIntList: {
      const auto parts = split(text, ',');
      return std::all_of(parts.begin(), parts.end(), [&](std::string_view part) {
        const auto value = to_integer(part);
        return value && in_range(flag, *value);
      });
    }
    case ValueKind::kChoice: {
      const auto choices = choices_of(flag);
      return std::find(choices.begin(), choices.end(), text) != choices.end();
    }
    case ValueKind::kPath:
      return !text.empty() && text.find('\0') == std::string_view::npos;
    case ValueKind::kText:
      return true;
  }
  return false;
}

std::string range_text(const FlagSpec& flag) {
  const auto number = [&](double value) {
    return flag.kind == ValueKind::kFloat ? fmt::format("{}", value)
                                          : fmt::format("{}", whole_bound(value));
  };
  if (flag.low_open) return fmt::format("above {} up to {}", number(flag.low), number(flag.high));
  return fmt::format("from {} to {}", number(flag.low), number(flag.high));
}

}  // namespace

const CommandSpec& find_command(std::string_view name) {
  std::vector<std::string_view> known;
  for (const CommandSpec& command : command_table()) {
    if (command.name == name) return command;
    if (!command.hidden) known.push_back(command.name);
  }
  const auto guess = similar_name(name, known);
  throw bad_input(fmt::format("unknown command {}{}; commands: {}", quote_text(name),
                              guess ? fmt::format("; did you mean {}?", *guess) : "",
                              fmt::join(known, ", ")));
}

std::vector<const FlagSpec*> flags_of(const CommandSpec& command) {
  std::vector<const FlagSpec*> flags;
  for (const FlagSpec& flag : flag_table()) {
    if (belongs(flag, command)) flags.push_back(&flag);
  }
  return flags;
}

std::string env_name(const FlagSpec& flag) {
  std::string name = "HEDDLE_";
  for (const char c : flag.name) {
    name += c == '-' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  }
  return name;
}

std::vector<std::string_view> choices_of(const FlagSpec& flag) {
  return split(flag.choices, ' ');
}

std::string allowed_values(const FlagSpec& flag) {
  switch (flag.kind) {
    case ValueKind::kSwitch:
      return "true or false";
    case ValueKind::kInt:
      return "a whole number " + range_text(flag);
    case ValueKind::kFloat:
      return "a number " + range_text(flag);
    case ValueKind::kIntList:
      return "whole numbers " + range_text(flag) + ", separated by commas";
    case ValueKind::kChoice: {
      std::string text = "one of ";
      for (const auto choice : choices_of(flag)) {
        text += (text.size() > 7 ? ", " : "") + std::string(choice);
      }
      return text;
    }
    case ValueKind::kPath:
      return "a file name";
    case ValueKind::kText:
      break;
  }
  return "any text";
}

/// Fills one Arguments; `where` in messages is the flag as typed, the variable or the file's key.
class Parser {
 public:
  Parser(const CommandSpec& command, const ParseSources& sources)
      : command_(command), sources_(sources), result_(command) {}

  Arguments parse(std::span<const std::string> args) {
    read_flags(args);
    if (result_.on("help")) return std::move(result_);
    read_environment();
    if (const auto file = result_.text("config")) read_config(*file);
    const auto flags = flags_of(command_);
    const bool leaves = std::any_of(flags.begin(), flags.end(), [&](const FlagSpec* flag) {
      return flag->leaves && result_.on(flag->name);
    });
    if (!leaves) check_operands();
    return std::move(result_);
  }

 private:
  const FlagSpec* find(std::string_view name) const {
    for (const FlagSpec& flag : flag_table()) {
      if (belongs(flag, command_) && flag.name == name) return &flag;
    }
    return nullptr;
  }
  const FlagSpec* find(char letter) const {
    for (const FlagSpec& flag : flag_table()) {
      if (belongs(flag, command_) && flag.letter == letter) return &flag;
    }
    return nullptr;
  }

  /// "; did you mean --temp?", or nothing where no flag is like it.
  std::string guess(std::string_view typed) const {
    std::vector<std::string_view> names;
    for (const FlagSpec* flag : flags_of(command_)) names.push_back(flag->name);
    const auto name = similar_name(typed, names);
    return name ? fmt::format("; did you mean --{}?", *name) : "";
  }

  std::string valid_flags() const {
    std::string text;
    for (const FlagSpec* flag : flags_of(command_)) {
      if (!text.empty()) text += ", ";
      if (flag->letter != '\0') text += fmt::format("-{} ", flag->letter);
      text += fmt::format("--{}", flag->name);
    }
    return text;
  }

  void read_flags(std::span<const std::string> args) {
    for (std::size_t i = 0; i < args.size(); ++i) {
      const std::string& arg = args[i];
      if (arg == "--") {
        result_.operands_.insert(result_.operands_.end(), args.begin() + static_cast<long>(i) + 1,
                                 args.end());
        return;
      }
      if (arg.size() < 2 || arg[0] != '-') {
        result_.operands_.push_back(arg);
        continue;
      }
      const bool is_long = arg.starts_with("--");
      const bool joined = is_long || (arg.size() > 2 && arg[2] == '=');  // --flag=VALUE, -f=VALUE
      const std::size_t equals = joined ? arg.find('=', 2) : std::string::npos;
      const std::string typed = arg.substr(0, equals);
      const FlagSpec* flag = is_long             ? find(std::string_view(typed).substr(2))
                             : typed.size() == 2 ? find(typed[1])
                                                 : nullptr;
      if (flag == nullptr) {
        throw bad_input(fmt::format("{}: unknown flag {}{}; valid: {}", command_.name,
                                    quote_text(typed), is_long ? guess(typed.substr(2)) : "",
                                    valid_flags()));
      }
      if (flag->kind == ValueKind::kSwitch) {
        if (equals != std::string::npos) {
          throw bad_input(
              fmt::format("{} takes no value, got {}", typed, quote_text(arg.substr(equals + 1))));
        }
        set(*flag, typed, "true");
        if (flag->name == "help") return;
        continue;
      }
      if (equals != std::string::npos) {
        set(*flag, typed, arg.substr(equals + 1));
      } else if (i + 1 < args.size()) {
        set(*flag, typed, args[++i]);
      } else {
        throw bad_input(fmt::format("{} needs a value: {}", typed, allowed_values(*flag)));
      }
    }
  }

  void read_environment() {
    for (const FlagSpec* flag : flags_of(command_)) {
      if (!flag->env || result_.has(flag->name)) continue;
      const std::string variable = env_name(*flag);
      const char* value = sources_.environment(variable.c_str());
      if (value == nullptr || *value == '\0') continue;
      if (flag->repeatable) {
        for (const auto part : split(value, ',')) set(*flag, variable, std::string(part));
      } else {
        set(*flag, variable, value);
      }
    }
  }

  void read_config(const std::string& file) {
    const Json document = parse_json(sources_.read_file(file), file);
    if (!document.is_object()) {
      throw bad_input(fmt::format("{}: must be a JSON object of flag names and values", file));
    }
    if (document.contains("model_type")) {  // a model's own config.json
      if (!command_.model_configs) {
        throw bad_input(fmt::format(
            "{}: model_type: {} has no use for a model's config; inspect and bench have", file,
            command_.name));
      }
      result_.model_config_ = file;
      return;
    }
    for (const auto& [key, value] : document.items()) {
      const std::string where = fmt::format("{}: {}", file, quote_text(key));
      const FlagSpec* flag = find(key);
      if (flag == nullptr || key == "help" || key == "config") {
        if (key == "help" || key == "config" || !is_flag_of_any_command(key)) {
          throw bad_input(fmt::format("{}: unknown key; valid: {}", where, config_keys()));
        }
        continue;  // another command's: one file may serve them all
      }
      if (result_.has(key)) continue;
      if (value.is_array() && (flag->repeatable || flag->kind == ValueKind::kIntList)) {
        set_list(*flag, where, value);
      } else {
        set(*flag, where, scalar_text(*flag, where, value));
      }
    }
  }

  void set_list(const FlagSpec& flag, const std::string& where, const Json& list) {
    std::string joined;
    for (const Json& item : list) {
      const std::string text = scalar_text(flag, where, item);
      if (flag.repeatable) set(flag, where, text);
      joined += (joined.empty() ? "" : ",") + text;
    }
    if (!flag.repeatable) set(flag, where, joined);
  }

  static std::string scalar_text(const FlagSpec& flag,
                                 const std::string& where,
                                 const Json& value) {
    if (value.is_string()) return value.get<std::string>();
    if (value.is_number() || value.is_boolean()) return value.dump();
    throw bad_input(fmt::format("{}: {} is not valid; allowed: {}", where,
                                value.is_null() ? "null" : "a list or object",
                                allowed_values(flag)));
  }

  static bool is_flag_of_any_command(std::string_view name) {
    const auto flags = flag_table();
    return std::any_of(flags.begin(), flags.end(),
                       [&](const FlagSpec& flag) { return flag.name == name; });
  }

  std::string config_keys() const {
    std::string text;
    for (const FlagSpec* flag : flags_of(command_)) {
      if (flag->name == "help" || flag->name == "config") continue;
      text += (text.empty() ? "" : ", ") + std::string(flag->name);
    }
    return text;
  }

  void set(const FlagSpec& flag, std::string_view where, std::string value) {
    if (!is_valid(flag, value)) {
      throw bad_input(fmt::format("{}: {} is not valid; allowed: {}", where, quote_text(value),
                                  allowed_values(flag)));
    }
    std::vector<std::string>& values = result_.values_[std::string(flag.name)];
    if (!flag.repeatable) values.clear();
    values.push_back(std::move(value));
  }

  void check_operands() const {
    const auto count = static_cast<int>(result_.operands_.size());
    const bool kernels = find("kernels") != nullptr && result_.on("kernels");
    const bool planned = !result_.model_config_.empty();
    if (planned && (kernels || count > 0)) {  // with --kernels the operand is a filter
      const std::string what = kernels ? "--kernels" : "MODEL " + quote_text(result_.operands_[0]);
      throw bad_input(
          fmt::format("{}: {} and the model of --config exclude each other", command_.name, what));
    }
    if (count < command_.min_operands && !kernels && !planned) {
      throw bad_input(fmt::format("{0}: {1} is missing; usage: heddle {0} {1} [flags]",
                                  command_.name, command_.operands));
    }
    if (count > command_.max_operands) {
      throw bad_input(fmt::format(
          "{0}: unexpected argument {1}; usage: heddle {0} {2} [flags]", command_.name,
          quote_text(result_.operands_[static_cast<std::size_t>(command_.max_operands)]),
          command_.operands));
    }
  }

  const CommandSpec& command_;
  const ParseSources& sources_;
  Arguments result_;
};

const std::vector<std::string>* Arguments::values(std::string_view name) const {
  const auto flags = flag_table();
  HEDDLE_CHECK(std::any_of(flags.begin(), flags.end(), [&](const FlagSpec& flag) {
    return flag.name == name && belongs(flag, *command_);
  }));
  const auto it = values_.find(name);
  return it == values_.end() ? nullptr : &it->second;
}

bool Arguments::on(std::string_view name) const {
  const auto* list = values(name);
  return list != nullptr && (list->back() == "true" || list->back() == "1");
}

std::optional<std::int64_t> Arguments::integer(std::string_view name) const {
  const auto* list = values(name);
  return list == nullptr ? std::nullopt : to_integer(list->back());
}

std::optional<double> Arguments::number(std::string_view name) const {
  const auto* list = values(name);
  return list == nullptr ? std::nullopt : to_number(list->back());
}

std::optional<std::string> Arguments::text(std::string_view name) const {
  const auto* list = values(name);
  return list == nullptr ? std::nullopt : std::optional(list->back());
}

std::vector<std::string> Arguments::texts(std::string_view name) const {
  const auto* list = values(name);
  return list == nullptr ? std::vector<std::string>() : *list;
}

std::vector<std::int64_t> Arguments::integers(std::string_view name) const {
  std::vector<std::int64_t> numbers;
  if (const auto* list = values(name)) {
    for (const auto part : split(list->back(), ',')) numbers.push_back(*to_integer(part));
  }
  return numbers;
}

Arguments parse_arguments(const CommandSpec& command,
                          std::span<const std::string> args,
                          const ParseSources& sources) {
  return Parser(command, sources).parse(args);
}

std::vector<std::string> unknown_environment(std::span<const std::string> names) {
  std::vector<std::string> unknown;
  for (const std::string& name : names) {
    if (!name.starts_with("HEDDLE_")) continue;
    const auto flags = flag_table();
    const bool known =
        std::any_of(flags.begin(), flags.end(),
                    [&](const FlagSpec& flag) { return flag.env && env_name(flag) == name; }) ||
        std::find(std::begin(kForeignVariables), std::end(kForeignVariables), name) !=
            std::end(kForeignVariables);
    if (!known) unknown.push_back(name);
  }
  return unknown;
}

}  // namespace heddle::cli
