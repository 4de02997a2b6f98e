#pragma once
// What must be the same on all ranks before anything is allocated or trained, compared once at the start.

#include <string>
#include <vector>

#include "core/collectives.h"
#include "core/exit_code.h"

namespace dm::dist {

/// One thing that ranks compare: "NCCL" "2.28.9". Long values (a config) are told apart line by line.
struct Fact {
  std::string name;
  std::string value;
  ExitCode code = ExitCode::usage;  // of the refusal where ranks differ in it
  std::string remedy;               // "start every rank with the same command"
};

/// All ranks of `group` (host memory) call it with facts of the same names. Where a value is not the same
/// everywhere, every rank throws the same Error: the fact, which ranks on which hosts differ from the
/// majority and in what, the remedy.
void require_agreement(Collectives& group, const std::vector<Fact>& facts);

}  // namespace dm::dist
