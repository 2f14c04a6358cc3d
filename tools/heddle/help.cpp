#include "tools/heddle/help.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "models/families/families.h"

namespace heddle::cli {
namespace {

constexpr std::size_t kWidth = 96;

/// `text` wrapped at kWidth columns, every line after `indent` blanks; newlines start paragraphs.
std::string wrap(std::string_view text, std::size_t indent) {
  std::string out(indent, ' ');
  std::size_t column = indent;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find_first_of(" \n"), text.size());
    const std::string_view word = text.substr(0, end);
    if (column > indent && column + 1 + word.size() > kWidth) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    }
    if (column > indent) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
    if (end < text.size() && text[end] == '\n') {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

std::string flag_head(const FlagSpec& flag) {
  std::string head = flag.letter != '\0' ? fmt::format("-{}, --{}", flag.letter, flag.name)
                                         : fmt::format("    --{}", flag.name);
  if (flag.kind != ValueKind::kSwitch) head += fmt::format(" {}", flag.value);
  return head;
}

bool has_range(const FlagSpec& flag) {
  return flag.kind == ValueKind::kInt || flag.kind == ValueKind::kFloat ||
         flag.kind == ValueKind::kIntList || flag.kind == ValueKind::kChoice;
}

std::string flag_text(const FlagSpec& flag) {
  std::string text(flag.help);
  if (has_range(flag)) text += fmt::format("; {}", allowed_values(flag));
  if (!flag.fallback.empty()) text += fmt::format(" [{}]", flag.fallback);
  if (flag.env) text += fmt::format(" ({})", env_name(flag));
  return text;
}

std::string usage_line(const CommandSpec& command) {
  std::string line = fmt::format("heddle {}", command.name);
  if (!command.operands.empty()) line += fmt::format(" {}", command.operands);
  return line + " [flags]";
}

/// A cell of a table of Markdown.
std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

bool belongs(const FlagSpec& flag, const CommandSpec& command) {
  return (flag.commands & (1U << static_cast<unsigned>(command.id))) != 0;
}

bool is_shared(const FlagSpec& flag) {
  return std::popcount(flag.commands) > 1;
}

std::string commands_of(const FlagSpec& flag) {
  std::string names;
  bool all = true;
  for (const CommandSpec& command : command_table()) {
    if (command.hidden) continue;
    if (belongs(flag, command)) {
      names += (names.empty() ? "" : ", ") + std::string(command.name);
    } else {
      all = false;
    }
  }
  return all ? "all" : names;
}

/// A row without its end: the table of shared flags has one more column.
std::string flag_row(const FlagSpec& flag) {
  const std::string names = flag.letter != '\0'
                                ? fmt::format("`-{}`, `--{}`", flag.letter, flag.name)
                                : fmt::format("`--{}`", flag.name);
  const std::string value = flag.kind == ValueKind::kSwitch ? ""
                            : has_range(flag)               ? allowed_values(flag)
                                                            : std::string(flag.value);
  return fmt::format("| {} | {} | {} | {} | {} |", names, cell(value), cell(flag.fallback),
                     flag.env ? fmt::format("`{}`", env_name(flag)) : "", cell(flag.help));
}

/// Of help its line in the table of commands says all.
bool has_section(const CommandSpec& command) {
  return !command.hidden && command.id != CommandId::kHelp;
}

std::string command_markdown(const CommandSpec& command) {
  std::string text = fmt::format("\n## heddle {}\n\n`{}`: {}.\n", command.name, usage_line(command),
                                 command.summary);
  std::string_view rest = command.details;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    text += fmt::format("\n{}\n", rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  std::string own;
  std::string shared;
  for (const FlagSpec* flag : flags_of(command)) {
    if (is_shared(*flag)) {
      shared += fmt::format("{}`--{}`", shared.empty() ? "" : ", ", flag->name);
    } else {
      own += flag_row(*flag) + "\n";
    }
  }
  if (!own.empty()) {
    text += "\n| flag | value | default | environment | |\n| --- | --- | --- | --- | --- |\n" + own;
  }
  return text + fmt::format("\nAlso ([below](#flags-of-several-commands)): {}.\n", shared);
}

constexpr std::string_view kExitCodes =
    "0 done; 1 failed while running; 2 wrong usage or input; 3 not enough memory; 4 device; "
    "130 interrupted";

}  // namespace

std::string help_overview() {
  std::string text = "heddle: LLM inference\n\nusage: heddle COMMAND [operands] [flags]\n\n";
  for (const CommandSpec& command : command_table()) {
    if (!command.hidden) text += fmt::format("  {:<11} {}\n", command.name, command.summary);
  }
  text +=
      "\nMODEL is a .gguf file, a model folder with safetensors, or a name: needle-hybrid comes\n"
      "with Heddle, others are pulled (heddle pull smollm2-135m).\n";
  text += "Answers go to standard output, all else to standard error.\n";
  text += fmt::format("Exit codes: {}.\n", kExitCodes);
  text += "heddle help COMMAND tells all about one; heddle --list-kernels lists the kernels.\n";
  return text;
}

std::string help_of(const CommandSpec& command) {
  std::string text = fmt::format("heddle {}: {}\n\nusage: {}\n", command.name, command.summary,
                                 usage_line(command));
  if (!command.details.empty()) text += "\n" + wrap(command.details, 0) + "\n";
  text += "\nflags (with [default] and (environment variable)):\n";
  for (const FlagSpec* flag : flags_of(command)) {
    text += fmt::format("  {}\n{}\n", flag_head(*flag), wrap(flag_text(*flag), 8));
  }
  return text;
}

std::string cli_markdown() {
  std::string text =
      "# The command line\n\n"
      "<!-- Made by `heddle docs cli > docs/cli.md` from tools/heddle/flags/; a test "
      "compares. -->\n\n"
      "`heddle COMMAND [operands] [flags]`. MODEL is a `.gguf` file, a model folder with "
      "safetensors, or "
      "a name: `needle-hybrid`\ncomes with Heddle, others are fetched with `heddle pull`. Answers "
      "go to standard output, all else to standard error; progress\n"
      "bars appear only on a terminal. Errors begin with `error: `. A number that is no number or "
      "outside its range is an error,\nnot a guess. Of a flag given twice the last one counts, "
      "unless it may be repeated. Flags take their value as\n`--flag VALUE` or `--flag=VALUE`, "
      "short ones too (`-t 2`, `-t=2`); `--` ends the flags. The environment twins and the\n"
      "`--config` file: [configuration.md](configuration.md).\n\n";
  text +=
      "| exit code | meaning |\n| --- | --- |\n"
      "| 0 | done |\n"
      "| 1 | failed while running (a write that failed and a failed selftest too) |\n"
      "| 2 | wrong usage or input, numbers out of range |\n"
      "| 3 | not enough memory; the message says what is needed, free and to lower |\n"
      "| 4 | the device or its driver |\n"
      "| 130 | interrupted |\n\n";
  text += "| command | |\n| --- | --- |\n";
  for (const CommandSpec& command : command_table()) {
    if (command.hidden) continue;
    std::string anchor(command.name);
    std::ranges::replace(anchor, ' ', '-');
    text += has_section(command) ? fmt::format("| [`{}`](#heddle-{}) |", command.name, anchor)
                                 : fmt::format("| `{} {}` |", command.name, command.operands);
    text += fmt::format(" {} |\n", cell(command.summary));
  }
  for (const CommandSpec& command : command_table()) {
    if (has_section(command)) text += command_markdown(command);
  }
  text += "\n## Flags of several commands\n\n";
  text += "| flag | value | default | environment | | commands |\n";
  text += "| --- | --- | --- | --- | --- | --- |\n";
  for (const FlagSpec& flag : flag_table()) {
    if (is_shared(flag)) text += flag_row(flag) + fmt::format(" {} |\n", commands_of(flag));
  }
  return text;
}

std::string families_markdown() {
  std::string text =
      "| family | models | attention | safetensors: `model_type` | GGUF: architecture |\n"
      "| --- | --- | --- | --- | --- |\n";
  for (const Family& family : families()) {
    std::string types = fmt::format("`{}`", family.name);
    if (!family.other_name.empty()) types += fmt::format(", `{}`", family.other_name);
    const std::string gguf = family.gguf.empty() ? "" : fmt::format("`{}`", family.gguf);
    text += fmt::format("| {} | {} | {} | {} | {} |\n", family.name, family.models,
                        family.attention, types, gguf);
  }
  return text;
}

}  // namespace heddle::cli
