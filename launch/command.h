#pragma once
// One subcommand of the program: its options as a FieldTable, its help, and what it does.

#include <memory>
#include <string>
#include <vector>

#include "core/exit_code.h"
#include "core/fields.h"

namespace dm::launch {

/// What main hands to a command. argc and argv are MPI's to look at.
struct Invocation {
  int argc;
  char** argv;
};

class Command {
 public:
  virtual ~Command() = default;

  virtual const char* name() const = 0;
  virtual const char* summary() const = 0;      // one line for `diffmamba --help`
  virtual const char* description() const = 0;  // paragraphs for `diffmamba COMMAND --help`
  /// Field that the one positional argument sets, or nullptr: `inspect PATH`. A list takes several: `report
  /// RUN RUN`.
  virtual const char* positional() const { return nullptr; }
  /// Whether it may be started by mpirun or srun as several ranks.
  virtual bool takes_ranks() const { return false; }

  const FieldTable& table() const { return table_; }
  /// Replaces fields by those of a named preset, if one was asked for; what was set by hand is set again
  /// afterwards.
  virtual void apply_presets() {}
  /// After parsing. Throws Error.
  virtual ExitCode run(const Invocation& invocation) = 0;

 protected:
  FieldTable table_;
};

/// All commands, in the order of the help. Each is made by the factory in its own file.
std::vector<std::unique_ptr<Command>> make_commands();

std::unique_ptr<Command> make_prepare_command();
std::unique_ptr<Command> make_train_command();
std::unique_ptr<Command> make_eval_command();
std::unique_ptr<Command> make_generate_command();
std::unique_ptr<Command> make_inspect_command();
std::unique_ptr<Command> make_verify_command();
std::unique_ptr<Command> make_bench_command();
std::unique_ptr<Command> make_export_command();
std::unique_ptr<Command> make_import_command();
std::unique_ptr<Command> make_parity_command();
std::unique_ptr<Command> make_plan_command();
std::unique_ptr<Command> make_status_command();
std::unique_ptr<Command> make_report_command();

}  // namespace dm::launch
