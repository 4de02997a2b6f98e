#pragma once
// Who this process is, for messages and log files. Set once by dist::Environment; one process of one until
// then.

#include <cstdint>
#include <string>

namespace dm {

struct ProcessIdentity {
  int64_t rank = 0;
  int64_t world = 1;
  std::string host;
};

const ProcessIdentity& process_identity();
void set_process_identity(int64_t rank, int64_t world);

}  // namespace dm
