#include <fmt/format.h>

#include "data/prepare.h"
#include "launch/command.h"

namespace dm::launch {
namespace {

class PrepareCommand final : public Command {
 public:
  PrepareCommand() { table_.add("prepare", config_); }

  const char* name() const override { return "prepare"; }
  const char* summary() const override { return "turn text into checksummed token shards"; }
  const char* description() const override {
    return "Reads text files, folders, JSONL (a named field) or standard input (-), plain or .gz/.zst, in "
           "bounded memory, and writes\n"
           "OUTPUT/train and, with --heldout, OUTPUT/heldout. The same input gives the same bytes. An "
           "interrupted run leaves nothing.";
  }

  ExitCode run(const Invocation&) override {
    const data::PrepareResult result = data::prepare(config_);
    fmt::print("{}", result.summary());
    return ExitCode::ok;
  }

 private:
  data::PrepareConfig config_;
};

}  // namespace

std::unique_ptr<Command> make_prepare_command() { return std::make_unique<PrepareCommand>(); }

}  // namespace dm::launch
