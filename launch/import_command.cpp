#include <fmt/format.h>

#include "launch/command.h"
#include "train/import_model.h"

namespace dm::launch {
namespace {

class ImportCommand final : public Command {
 public:
  ImportCommand() { table_.add("import", config_); }

  const char* name() const override { return "import"; }
  const char* summary() const override { return "make a run of a Hugging Face or state-spaces model"; }
  const char* description() const override {
    return "Reads config.json with safetensors, or a torch state dict, and writes a run with one checkpoint "
           "at step 0: for "
           "eval, generate,\n"
           "inspect, export, and train --init-from. --swap-last makes the last layers of a plain Mamba-2 "
           "differential.";
  }

  ExitCode run(const Invocation&) override {
    train::import_model(config_);
    fmt::print("{}: a run with a checkpoint at step 0\n", config_.output);
    return ExitCode::ok;
  }

 private:
  train::ImportConfig config_;
};

}  // namespace

std::unique_ptr<Command> make_import_command() { return std::make_unique<ImportCommand>(); }

}  // namespace dm::launch
