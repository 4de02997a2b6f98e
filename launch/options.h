#pragma once
// The command line and INI files, through Boost.Program_options, onto a FieldTable.

#include <string>
#include <vector>

#include "launch/command.h"

namespace dm::launch {

struct ParsedOptions {
  bool help = false;          // --help: print the command's help, do nothing else
  bool print_config = false;  // --print-config: print the resolved INI, do nothing else
};

/// Sets the command's fields from `arguments` (without program and command name): --config FILE (INI) first,
/// then
/// --override KEY=VALUE and the options themselves, which win. A preset named anywhere is applied before all
/// of them. Throws ExitCode::usage for anything unknown (with the nearest name), repeated or half-parsed.
ParsedOptions parse_options(Command& command, const std::vector<std::string>& arguments);

/// What every command takes beside its own options, with its value in capitals, and what it does.
struct CommonOption {
  const char* option;  // "--config FILE"
  const char* help;
};
const std::vector<CommonOption>& common_options();

/// "[mpirun -n N] diffmamba train [--config FILE] [--option VALUE ...]"
std::string usage_line(const Command& command);
/// The text of `diffmamba COMMAND --help`, by section, with defaults and legal values.
std::string help_text(const Command& command);

}  // namespace dm::launch
