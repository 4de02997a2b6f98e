#include <fmt/format.h>

#include "launch/command.h"
#include "train/export_model.h"

namespace dm::launch {
namespace {

class ExportCommand final : public Command {
 public:
  ExportCommand() { table_.add("export", config_); }

  const char* name() const override { return "export"; }
  const char* summary() const override { return "write a checkpoint as a Hugging Face model"; }
  const char* description() const override {
    return "Writes safetensors, config.json, generation_config.json and the tokenizer's file: plain Mamba "
           "and Mamba-2 as "
           "transformers\n"
           "loads them, Diff-Mamba-2 as published, any other model with this program's own config.";
  }

  ExitCode run(const Invocation&) override {
    const std::string layout = train::export_model(config_);
    fmt::print("{}: written as {}\n", config_.output, layout);
    return ExitCode::ok;
  }

 private:
  train::ExportConfig config_;
};

}  // namespace

std::unique_ptr<Command> make_export_command() { return std::make_unique<ExportCommand>(); }

}  // namespace dm::launch
