#include "checkpoints/vote.h"

#include <charconv>
#include <optional>

#include "core/error.h"
#include "core/process.h"

namespace dm::checkpoints {
namespace {

// What a ballot looks like: "+text", or "-code host\nmessage".
std::string ballot(ExitCode code, const std::string& message) {
  return fmt::format("-{} {}\n{}", static_cast<int>(code), process_identity().host, message);
}

[[noreturn]] void throw_for(const std::string& ballot, int64_t culprit, int64_t rank) {
  const size_t space = ballot.find(' '), line = ballot.find('\n');
  int code = static_cast<int>(ExitCode::internal);
  std::from_chars(ballot.data() + 1, ballot.data() + space, code);
  const std::string host = ballot.substr(space + 1, line - space - 1), message = ballot.substr(line + 1);
  if (culprit == rank) DM_FAIL(static_cast<ExitCode>(code), "{}", message);
  DM_FAIL(static_cast<ExitCode>(code), "rank {} on {}: {}", culprit, host, message);
}

}  // namespace

std::vector<std::string> vote(Collectives& group, const std::function<std::string()>& work) {
  std::string mine;
  try {
    mine = "+" + work();
  } catch (const Error& error) {
    mine = ballot(error.code(), error.what());
  } catch (const std::exception& error) {
    mine = ballot(ExitCode::internal, error.what());
  }
  std::vector<std::string> ballots = group.gather_text(mine);
  for (size_t r = 0; r < ballots.size(); ++r)
    if (ballots[r][0] != '+') throw_for(ballots[r], static_cast<int64_t>(r), group.rank());
  for (std::string& text : ballots) text.erase(0, 1);
  return ballots;
}

std::string vote_of_rank_0(Collectives& group, const std::function<std::string()>& work) {
  return vote(group, [&] { return group.rank() == 0 ? work() : std::string(); })[0];
}

}  // namespace dm::checkpoints
